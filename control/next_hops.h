// SPDX-License-Identifier: Apache-2.0
// The contract's next hops and routes out of what the kernel knows, with indexes that stay: a neighbour keeps
// its index while it is known, and an index that was given up is the last to be used for another one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "contract/layout.h"
#include "control/neighbours.h"

namespace portico {

// What the kernel says, asked through functions so that tests can answer.
struct KernelView {
  std::function<std::optional<NextHop>(const Address& destination)> next_hop;
  std::function<std::vector<PortRoute>()> routes;
  std::function<std::set<uint16_t>(const std::string& interface)> vlans;
  std::function<std::set<Address>()> own = {};  // the host's own addresses; none: not asked
};

// Next hops, routes, the VLANs of ports and the host's own addresses, of one generation.
struct Routing {
  std::vector<NextHopRecord> next_hops;
  std::vector<RouteRecord> routes;
  std::vector<VlanRecord> vlans;
  std::vector<OwnRecord> own;
  std::map<Address, uint16_t> hop_of;  // backend address -> index; all that were asked for
  std::vector<std::string> warnings;   // backends without a way through the dataplane's ports
};

class NextHopTable {
 public:
  // Takes over the indexes of a running table.
  void recover(const std::vector<NextHopRecord>& records);

  // The routing for backends at `addresses` through `interfaces`, whose position is the port's index. A
  // backend without a route gets an unresolved next hop: its packets are dropped and asked about.
  Routing build(const KernelView& kernel, const std::vector<std::string>& interfaces,
                const std::set<Address>& addresses);

 private:
  using Key = std::tuple<uint16_t, uint16_t, Address>;  // port, VLAN, neighbour

  std::optional<uint16_t> index_of(const Key& key);
  std::optional<uint16_t> place(const NextHopRecord& record);
  void retire_unused(size_t ports);

  std::vector<NextHopRecord> records_;  // index is the position; unused ones keep their address
  std::map<Key, uint16_t> index_;
  std::vector<uint64_t> used_in_;  // by index: the build that last used it
  uint64_t build_ = 0;
};

}  // namespace portico
