// SPDX-License-Identifier: Apache-2.0
#include "control/neighbours.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "control/kernel_cache.h"
#include "control/netlink.h"

namespace portico {

namespace {

constexpr uint32_t kGroups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE |
                             RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
// A dump that meets a change is asked for again, this often at most.
constexpr int kDumpAttempts = 10;
// Larger tables (a BGP feed) are read again by tick() only, not at every change.
constexpr size_t kSmallTable = 4096;
// Known to be there, or about to be known without our help.
constexpr uint16_t kNeedsNoProbe =
    NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_DELAY | NUD_PROBE | NUD_INCOMPLETE;

// The network of the first `length` bits of the address's own family.
Prefix network(const Address& address, unsigned length) {
  Prefix prefix{address, static_cast<uint8_t>(length)};
  for (unsigned bit = length + (address.is_v4() ? 96 : 0); bit < 128; ++bit)
    prefix.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> (bit % 8)));
  return prefix;
}

Prefix host(const Address& address) {
  return network(address, address.is_v4() ? 32 : 128);
}

bool is_link_local(const Prefix& prefix) {
  static const Prefix kLinkLocal = *Prefix::parse("fe80::/10");
  return prefix.length >= kLinkLocal.length && kLinkLocal.contains(prefix.address);
}

}  // namespace

struct Neighbours::Cache {
  NetlinkSocket news, questions;
  KernelCache kernel;
  std::set<Address> in_use;
  std::set<std::pair<int, Address>> gateways;
  bool routes_are_stale = false, all_is_stale = false;
  bool addresses_are_news = false;

  Cache(NetlinkSocket for_news, NetlinkSocket for_questions)
      : news(std::move(for_news)), questions(std::move(for_questions)) {}

  int dump(uint16_t type, const NetlinkHandler& handler);
  int read_links();
  int read_neighbours();
  bool read_routes();
  bool take(const nlmsghdr* message);
  std::optional<Link> link(const std::string& name) const;
  std::vector<std::string> devices_on(const std::string& interface, int Link::*below) const;
  // A route and one of its hops, whose device exists.
  struct Way {
    const KernelRoute* route = nullptr;
    const RouteHop* hop = nullptr;
    explicit operator bool() const { return hop != nullptr; }
  };

  Way best_way(const std::vector<KernelRoute>& alternatives,
               const std::function<bool(const RouteHop&)>& is_wanted) const;
  Way way_to(const Address& destination) const;
  NextHop hop_of(const Way& way, const Address& destination) const;
  const std::string& interface_of(int ifindex) const;
  std::optional<NextHop> next_hop(const Address& destination) const;
  std::optional<PortRoute> port_route(const Prefix& prefix, const std::vector<KernelRoute>& alternatives,
                                      std::span<const std::string> interfaces) const;
  void probe(const Address& neighbour, int ifindex);
  void probe_in_use();
  void probe_if_needed(const Address& neighbour, int ifindex);
  bool forget_failed(Clock::time_point now);
};

// Reading the kernel's tables.

int Neighbours::Cache::dump(uint16_t type, const NetlinkHandler& handler) {
  NetlinkRequest request(type, NLM_F_DUMP);
  request.fixed<rtgenmsg>()->rtgen_family = AF_UNSPEC;
  return questions.request(request, handler);
}

int Neighbours::Cache::read_links() {
  KernelCache fresh;
  const int error = dump(RTM_GETLINK, [&](const nlmsghdr* message) { fresh.take_link(message); });
  if (error != 0) return error;
  kernel.up_since =
      std::move(fresh.up_since);  // since now: what was lost may have told of a link that was down
  kernel.links = std::move(fresh.links);
  return 0;
}

int Neighbours::Cache::read_neighbours() {
  KernelCache fresh;
  const int error = dump(RTM_GETNEIGH, [&](const nlmsghdr* message) { fresh.take_neighbour(message); });
  if (error != 0) return error;
  // MACs that the kernel no longer has stay for a while, as when it tells so.
  for (auto& [key, neighbour] : kernel.neighbours) {
    if (!neighbour.mac || !kernel.links.contains(key.ifindex)) continue;
    const auto [now, is_gone] = fresh.neighbours.try_emplace(key, neighbour);
    if (!is_gone && now->second.mac) continue;
    const uint16_t state = is_gone ? uint16_t{NUD_NONE} : now->second.state;
    now->second = neighbour;
    fresh.lose(now->second, state);
  }
  kernel.neighbours = std::move(fresh.neighbours);
  return 0;
}

