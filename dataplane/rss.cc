// SPDX-License-Identifier: Apache-2.0
#include "dataplane/rss.h"

#include <rte_ethdev.h>
#include <xxhash.h>

#include <algorithm>
#include <array>

namespace portico {

namespace {

constexpr uint64_t kTcp =
    RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_IPV6_TCP_EX;
constexpr uint64_t kAny = kTcp | RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6;
// Tables of all sizes repeat what so many entries say, so that the low bits of a hash mean the same to all.
constexpr uint32_t kTablePeriod = 128;

using Table = std::vector<rte_eth_rss_reta_entry64>;

Table empty_table(uint16_t size) {
  Table table((size + RTE_ETH_RETA_GROUP_SIZE - 1u) / RTE_ETH_RETA_GROUP_SIZE);
  for (uint32_t i = 0; i < size; ++i)
    table[i / RTE_ETH_RETA_GROUP_SIZE].mask |= uint64_t{1} << i % RTE_ETH_RETA_GROUP_SIZE;
  return table;
}

// Both tables lead every hash to the same queue.
bool spread_alike(const RssModel& a, const RssModel& b) {
  const size_t size = std::max(a.queues.size(), b.queues.size());
  if (a.key != b.key || a.v4 != b.v4 || a.v6 != b.v6) return false;
  if (a.queues.empty() || b.queues.empty()) return false;
  for (size_t i = 0; i < size; ++i)
    if (a.queues[i % a.queues.size()] != b.queues[i % b.queues.size()]) return false;
  return true;
}

}  // namespace

std::vector<uint8_t> device_key(const rte_eth_dev_info& info, const RssKey& key) {
  std::vector<uint8_t> bytes(info.hash_key_size);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = key[i % key.size()];
  return bytes;
}

void ask_for_rss(const rte_eth_dev_info& info, std::vector<uint8_t>& key, rte_eth_conf& conf) {
  if ((info.flow_type_rss_offloads & kAny) == 0) return;
  conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
  conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & kAny;
  if (key.empty()) return;
  conf.rx_adv_conf.rss_conf.rss_key = key.data();
  conf.rx_adv_conf.rss_conf.rss_key_len = static_cast<uint8_t>(key.size());
}

bool set_rss_table(uint16_t port_id, const rte_eth_dev_info& info, uint32_t queues) {
  if (info.reta_size == 0) return false;
  Table table = empty_table(info.reta_size);
  for (uint32_t i = 0; i < info.reta_size; ++i)
    table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] =
        static_cast<uint16_t>(i % kTablePeriod % queues);
  return rte_eth_dev_rss_reta_update(port_id, table.data(), info.reta_size) == 0;
}

std::optional<RssModel> rss_of_device(uint16_t port_id, uint32_t queues) {
  rte_eth_dev_info info{};
  std::array<uint8_t, 256> key{};  // as large as its length, a byte, can say
  if (rte_eth_dev_info_get(port_id, &info) != 0 || info.hash_key_size < kRssKeyBytes) return std::nullopt;
  rte_eth_rss_conf conf{.rss_key = key.data(), .rss_key_len = info.hash_key_size, .rss_hf = 0};
  if (rte_eth_dev_rss_hash_conf_get(port_id, &conf) != 0) return std::nullopt;
  RssModel model;
  model.v4 = (conf.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_TCP) != 0;
  model.v6 = (conf.rss_hf & RTE_ETH_RSS_NONFRAG_IPV6_TCP) != 0;
  std::copy_n(key.begin(), model.key.size(), model.key.begin());
  Table table = empty_table(info.reta_size);
  if (info.reta_size == 0 || rte_eth_dev_rss_reta_query(port_id, table.data(), info.reta_size) != 0)
    return std::nullopt;
  for (uint32_t i = 0; i < info.reta_size; ++i) {
    const uint16_t queue = table[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
    if (queue >= queues) return std::nullopt;
    model.queues.push_back(queue);
  }
  return model;
}

uint64_t rss_digest(const std::vector<PortRss>& ports) {
  uint64_t digest = 1;
  const auto add = [&digest](const void* data, size_t size) {
    digest = XXH3_64bits_withSeed(data, size, digest);
  };
  for (const PortRss& port : ports) {
    const uint8_t families = port.model ? 4 | port.model->v4 << 1 | static_cast<int>(port.model->v6) : 0;
    add(&families, sizeof families);
    if (!port.model) continue;
    add(port.model->key.data(), port.model->key.size());
    add(port.model->queues.data(), port.model->queues.size() * sizeof(uint16_t));
  }
  return digest;
}

CommonRss common_rss(const std::vector<PortRss>& ports) {
  CommonRss common;
  const auto followers = [&ports](const RssModel& model) {
    return std::count_if(ports.begin(), ports.end(), [&model](const PortRss& port) {
      return port.model && spread_alike(*port.model, model);
    });
  };
  for (const PortRss& port : ports) {
    if (port.model && (!common.model || followers(*port.model) > followers(*common.model)))
      common.model = port.model;
  }
  for (const PortRss& port : ports)
    if (!port.model || !common.model || !spread_alike(*port.model, *common.model))
      common.others.push_back(port.name);
  return common;
}

}  // namespace portico
