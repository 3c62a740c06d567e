// SPDX-License-Identifier: Apache-2.0
// The way to each backend: a route by a port of the dataplane, a neighbour that answers, room for its
// packets.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "contract/interface_facts.h"
#include "control/doctor/finding.h"
#include "control/neighbours.h"

namespace portico::doctor {

namespace {

using Clock = std::chrono::steady_clock;

// The kernel asks a neighbour once a second.
constexpr auto kPatience = std::chrono::milliseconds(2500);
// IPv4 and IPv6 headers in front of the packet; UDP and GUE with its options for further hops.
constexpr uint32_t kIpv4 = 20, kIpv6 = 40, kGue = 8 + 4;

struct Target {
  std::string name;  // "portals/portal-1"
  Address address{};
  uint32_t overhead = 0;        // bytes that tunnels put in front
  bool is_forwarded_to = true;  // false: only checks go there
};

uint32_t overhead_of(Mode mode, const Address& outer) {
  const uint32_t header = outer.is_v4() ? kIpv4 : kIpv6;
  return mode == Mode::dsr_ipip ? header : mode == Mode::dsr_gue ? header + kGue : 0;
}

std::vector<Target> targets_of(const Config& config) {
  std::vector<Target> targets;
  for (const PoolConfig& pool : config.pools) {
    const auto add = [&](const BackendConfig& backend, const Address& address, bool is_forwarded_to) {
      Target target{pool.name + "/" + backend.name, address, 0, is_forwarded_to};
      for (const ServiceConfig& service : config.services)
        if (service.pool == pool.name && is_forwarded_to)
          target.overhead = std::max(target.overhead, overhead_of(service.mode, address));
      targets.push_back(target);
    };
    for (const BackendConfig& backend : pool.backends) {
      if (backend.v4) add(backend, *backend.v4, true);
      if (backend.v6) add(backend, *backend.v6, true);
      if (backend.check_address) add(backend, *backend.check_address, false);
    }
  }
  return targets;
}

// Until all neighbours that lead there are resolved, or it is clear that some are not.
void resolve(Neighbours& kernel, const std::vector<Target>& targets) {
  std::set<Address> all;
  for (const Target& target : targets) all.insert(target.address);
  const auto is_resolved = [&](const Address& address) {
    const auto hop = kernel.next_hop(address);
    return !hop || hop->resolved;
  };
  kernel.use(all);
  const auto deadline = Clock::now() + kPatience;
  while (!std::all_of(all.begin(), all.end(), is_resolved)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return;
    kernel.tick();
    pollfd news{kernel.fd(), POLLIN, 0};
    poll(&news, 1, static_cast<int>(std::min<int64_t>(left, 500)));
    kernel.process();
  }
}

void judge(Examination& e, const Neighbours& kernel, const Target& target,
           const std::vector<std::string>& ports) {
  const std::string address = to_string(target.address);
  const auto hop = kernel.next_hop(target.address);
  if (!hop)
    return e.add(Severity::error, "neighbours", target.name, "no route leads to " + address,
                 "`ip route get " + address + "`; add the route, or mend the backend's address");
  if (target.is_forwarded_to && std::find(ports.begin(), ports.end(), hop->interface) == ports.end())
    return e.add(Severity::error, "neighbours", target.name,
                 fmt::format("the route to {} leaves by {}, which is no port of the dataplane", address,
                             hop->interface),
                 "`ip route get " + address + "`; mend the route, or add " + hop->interface +
                     " to `dataplane: ports`");
  if (!hop->resolved)
    return e.add(
        Severity::error, "neighbours", target.name,
        fmt::format("{} on {} does not answer {}: packets for {} are dropped", to_string(hop->neighbour),
                    hop->interface, hop->neighbour.is_v4() ? "ARP" : "neighbour solicitations", address),
        "is the host up, the cable in, the VLAN right? `ip neigh show " + to_string(hop->neighbour) + "`");
  const uint32_t front = 1500 + target.overhead;
  if (target.overhead != 0 && hop->mtu < front)
    e.add(Severity::notice, "mtu", target.name,
          fmt::format("tunnels add {} bytes, and the MTU toward {} is {}: clients' packets of more than {} "
                      "bytes do not fit",
                      target.overhead, address, hop->mtu, hop->mtu - target.overhead),
          fmt::format("MTU {} on the portals' network, or `clamp_mss` of portico-agent", front));
}

void check_cache_size(Examination& e, size_t targets) {
  for (const char* family : {"ipv4", "ipv6"}) {
    const std::string path = fmt::format("/proc/sys/net/{}/neigh/default/gc_thresh3", family);
    const auto limit = e.files.number(path);
    if (limit && *limit < 2 * targets)
      e.add(Severity::warning, "neighbours", fmt::format("net.{}.neigh.default.gc_thresh3", family),
            fmt::format("the kernel keeps {} neighbours, too few for {} backends and the clients", *limit,
                        targets),
            fmt::format("sysctl -w net.{}.neigh.default.gc_thresh3={}", family, 4 * targets));
  }
}

}  // namespace

void check_neighbours(Examination& e) {
  const std::vector<Target> targets = targets_of(e.config);
  check_cache_size(e, targets.size());
  // Asking for a neighbour takes CAP_NET_ADMIN.
  if (targets.empty() || !e.is_root) return;
  std::string failure;
  const auto kernel = Neighbours::open(failure);
  if (!kernel) return e.skipped.push_back("neighbours: " + failure);
  resolve(*kernel, targets);
  const std::vector<std::string> ports = port_interfaces(e.config);
  for (const Target& target : targets) judge(e, *kernel, target, ports);
}

}  // namespace portico::doctor