// True if the routes have changed. They are read whole: the kernel does not tell of all that it removes (IPv4
// routes of an interface that goes down) and its news about multipath routes are differences of its own kind.
bool Neighbours::Cache::read_routes() {
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    RoutesByPrefix fresh;
    std::set<Address> own;
    const int error = dump(RTM_GETROUTE, [&](const nlmsghdr* message) {
      take_route(message, fresh);
      take_own(message, own);
    });
    if (error == EINTR) continue;
    if (error != 0) break;
    routes_are_stale = false;
    const bool changed = fresh != kernel.routes || own != kernel.own;
    kernel.routes = std::move(fresh);
    kernel.own = std::move(own);
    return changed;
  }
  return false;  // still stale: tick() tries again
}

// True if something that next_hop would say may have changed.
bool Neighbours::Cache::take(const nlmsghdr* message) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      const bool changed = kernel.take_link(message);
      // Even if all is as it was: a link shows carrier at once, and its routes are marked a moment later,
      // which only another message about the link tells.
      routes_are_stale = true;
      addresses_are_news |= changed;
      return changed;
    }
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return kernel.take_neighbour(message);
    default:  // routes, and addresses, which bring and take routes
      addresses_are_news |= message->nlmsg_type == RTM_NEWADDR || message->nlmsg_type == RTM_DELADDR;
      routes_are_stale = true;
      return false;
  }
}

// Conclusions.

std::optional<Link> Neighbours::Cache::link(const std::string& name) const {
  for (const auto& [ifindex, link] : kernel.links) {
    if (link.name == name) return link;
  }
  return std::nullopt;
}

// The names of the links for which `below` is the interface's ifindex.
std::vector<std::string> Neighbours::Cache::devices_on(const std::string& interface, int Link::*below) const {
  std::vector<std::string> names;
  const auto lower = link(interface);
  if (!lower) return names;
  for (const auto& [ifindex, link] : kernel.links)
    if (link.*below == lower->ifindex) names.push_back(link.name);
  return names;
}

// The best of the routes to one prefix, by metric: the first with a wanted hop that has carrier, else the
// first with one, since a port whose cable is plugged in again, or whose dataplane is back, shall forward at
// once by what was known. Nothing lies behind a route that forbids.
Neighbours::Cache::Way Neighbours::Cache::best_way(
    const std::vector<KernelRoute>& alternatives,
    const std::function<bool(const RouteHop&)>& is_wanted) const {
  Way without_carrier;
  for (const KernelRoute& route : alternatives) {
    if (route.forbids) break;
    for (const RouteHop& hop : route.hops) {
      if (!kernel.links.contains(hop.ifindex) || !is_wanted(hop)) continue;
      if (hop.is_usable) return {&route, &hop};
      if (!without_carrier) without_carrier = {&route, &hop};
    }
  }
  return without_carrier;
}

Neighbours::Cache::Way Neighbours::Cache::way_to(const Address& destination) const {
  for (int length = destination.is_v4() ? 32 : 128; length >= 0; --length) {
    const auto found = kernel.routes.find(network(destination, static_cast<unsigned>(length)));
    if (found != kernel.routes.end()) return best_way(found->second, [](const RouteHop&) { return true; });
  }
  return {};
}

// Of a link that exists.
const std::string& Neighbours::Cache::interface_of(int ifindex) const {
  const Link& device = kernel.links.at(ifindex);
  const auto below = kernel.links.find(device.lower);
  return below == kernel.links.end() ? device.name : below->second.name;
}

NextHop Neighbours::Cache::hop_of(const Way& way, const Address& destination) const {
  const Link& device = kernel.links.at(way.hop->ifindex);
  NextHop hop;
  hop.interface = interface_of(device.ifindex);
  hop.ifindex = device.ifindex;
  hop.neighbour = way.hop->gateway.value_or(destination);
  hop.on_link = !way.hop->gateway;
  hop.source_mac = device.mac;
  hop.mtu = way.route->mtu != 0 ? std::min(way.route->mtu, device.mtu) : device.mtu;
  if (kernel.links.contains(device.lower)) hop.vlan = device.vlan;
  const auto neighbour = kernel.neighbours.find({device.ifindex, hop.neighbour});
  if (neighbour != kernel.neighbours.end() && neighbour->second.mac) {
    hop.resolved = true;
    hop.mac = *neighbour->second.mac;
  }
  return hop;
}

std::optional<NextHop> Neighbours::Cache::next_hop(const Address& destination) const {
  const Way way = way_to(destination);
  return way ? std::optional(hop_of(way, destination)) : std::nullopt;
}

std::optional<PortRoute> Neighbours::Cache::port_route(const Prefix& prefix,
                                                       const std::vector<KernelRoute>& alternatives,
                                                       std::span<const std::string> interfaces) const {
  const Way way = best_way(alternatives, [&](const RouteHop& hop) {
    return std::find(interfaces.begin(), interfaces.end(), interface_of(hop.ifindex)) != interfaces.end();
  });
  if (!way) return std::nullopt;
  NextHop hop = hop_of(way, prefix.address);
  PortRoute result;
  result.prefix = prefix;
  result.port = static_cast<size_t>(std::find(interfaces.begin(), interfaces.end(), hop.interface) -
                                    interfaces.begin());
  result.on_link = hop.on_link;
  if (!hop.on_link) result.hop = std::move(hop);
  return result;
}

