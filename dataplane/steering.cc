// SPDX-License-Identifier: Apache-2.0
#include "dataplane/steering.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "bpf/steer_object.h"
#include "contract/limits.h"
#include "contract/reply_endpoints.h"
#include "dataplane/xdp_program.h"

namespace portico {

// New entries go in before stale ones leave: two generations at once.
static_assert(STEER_MAX_LISTENERS >= 2 * kMaxListeners && STEER_MAX_NAT >= 2 * kMaxNatAddresses &&
              STEER_MAX_DNAT >= 2 * kMaxReplyEndpoints && STEER_MAX_OWN >= 2 * kMaxOwnAddresses);

namespace {

// What the maps hold when they are equal to a snapshot.
struct Wanted {
  SteerEntries listeners, nat, tunnels, addresses, dnat, own;
};

Wanted wanted_by(const Snapshot& snapshot) {
  Wanted wanted;
  for (const ListenerRecord& listener : snapshot.listeners->records<ListenerRecord>()) {
    wanted.listeners[steer_key(listener.address, listener.port)] = 1;
    wanted.addresses[steer_key(listener.address)] = 1;
  }
  for (const NatRecord& nat : snapshot.nat->records<NatRecord>()) {
    const uint32_t range = steer_range_value(nat.first_port, nat.last_port);
    const auto [entry, is_new] = wanted.nat.try_emplace(steer_key(nat.address), range);
    if (!is_new) entry->second = widest_range(entry->second, range);
    wanted.addresses[steer_key(nat.address)] = 1;
  }
  for (const ReplyEndpoint& e : reply_endpoints(snapshot)) wanted.dnat[steer_key(e.address, e.port)] = 1;
  for (const OwnRecord& own : snapshot.own->records<OwnRecord>()) wanted.own[steer_key(own.address)] = 1;
  const SettingsRecord& settings = snapshot.settings->records<SettingsRecord>()[0];
  if (!settings.tunnel_source_v4.is_none())
    wanted.tunnels[steer_tunnel_key(settings.tunnel_source_v4, settings.tunnel_length_v4)] = 1;
  if (!settings.tunnel_source_v6.is_none())
    wanted.tunnels[steer_tunnel_key(settings.tunnel_source_v6, settings.tunnel_length_v6)] = 1;
  return wanted;
}

int index_of(const std::string& interface) {
  return static_cast<int>(if_nametoindex(interface.c_str()));
}

std::string no_interface(const std::string& interface) {
  return "there is no interface '" + interface + "': see 'ip link' for the names";
}

// Two ranges of an address in use one after the other are both steered until the first is stale.
Steering::Failure put_ranges(SteerMap& map, const SteerEntries& wanted) {
  for (const auto& [key, range] : wanted) {
    const auto installed = map.installed().find(key);
    const uint32_t both = installed == map.installed().end() ? range : widest_range(installed->second, range);
    if (auto failure = map.put(key, both)) return failure;
  }
  return std::nullopt;
}

}  // namespace

Steering::Failure Steering::write_object(const std::string& directory, std::string& path) {
  path = directory + "/steer.bpf.o";
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return "cannot write " + path + ": " + std::strerror(errno);
  const bool written = std::fwrite(kSteerObject, 1, kSteerObjectSize, file) == kSteerObjectSize;
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed) return "cannot write " + path + ": " + std::strerror(errno);
  return std::nullopt;
}

Steering::Failure Steering::detach_orphan(const std::string& interface) {
  const int ifindex = index_of(interface);
  if (ifindex == 0) return no_interface(interface);
  std::string failure;
  const auto program = attached_program(ifindex, failure);
  if (!failure.empty()) return interface + ": " + failure + " (root or CAP_BPF and CAP_NET_ADMIN are needed)";
  if (!program) return std::nullopt;
  if (!program->is_steering())
    return interface + " already has the XDP program '" + program->name +
           "', which is not Portico's: stop what uses it, or remove it with 'ip link set dev " + interface +
           " xdp off'";

  if (const uint32_t owner = running_owner(*program); owner != 0)
    return interface + " is in use by the dataplane with process id " + std::to_string(owner) +
           ": stop that one first, or give this one other ports";
  // The dead one's program may go by itself at any time, with its last descriptor.
  if (!detach_program(*program) && errno != ENOENT)
    return interface + ": cannot detach the steering program of a dead dataplane: " + std::strerror(errno);
  return std::nullopt;
}

