// SPDX-License-Identifier: Apache-2.0
// What the kernel's driver of an interface tells of its RSS.
#include <linux/ethtool.h>

#include <algorithm>

#include "contract/ethtool_block.h"
#include "dataplane/rss.h"

namespace portico {

namespace {

constexpr uint64_t kFourTuple = RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 | RXH_L4_B_2_3;
// ETH_RSS_HASH_TOP of the kernel's <linux/ethtool.h>, which it does not export.
constexpr uint8_t kToeplitz = 1 << 0;

uint64_t hashed_fields(const std::string& interface, uint32_t flow_type) {
  EthtoolBlock<ethtool_rxnfc> fields(ETHTOOL_GRXFH, 0);
  fields.head()->flow_type = flow_type;
  return fields.exchange(interface) ? fields.head()->data : 0;
}

}  // namespace

std::optional<RssModel> rss_of_kernel(const KernelRss& rss) {
  if (rss.function != kToeplitz || rss.table.empty() || rss.key.size() < kRssKeyBytes) return std::nullopt;
  RssModel model;
  for (const uint32_t queue : rss.table) model.queues.push_back(static_cast<uint16_t>(queue));
  std::copy_n(rss.key.begin(), model.key.size(), model.key.begin());
  model.v4 = rss.fields_v4 == kFourTuple;
  model.v6 = rss.fields_v6 == kFourTuple;
  return model;
}

std::optional<RssModel> rss_of_interface(const std::string& interface) {
  EthtoolBlock<ethtool_rxfh> sizes(ETHTOOL_GRSSH, 0);
  if (!sizes.exchange(interface)) return std::nullopt;
  const uint32_t entries = sizes.head()->indir_size, key_bytes = sizes.head()->key_size;
  EthtoolBlock<ethtool_rxfh> all(ETHTOOL_GRSSH, entries * sizeof(uint32_t) + key_bytes);
  all.head()->indir_size = entries;
  all.head()->key_size = key_bytes;
  if (!all.exchange(interface)) return std::nullopt;
  const uint32_t* const table = all.head()->rss_config;
  const auto* const key = reinterpret_cast<const uint8_t*>(table + entries);
  return rss_of_kernel({.function = all.head()->hfunc,
                        .table = {table, table + entries},
                        .key = {key, key + key_bytes},
                        .fields_v4 = hashed_fields(interface, TCP_V4_FLOW),
                        .fields_v6 = hashed_fields(interface, TCP_V6_FLOW)});
}

}  // namespace portico