// Keeping neighbours resolved.

void Neighbours::Cache::probe(const Address& neighbour, int ifindex) {
  NetlinkRequest request(RTM_NEWNEIGH, NLM_F_CREATE);
  auto* part = request.fixed<ndmsg>();
  part->ndm_family = address_family(neighbour);
  part->ndm_ifindex = ifindex;
  part->ndm_flags = NTF_USE;  // as if the kernel had a packet to send
  request.put(NDA_DST, neighbour);
  questions.request(request);  // where it cannot be asked (link down), the entry tells
}

void Neighbours::Cache::probe_in_use() {
  for (const Address& destination : in_use) {
    const auto hop = next_hop(destination);
    if (hop) probe_if_needed(hop->neighbour, hop->ifindex);
  }
  for (const auto& [ifindex, gateway] : gateways) probe_if_needed(gateway, ifindex);
}

void Neighbours::Cache::probe_if_needed(const Address& neighbour, int ifindex) {
  const auto known = kernel.neighbours.find({ifindex, neighbour});
  if (known == kernel.neighbours.end() || (known->second.state & kNeedsNoProbe) == 0)
    probe(neighbour, ifindex);
}

// True if a MAC is no longer in use.
bool Neighbours::Cache::forget_failed(Clock::time_point now) {
  bool changed = false;
  for (auto entry = kernel.neighbours.begin(); entry != kernel.neighbours.end();) {
    Neighbour& neighbour = entry->second;
    if (neighbour.failed_since && now - *neighbour.failed_since >= kKeepFailed) {
      neighbour.mac.reset();
      neighbour.failed_since.reset();
      changed = true;
    }
    const bool is_forgotten = neighbour.state == NUD_NONE && !neighbour.mac;
    entry = is_forgotten ? kernel.neighbours.erase(entry) : std::next(entry);
  }
  return changed;
}

// The interface.

Neighbours::Neighbours(std::unique_ptr<Cache> cache) : cache_(std::move(cache)) {}
Neighbours::~Neighbours() = default;

std::unique_ptr<Neighbours> Neighbours::open(std::string& failure) {
  // News first: what changes while the tables are read arrives as news.
  auto news = NetlinkSocket::open(kGroups);
  auto questions = NetlinkSocket::open(0);
  if (!news || !questions) {
    failure = std::string("cannot open a netlink socket: ") + std::strerror(errno) +
              "; the service unit must allow AF_NETLINK";
    return nullptr;
  }
  auto cache = std::make_unique<Cache>(std::move(*news), std::move(*questions));
  cache->all_is_stale = true;
  std::unique_ptr<Neighbours> result(new Neighbours(std::move(cache)));
  result->process();
  if (result->cache_->all_is_stale) {
    failure = "cannot read links, routes and neighbours by netlink; see 'ip route' and 'ip neighbour'";
    return nullptr;
  }
  for (auto& [ifindex, since] : result->cache_->kernel.up_since) since = Clock::time_point::min();
  return result;
}

int Neighbours::fd() const {
  return cache_->news.fd();
}

void Neighbours::process() {
  Cache& cache = *cache_;
  bool changed = false;
  if (!cache.news.receive_news([&](const nlmsghdr* message) { changed |= cache.take(message); }))
    cache.all_is_stale = true;
  if (cache.all_is_stale) {
    changed = true;
    cache.routes_are_stale = cache.addresses_are_news = true;
    for (int attempt = 0; attempt < kDumpAttempts && cache.all_is_stale; ++attempt)
      cache.all_is_stale = cache.read_links() != 0 || cache.read_neighbours() != 0;
  }
  if (cache.routes_are_stale && cache.kernel.routes.size() <= kSmallTable) changed |= cache.read_routes();
  if (changed) ++version_;
  if (std::exchange(cache.addresses_are_news, false)) ++addresses_version_;
}

std::optional<Link> Neighbours::link(const std::string& name) const {
  return cache_->link(name);
}

std::set<Address> Neighbours::own_addresses() const {
  return cache_->kernel.own;
}

std::set<uint16_t> Neighbours::vlans(const std::string& interface) const {
  std::set<uint16_t> vlans;
  const auto below = link(interface);
  if (!below) return vlans;
  for (const auto& [ifindex, link] : cache_->kernel.links)
    if (link.lower == below->ifindex && link.vlan != 0) vlans.insert(link.vlan);
  return vlans;
}

std::vector<std::string> Neighbours::vlan_devices(const std::string& interface) const {
  return cache_->devices_on(interface, &Link::lower);
}

