// SPDX-License-Identifier: Apache-2.0
// What the kernel's driver of an interface tells of its RSS.
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>

#include "contract/interface_facts.h"
#include "dataplane/ethtool_block.h"
#include "dataplane/rss.h"

namespace portico {

namespace {

constexpr uint64_t kFourTuple = RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 | RXH_L4_B_2_3;
constexpr uint8_t kToeplitz =
    1 << 0;  // ETH_RSS_HASH_TOP of the kernel's <linux/ethtool.h>, which it does not export

bool spreads_by_ports(const std::string& interface, uint32_t flow_type) {
  EthtoolBlock<ethtool_rxnfc> fields(ETHTOOL_GRXFH, 0);
  fields.head()->flow_type = flow_type;
  return fields.exchange(interface) && fields.head()->data == kFourTuple;
}

}  // namespace

std::optional<RssModel> rss_of_interface(const std::string& interface) {
  EthtoolBlock<ethtool_rxfh> sizes(ETHTOOL_GRSSH, 0);
  if (!sizes.exchange(interface)) return std::nullopt;
  const uint32_t entries = sizes.head()->indir_size, key_bytes = sizes.head()->key_size;
  if (entries == 0 || key_bytes < kRssKeyBytes) return std::nullopt;
  EthtoolBlock<ethtool_rxfh> all(ETHTOOL_GRSSH, entries * sizeof(uint32_t) + key_bytes);
  all.head()->indir_size = entries;
  all.head()->key_size = key_bytes;
  if (!all.exchange(interface) || all.head()->hfunc != kToeplitz) return std::nullopt;
  RssModel model;
  const uint32_t* const table = all.head()->rss_config;
  for (uint32_t i = 0; i < entries; ++i) model.queues.push_back(static_cast<uint16_t>(table[i]));
  std::memcpy(model.key.data(), table + entries, model.key.size());
  model.v4 = spreads_by_ports(interface, TCP_V4_FLOW);
  model.v6 = spreads_by_ports(interface, TCP_V6_FLOW);
  return model;
}

}  // namespace portico
