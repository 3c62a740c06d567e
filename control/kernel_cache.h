// SPDX-License-Identifier: Apache-2.0
// The kernel's links, routes and neighbours as rtnetlink(7) tells them, without conclusions: those are
// neighbours.cc's.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "contract/address.h"
#include "control/neighbours.h"

struct nlmsghdr;

namespace portico {

// One of the ways that a route leads.
struct RouteHop {
  int ifindex = 0;
  std::optional<Address> gateway;  // absent: on link
  bool is_usable = true;           // the kernel does not know it dead or without carrier

  bool operator==(const RouteHop&) const = default;
};

// A route of the main table.
struct KernelRoute {
  uint32_t metric = 0;         // the lowest wins
  uint32_t mtu = 0;            // bytes of IP packet; 0: the link's
  bool forbids = false;        // blackhole, unreachable, prohibit, throw
  std::vector<RouteHop> hops;  // more than one: multipath

  bool operator==(const KernelRoute&) const = default;
};

// By metric, ascending.
using RoutesByPrefix = std::map<Prefix, std::vector<KernelRoute>>;

struct Neighbour {
  uint16_t state = 0;             // NUD_*; 0: the kernel has forgotten it
  std::optional<MacAddress> mac;  // of a failed one: the last
  std::optional<std::chrono::steady_clock::time_point> failed_since;
};

struct NeighbourKey {
  int ifindex = 0;
  Address address{};

  auto operator<=>(const NeighbourKey&) const = default;
};

struct KernelCache {
  std::map<int, Link> links;
  std::map<int, std::chrono::steady_clock::time_point> up_since;  // of the links that are up
  RoutesByPrefix routes;
  std::set<Address> own;  // addresses of the host's own, but for loopback ones
  std::map<NeighbourKey, Neighbour> neighbours;

  // RTM_NEWLINK and RTM_DELLINK. True if a link changed.
  bool take_link(const nlmsghdr* message);
  // RTM_NEWNEIGH and RTM_DELNEIGH. True if a MAC in use may have changed.
  bool take_neighbour(const nlmsghdr* message);
  // What is known of a neighbour that the kernel has forgotten or failed to reach. `state`: its NUD_* now.
  void lose(Neighbour& neighbour, uint16_t state);
};

// Adds an RTM_NEWROUTE of a dump to `routes`, if it is of the main table.
void take_route(const nlmsghdr* message, RoutesByPrefix& routes);

// Adds an RTM_NEWROUTE of a dump to `own`, if it says of one address that it is the host's.
void take_own(const nlmsghdr* message, std::set<Address>& own);

}  // namespace portico