std::vector<std::string> Neighbours::other_vlan_devices(const std::string& interface) const {
  return cache_->devices_on(interface, &Link::other_tags_on);
}

std::optional<int> Neighbours::device_to(const Address& destination) const {
  const auto way = cache_->way_to(destination);
  return way ? std::optional(way.hop->ifindex) : std::nullopt;
}

std::string Neighbours::interface_of(int ifindex) const {
  return cache_->kernel.links.contains(ifindex) ? cache_->interface_of(ifindex) : "";
}

void Neighbours::look_at_links() {
  bool changed = false;
  cache_->dump(RTM_GETLINK, [&](const nlmsghdr* message) { changed |= cache_->kernel.take_link(message); });
  if (!changed) return;
  cache_->routes_are_stale = cache_->addresses_are_news = true;
  ++version_;
}

bool Neighbours::is_up_since(int ifindex, Clock::time_point since) const {
  const auto up = cache_->kernel.up_since.find(ifindex);
  return up != cache_->kernel.up_since.end() && up->second <= since;
}

std::optional<NextHop> Neighbours::next_hop(const Address& destination) const {
  return cache_->next_hop(destination);
}

std::vector<PortRoute> Neighbours::routes_for_ports(std::span<const std::string> interfaces) const {
  std::map<Prefix, PortRoute> routes;
  for (const auto& [prefix, alternatives] : cache_->kernel.routes) {
    if (is_link_local(prefix)) continue;
    if (auto found = cache_->port_route(prefix, alternatives, interfaces))
      routes.emplace(prefix, std::move(*found));
  }
  for (const Address& destination : cache_->in_use) {
    auto hop = next_hop(destination);
    if (!hop || !hop->on_link || !hop->resolved) continue;
    const auto port = std::find(interfaces.begin(), interfaces.end(), hop->interface);
    if (port == interfaces.end()) continue;
    const auto index = static_cast<size_t>(port - interfaces.begin());
    routes[host(destination)] = {host(destination), index, true, std::move(hop)};
  }
  std::vector<PortRoute> result;
  result.reserve(routes.size());
  for (auto& [prefix, route] : routes) result.push_back(std::move(route));
  return result;
}

void Neighbours::probe(const Address& neighbour, int ifindex) {
  cache_->probe(neighbour, ifindex);
}

void Neighbours::use(std::set<Address> destinations) {
  if (destinations == cache_->in_use) return;
  cache_->in_use = std::move(destinations);
  ++version_;  // host routes come and go
  cache_->probe_in_use();
}

void Neighbours::use_gateways(std::set<std::pair<int, Address>> gateways) {
  if (gateways == cache_->gateways) return;
  cache_->gateways = std::move(gateways);
  cache_->probe_in_use();
}

const std::set<std::pair<int, Address>>& Neighbours::gateways() const {
  return cache_->gateways;
}

Neighbours::Presence Neighbours::presence(const Address& neighbour, int ifindex) const {
  const auto known = cache_->kernel.neighbours.find({ifindex, neighbour});
  if (known == cache_->kernel.neighbours.end()) return Presence::unknown;
  if ((known->second.state & NUD_REACHABLE) != 0) return Presence::there;
  return (known->second.state & NUD_FAILED) != 0 ? Presence::lost : Presence::unknown;
}

bool Neighbours::is_lost(const Address& destination) const {
  const auto hop = next_hop(destination);
  if (!hop || !hop->on_link) return true;
  const auto known = cache_->kernel.neighbours.find({hop->ifindex, hop->neighbour});
  return known == cache_->kernel.neighbours.end() ||
         (known->second.state &
          (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)) == 0;
}

void Neighbours::verify(const Address& destination) {
  const auto hop = next_hop(destination);
  if (hop && hop->on_link) verify(hop->neighbour, hop->ifindex);
}

void Neighbours::verify(const Address& neighbour, int ifindex) {
  const auto known = cache_->kernel.neighbours.find({ifindex, neighbour});
  if (known == cache_->kernel.neighbours.end()) return probe(neighbour, ifindex);
  if ((known->second.state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY)) == 0) return;
  NetlinkRequest request(RTM_NEWNEIGH, NLM_F_REPLACE);
  auto* part = request.fixed<ndmsg>();
  part->ndm_family = address_family(neighbour);
  part->ndm_ifindex = ifindex;
  part->ndm_state = NUD_PROBE;
  request.put(NDA_DST, neighbour);
  cache_->questions.request(request);
}

void Neighbours::tick(Clock::time_point now) {
  bool changed = cache_->routes_are_stale && cache_->read_routes();
  changed |= cache_->forget_failed(now);
  cache_->probe_in_use();
  if (changed) ++version_;
}

}  // namespace portico
