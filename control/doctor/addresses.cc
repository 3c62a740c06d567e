// SPDX-License-Identifier: Apache-2.0
// Whether another station speaks for a VIP or NAT address: a portal in `dsr-l2` whose ARP settings are not
// right, or a host with the same address.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>

#include "contract/interface_facts.h"
#include "control/doctor/finding.h"
#include "control/doctor/who_answers.h"

namespace portico::doctor {

namespace {

// Stations of a healthy network answer within a few milliseconds.
constexpr std::chrono::milliseconds kPatience{600};

std::vector<Address> addresses_of(const Config& config) {
  std::set<Address> all(config.nat.addresses.begin(), config.nat.addresses.end());
  for (const auto& service : config.services)
    for (const Endpoint& endpoint : service.listen) all.insert(endpoint.address);
  return {all.begin(), all.end()};
}

std::string text_of(const MacAddress& mac) {
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4],
                     mac[5]);
}

// Whose MAC address it is, by the kernel's neighbours.
std::map<MacAddress, std::string> backends_by_mac(const Config& config) {
  std::map<MacAddress, std::string> names;
  std::string failure;
  const auto kernel = Neighbours::open(failure);
  if (!kernel) return names;
  for (const PoolConfig& pool : config.pools)
    for (const BackendConfig& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6}) {
        const auto hop = address ? kernel->next_hop(*address) : std::nullopt;
        if (hop && hop->resolved && hop->on_link) names[hop->mac] = backend.name;
      }
  return names;
}

void report(Examination& e, const std::string& interface, const Answer& answer, const std::string& backend) {
  const std::string address = to_string(answer.address), mac = text_of(answer.mac);
  const std::string who = backend.empty() ? mac : fmt::format("{} ({})", backend, mac);
  const std::string what =
      answer.is_answer
          ? fmt::format("{} answers {} for {} on {}", who,
                        answer.address.is_v4() ? "ARP" : "neighbour solicitations", address, interface)
          : fmt::format("{} asks for others on {} as {}", who, interface, address);
  if (backend.empty())
    return e.add(Severity::error, "addresses", address,
                 what + ": a second host has the address, and clients reach one or the other",
                 "find it at the switch by its MAC address, and take the address from it; another balancer "
                 "of the same services must not be active on the same network");
  e.add(Severity::error, "addresses", backend, what + ": clients go past the balancer to it",
        answer.address.is_v4()
            ? "on it: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, with the "
              "VIP on lo (docs/portals.md)"
            : "on it: the VIP belongs on lo, not on an interface of this network (docs/portals.md)");
}

}  // namespace

void check_addresses(Examination& e) {
  const std::vector<Address> addresses = addresses_of(e.config);
  if (addresses.empty() || !e.is_root) return;
  const auto backends = backends_by_mac(e.config);
  std::set<Answer> told;
  for (const std::string& interface : port_interfaces(e.config)) {
    if (!interface_facts(interface).is_up) continue;
    std::set<Answer> answers;
    if (!ask_who_has(interface, addresses, kPatience, answers))
      e.skipped.push_back(
          fmt::format("addresses: {} cannot be asked on ({})", interface, std::strerror(errno)));
    for (const Answer& answer : answers) {
      const auto backend = backends.find(answer.mac);
      if (told.insert(answer).second)
        report(e, interface, answer, backend == backends.end() ? "" : backend->second);
    }
  }
}

}  // namespace portico::doctor
