// SPDX-License-Identifier: Apache-2.0
// How the ports spread what arrives over their queues: set where a driver takes it, read where it tells.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/port_plan.h"
#include "dataplane/reply_spread.h"

struct rte_eth_conf;
struct rte_eth_dev_info;

namespace portico {

// What a device is asked for: hash TCP by addresses and ports, the rest by addresses, with this key, which
// must live until the device is configured. Does nothing where the device has no RSS. `key` has as many bytes
// as the device wants.
void ask_for_rss(const rte_eth_dev_info& info, std::vector<uint8_t>& key, rte_eth_conf& conf);
// The device's key, as long as it wants one, from ours.
std::vector<uint8_t> device_key(const rte_eth_dev_info& info, const RssKey& key);

// Spreads over queues 0 to `queues` - 1 in turn, and the same on all ports, however large their tables.
// Whether the driver took it.
bool set_rss_table(uint16_t port_id, const rte_eth_dev_info& info, uint32_t queues);

// What a started DPDK port says; nothing if it has no RSS or does not tell.
std::optional<RssModel> rss_of_device(uint16_t port_id, uint32_t queues);
// What the kernel's driver of an interface says (ETHTOOL_GRSSH, ETHTOOL_GRXFH), without rights.
std::optional<RssModel> rss_of_interface(const std::string& interface);
// The same, as far as it has been read.
struct KernelRss {
  uint8_t function;             // bits of ETH_RSS_HASH_*
  std::vector<uint32_t> table;  // queues
  std::vector<uint8_t> key;
  uint64_t fields_v4, fields_v6;  // RXH_* that count for TCP
};
std::optional<RssModel> rss_of_kernel(const KernelRss& rss);

struct PortRss {
  std::string name;               // of the port
  std::optional<RssModel> model;  // nothing: it has no RSS, or does not tell
};

// One number for what decides which queue a packet of a known connection reaches. Equal numbers: nothing
// moved.
uint64_t rss_digest(const std::vector<PortRss>& ports);

// The model by which workers choose NAT ports: that of most ports. Replies that arrive on the `others` are
// handed over.
struct CommonRss {
  std::optional<RssModel> model;
  std::vector<std::string> others;
};
CommonRss common_rss(const std::vector<PortRss>& ports);

}  // namespace portico
