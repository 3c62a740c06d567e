// SPDX-License-Identifier: Apache-2.0
#include "agent/counters.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <vector>

namespace portico {

namespace {

constexpr CounterInfo kInfos[] = {
    {AGENT_OTHER, Fate::passed, "other", "not a tunnel packet"},
    {AGENT_NOT_VIP, Fate::passed, "not_vip", "a tunnel packet whose inner one is not to a VIP"},
    {AGENT_NOT_LOCAL, Fate::passed, "not_local", "a tunnel packet that is not to an address of this host"},
    {AGENT_TAKEN_IPIP, Fate::taken, "ipip", "from IPIP"},
    {AGENT_TAKEN_GUE, Fate::taken, "gue", "from GUE, without a second chance"},
    {AGENT_TAKEN_SYN, Fate::taken, "syn", "from GUE: begins a connection"},
    {AGENT_TAKEN_SOCKET, Fate::taken, "socket", "from GUE: its connection is here"},
    {AGENT_TAKEN_COOKIE, Fate::taken, "cookie", "from GUE: answers a SYN cookie of this host"},
    {AGENT_TAKEN_UNTOLD, Fate::taken, "untold", "from GUE: a fragment or no TCP; whose it is cannot be told"},
    {AGENT_TAKEN_LAST, Fate::taken, "last_hop", "from GUE: no portal is left that could have its connection"},
    {AGENT_PASSED_ON, Fate::passed_on, "next_hop", "its connection is not here: to the next portal"},
    {AGENT_FORGED, Fate::dropped, "forged", "its outer source is not a balancer's"},
    {AGENT_MALFORMED, Fate::dropped, "malformed", "its GUE header contradicts itself"},
    {AGENT_ECN, Fate::dropped, "ecn", "met congestion that its inner packet cannot tell of (RFC 6040)"},
    {AGENT_NO_HOP, Fate::dropped, "no_next_hop",
     "its next hop is no configured peer, or its MAC is not known"},
    {AGENT_TTL, Fate::dropped, "ttl", "its outer TTL is used up"},
    {AGENT_NO_ROOM, Fate::dropped, "kernel", "the kernel would not take its header off"},
    {AGENT_MSS_CLAMPED, Fate::changed, "mss_clamped", "a SYN-ACK whose MSS would not have fitted the tunnel"},
};
static_assert(std::size(kInfos) == AGENT_COUNTERS);
constexpr bool is_in_order() {
  for (unsigned i = 0; i < AGENT_COUNTERS; ++i)
    if (kInfos[i].counter != i) return false;
  return true;
}
static_assert(is_in_order());

}  // namespace

std::span<const CounterInfo, AGENT_COUNTERS> agent_counter_infos() {
  return kInfos;
}

const char* to_string(Fate fate) {
  switch (fate) {
    case Fate::passed:
      return "passed";
    case Fate::taken:
      return "taken";
    case Fate::passed_on:
      return "passed_on";
    case Fate::dropped:
      return "dropped";
    case Fate::changed:
      return "changed";
  }
  return "";
}

CounterValues read_counters(int map) {
  CounterValues values{};
  std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
  for (uint32_t i = 0; i < AGENT_COUNTERS; ++i) {
    if (bpf_map_lookup_elem(map, &i, per_cpu.data()) != 0) continue;
    for (const uint64_t count : per_cpu) values[i] += count;
  }
  return values;
}

}  // namespace portico
