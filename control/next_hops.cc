// SPDX-License-Identifier: Apache-2.0
#include "control/next_hops.h"

#include <algorithm>
#include <cstring>

#include "contract/validate.h"

namespace portico {
namespace {

constexpr uint32_t kEthernetMtu = 1500;

std::optional<uint16_t> port_of(const std::string& interface, const std::vector<std::string>& interfaces) {
  const auto it = std::find(interfaces.begin(), interfaces.end(), interface);
  if (it == interfaces.end()) return std::nullopt;
  return static_cast<uint16_t>(it - interfaces.begin());
}

bool is_unicast(const MacAddress& mac) {
  return (mac[0] & 1) == 0 && mac != MacAddress{};
}

NextHopRecord to_record(const NextHop& hop, uint16_t port) {
  NextHopRecord record{};
  record.address = hop.neighbour;
  std::memcpy(record.mac, hop.mac.data(), sizeof record.mac);
  std::memcpy(record.source_mac, hop.source_mac.data(), sizeof record.source_mac);
  record.port = port;
  record.vlan = hop.vlan;
  record.mtu = std::clamp(hop.mtu, kMinMtu, kMaxMtu);  // the loopback's is larger than any packet
  record.resolved = hop.resolved && is_unicast(hop.mac) && is_unicast(hop.source_mac) ? 1 : 0;
  return record;
}

NextHopRecord unresolved(const Address& address) {
  NextHopRecord record{};
  record.address = address;
  record.mtu = kEthernetMtu;
  return record;
}

}  // namespace

void NextHopTable::recover(const std::vector<NextHopRecord>& records) {
  records_ = records;
  used_in_.assign(records.size(), 0);
  index_.clear();
  for (size_t i = 0; i < records.size(); ++i)
    index_.emplace(Key{records[i].port, records[i].vlan, records[i].address}, static_cast<uint16_t>(i));
}

std::optional<uint16_t> NextHopTable::index_of(const Key& key) {
  if (const auto it = index_.find(key); it != index_.end()) return it->second;
  if (records_.size() < kMaxNextHops) {
    records_.emplace_back();
    used_in_.push_back(0);
    return index_[key] = static_cast<uint16_t>(records_.size() - 1);
  }
  // Full: the index that has been unused for longest.
  const auto oldest = std::min_element(used_in_.begin(), used_in_.end());
  if (*oldest == build_) return std::nullopt;
  const auto index = static_cast<uint16_t>(oldest - used_in_.begin());
  std::erase_if(index_, [&](const auto& entry) { return entry.second == index; });
  index_[key] = index;
  return index;
}

std::optional<uint16_t> NextHopTable::place(const NextHopRecord& record) {
  const auto index = index_of({record.port, record.vlan, record.address});
  if (!index) return std::nullopt;
  records_[*index] = record;
  used_in_[*index] = build_;
  return index;
}

// What a generation does not use must not look usable, and must not name a port that is gone.
void NextHopTable::retire_unused(size_t ports) {
  for (size_t i = 0; i < records_.size(); ++i) {
    if (used_in_[i] == build_) continue;
    records_[i].resolved = 0;
    if (records_[i].port < ports) continue;
    std::erase_if(index_, [&](const auto& entry) { return entry.second == i; });
    records_[i].port = 0;
  }
}

Routing NextHopTable::build(const KernelView& kernel, const std::vector<std::string>& interfaces,
                            const std::set<Address>& addresses) {
  ++build_;
  Routing routing;
  for (const Address& address : addresses) {
    const auto hop = kernel.next_hop(address);
    const auto port = hop ? port_of(hop->interface, interfaces) : std::nullopt;
    if (!hop) routing.warnings.push_back("no route to backend " + to_string(address) + "; check `ip route`");
    if (hop && !port)
      routing.warnings.push_back("the route to backend " + to_string(address) + " leaves by " +
                                 hop->interface + ", which is not one of dataplane.ports");
    const auto index = place(port ? to_record(*hop, *port) : unresolved(address));
    routing.hop_of[address] = index.value_or(kNone);
  }
  for (const PortRoute& route : kernel.routes()) {
    if (routing.routes.size() == kMaxRoutes) {
      routing.warnings.push_back(
          "more routes than the dataplane holds; clients behind the others are not reached");
      break;
    }
    RouteRecord record{};
    record.prefix = route.prefix.address;
    record.length = route.prefix.length;
    record.on_link = route.on_link ? 1 : 0;
    record.port = static_cast<uint16_t>(route.port);
    record.next_hop = route.hop ? place(to_record(*route.hop, record.port)).value_or(kNone) : kNone;
    if (record.next_hop == kNone && !route.on_link) continue;
    routing.routes.push_back(record);
  }
  for (size_t port = 0; port < interfaces.size(); ++port)
    for (const uint16_t vlan : kernel.vlans(interfaces[port]))
      routing.vlans.push_back({static_cast<uint16_t>(port), vlan});
  for (const Address& address : kernel.own ? kernel.own() : std::set<Address>{}) {
    if (routing.own.size() == kMaxOwnAddresses) {
      routing.warnings.push_back(
          "the host has more addresses than the dataplane holds; in mode dnat, what backends send to the "
          "others "
          "from a service's port is taken for replies to clients");
      break;
    }
    routing.own.push_back({address});
  }
  retire_unused(interfaces.size());
  routing.next_hops = records_;
  return routing;
}

}  // namespace portico