Steering::Failure Steering::attach(const std::string& interface) {
  Interface port;
  port.name = interface;
  port.ifindex = index_of(interface);
  if (port.ifindex == 0) return no_interface(interface);
  std::string failure;
  const auto program = attached_program(port.ifindex, failure);
  if (!failure.empty()) return interface + ": " + failure;
  if (!program || !program->is_steering())
    return interface +
           " does not run the steering program: its port must be started with xdp_prog=PATH first";

  port.program_id = program->id;
  port.listeners = SteerMap(map_of_program(*program, STEER_LISTENERS_MAP), STEER_LISTENERS_MAP);
  port.nat = SteerMap(map_of_program(*program, STEER_NAT_MAP), STEER_NAT_MAP);
  port.tunnels = SteerMap(map_of_program(*program, STEER_TUNNELS_MAP), STEER_TUNNELS_MAP);
  port.addresses = SteerMap(map_of_program(*program, STEER_ADDRESSES_MAP), STEER_ADDRESSES_MAP);
  port.dnat = SteerMap(map_of_program(*program, STEER_DNAT_MAP), STEER_DNAT_MAP);
  port.own = SteerMap(map_of_program(*program, STEER_OWN_MAP), STEER_OWN_MAP);
  port.verdicts = map_of_program(*program, STEER_VERDICTS_MAP);
  if (!port.listeners || !port.nat || !port.tunnels || !port.addresses || !port.dnat || !port.own ||
      !port.verdicts)
    return interface + " runs the steering program of another version: stop its dataplane and start again";
  if (!sign_program(*program))
    return interface + ": cannot sign the steering program: " + std::strerror(errno);
  interfaces_.push_back(std::move(port));
  return std::nullopt;
}

Steering::Failure Steering::add_new(const Snapshot& snapshot) {
  const Wanted wanted = wanted_by(snapshot);
  Failure first;
  for (Interface& port : interfaces_) {
    // Addresses first: a fragment is never taken for a packet without an owner, nor a check's answer for a
    // client's.
    for (auto& failure : {port.addresses.put_all(wanted.addresses), port.own.put_all(wanted.own),
                          port.listeners.put_all(wanted.listeners), put_ranges(port.nat, wanted.nat),
                          port.tunnels.put_all(wanted.tunnels), port.dnat.put_all(wanted.dnat)}) {
      if (failure && !first) first = port.name + ": " + *failure;
    }
  }
  return first;
}

Steering::Failure Steering::remove_stale(const Snapshot& snapshot) {
  const Wanted wanted = wanted_by(snapshot);
  Failure first;
  for (Interface& port : interfaces_) {
    for (auto& failure : {port.listeners.keep_only(wanted.listeners), port.nat.keep_only(wanted.nat),
                          port.nat.put_all(wanted.nat), port.tunnels.keep_only(wanted.tunnels),
                          port.dnat.keep_only(wanted.dnat), port.own.keep_only(wanted.own),
                          port.addresses.keep_only(wanted.addresses)}) {
      if (failure && !first) first = port.name + ": " + *failure;
    }
  }
  return first;
}

SteeringStats Steering::stats() const {
  const int cpus = libbpf_num_possible_cpus();
  SteeringStats stats;
  if (cpus <= 0) return stats;
  std::vector<uint64_t> per_cpu(static_cast<size_t>(cpus));
  for (const Interface& port : interfaces_) {
    for (uint32_t verdict = 0; verdict < STEER_VERDICTS; ++verdict) {
      if (bpf_map_lookup_elem(port.verdicts.get(), &verdict, per_cpu.data()) != 0) continue;
      uint64_t sum = 0;
      for (const uint64_t count : per_cpu) sum += count;
      (verdict == STEER_TO_KERNEL      ? stats.to_kernel
       : verdict == STEER_TO_DATAPLANE ? stats.to_dataplane
                                       : stats.no_socket) += sum;
    }
  }
  return stats;
}

void Steering::detach() {
  for (const Interface& port : interfaces_) {
    std::string failure;
    const auto program = attached_program(port.ifindex, failure);
    if (program && program->id == port.program_id) detach_program(*program);
  }
  interfaces_.clear();
}

}  // namespace portico
