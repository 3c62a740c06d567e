// SPDX-License-Identifier: Apache-2.0
// Follows the kernel's links, routes and neighbours by netlink, so that control can tell the dataplane where
// a packet goes next, and keeps the neighbours in use resolved.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "contract/address.h"

namespace portico {

using MacAddress = std::array<uint8_t, 6>;

// An interface. For an 802.1Q device `lower` is the ifindex below it, else 0.
struct Link {
  int ifindex = 0;
  std::string name;
  MacAddress mac{};
  uint32_t mtu = 0;  // bytes of IP packet
  bool up = false;   // administratively up and with carrier
  int lower = 0;
  uint16_t vlan = 0;      // 0: not a VLAN device, or one of priority tags, which are of no VLAN
  int other_tags_on = 0;  // of a device of another kind of tags (802.1ad): the ifindex below it, else 0

  bool operator==(const Link&) const = default;
};

// Where packets to some destination go.
struct NextHop {
  std::string interface;  // under a VLAN device: the interface below it
  int ifindex = 0;        // the device of the route, whose neighbour it is
  Address neighbour{};    // the gateway, or the destination itself
  bool on_link = false;   // the destination itself is the neighbour
  bool resolved = false;  // `mac` may be used
  MacAddress mac{}, source_mac{};
  uint32_t mtu = 0;   // bytes of IP packet
  uint16_t vlan = 0;  // 0: untagged

  auto operator<=>(const NextHop&) const = default;
};

// One longest-prefix route for the dataplane.
struct PortRoute {
  Prefix prefix;
  size_t port = 0;             // index into the interfaces asked for
  bool on_link = false;        // the destination itself is the neighbour
  std::optional<NextHop> hop;  // absent: a connected network, whose neighbours the dataplane asks for
};

// Not thread-safe. Owns one netlink socket for news and one for questions.
class Neighbours {
 public:
  using Clock = std::chrono::steady_clock;

  // Reads everything once. On failure: null, and `failure` says what went wrong and the remedy.
  static std::unique_ptr<Neighbours> open(std::string& failure);
  ~Neighbours();
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;

  // Readable when there is news; for an event loop. Never changes.
  int fd() const;
  // Takes in all news there is, without blocking. Lost news (ENOBUFS) makes it read everything again.
  void process();

  // Grows whenever anything that next_hop, own_addresses, vlans or routes_for_ports would answer may have
  // changed.
  uint64_t version() const { return version_; }

  // Grows whenever an address or a link of the host may have come, gone or changed.
  uint64_t addresses_version() const { return addresses_version_; }

  std::optional<Link> link(const std::string& name) const;

  // The host's own addresses on whatever interface, ours among them, but for loopback ones.
  std::set<Address> own_addresses() const;

  // The VLANs that the kernel takes frames of on `interface`: those it has 802.1Q devices for.
  std::set<uint16_t> vlans(const std::string& interface) const;

  // The names of those devices.
  std::vector<std::string> vlan_devices(const std::string& interface) const;

  // The names of the VLAN devices on it whose tags (802.1ad) the dataplane neither takes nor sends.
  std::vector<std::string> other_vlan_devices(const std::string& interface) const;

  // The way to `destination` by the main table: of the longest prefix's routes, by metric, the first hop that
  // has carrier, else the first. nullopt: no route (or one that forbids it), or the interface is gone.
  std::optional<NextHop> next_hop(const Address& destination) const;

  // The ifindex of the device that next_hop() leads to.
  std::optional<int> device_to(const Address& destination) const;

  // The name of a device's interface, of a VLAN device that of the one below; empty: there is none.
  std::string interface_of(int ifindex) const;

  // Reads the links anew, for is_up_since(): the kernel shows a lost carrier at once, but tells of it only up
  // to a second later.
  void look_at_links();

  // Whether a link is administratively up and has had carrier all the time since `since`, as far
  // as is known: one that was up when everything was first read counts as up for ever.
  bool is_up_since(int ifindex, Clock::time_point since) const;

  // The routes that leave by `interfaces` (or a VLAN on them), ascending (prefix, length), no two alike:
  // those by a gateway, connected networks without a hop, and a host route for each resolved on-link
  // neighbour in use. Of several routes to one prefix it is the best of those with carrier, else the best,
  // even if the kernel prefers one by an interface that is not asked for (a management port's default route).
  // Link-local networks are left out: they mean another thing on each port.
  std::vector<PortRoute> routes_for_ports(std::span<const std::string> interfaces) const;

  // Asks the kernel to resolve or confirm `neighbour` on the device `ifindex`. The answer comes as news.
  void probe(const Address& neighbour, int ifindex);

  // False while the kernel believes that `destination`, a neighbour, is there. True of what is behind a
  // gateway, whose own entry says nothing of it, and of what there is no way to.
  bool is_lost(const Address& destination) const;
  // verify() of such a neighbour.
  void verify(const Address& destination);

  // The destinations in use: the neighbours that lead to them are resolved now and kept so by tick().
  // Replaces the earlier set.
  void use(std::set<Address> destinations);

  // Gateways in use, by device: kept resolved like the neighbours that lead to destinations.
  void use_gateways(std::set<std::pair<int, Address>> gateways);
  const std::set<std::pair<int, Address>>& gateways() const;

  // What the kernel knows of a neighbour on the device `ifindex`.
  enum class Presence : uint8_t {
    unknown,  // not confirmed lately, being asked, or set by hand
    there,    // it has answered lately
    lost,     // it was asked in vain
  };
  Presence presence(const Address& neighbour, int ifindex) const;
  // Has the kernel confirm it now, though it believes it to be there; unless it is about to.
  void verify(const Address& neighbour, int ifindex);

  // Call about once a second. Probes neighbours in use that are not known to be reachable, and forgets the
  // last MACs of those that failed kKeepFailed ago.
  void tick(Clock::time_point now = Clock::now());

  // A failed neighbour's last MAC stays in use for this long: a portal that restarts its network comes back
  // with the same one.
  static constexpr std::chrono::seconds kKeepFailed{30};

 private:
  struct Cache;
  explicit Neighbours(std::unique_ptr<Cache> cache);
  std::unique_ptr<Cache> cache_;
  uint64_t version_ = 1;
  uint64_t addresses_version_ = 1;
};

}  // namespace portico
