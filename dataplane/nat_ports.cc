// SPDX-License-Identifier: Apache-2.0
// Source ports toward the backends. A port of a NAT address is unique per backend endpoint, not over all, so
// every endpoint has them all. Where NICs spread replies by a hash that is known, a worker takes ports whose
// replies reach it (reply_spread.h). The cursor goes round, so that what was used longest ago comes first; a
// closed flow's port is taken again only when no free one turns up, and then, of those tried, the one silent
// longest: a backend that closed first keeps the port in TIME_WAIT, for 60 s in Linux.
#include <algorithm>

#include "dataplane/stages.h"

namespace portico {

namespace {

// Ports tried for one SYN, over all NAT addresses together, before they count as exhausted: bounds its work.
// A free one is missed only when nearly all are taken.
constexpr uint32_t kMaxTries = 512;

// The flow that has the entry's backend endpoint with this NAT address and port, or 0.
template <typename F>
uint32_t find_user(const WorkerCore& core, const NatFlows<F>& flows, const NatEntry<F>& entry) {
  const uint64_t hash =
      F::hash(core.flow_key, entry.backend_address, entry.backend_port, entry.nat, entry.nat_port);
  return flows.find(hash, 0, [&](const NatEntry<F>& e) {
    return e.is_from_backend(entry.backend_address, entry.backend_port, entry.nat, entry.nat_port);
  });
}

// Tries so many ports of one address. Takes a free one; else `closed` becomes the closed flow silent longest,
// of those that nobody had answered if there are any: what a flood leaves gives way before a connection that
// was, whose backend may have it in TIME_WAIT.
template <typename F>
bool try_address(WorkerCore& core, NatFlows<F>& flows, NatEntry<F>& entry, uint16_t nat, uint32_t most,
                 uint32_t& closed) {
  const PortShare& share = flows.share(nat);
  uint32_t& cursor = flows.cursor(nat);
  entry.nat = F::from(core.table->nat()[nat].address);
  const uint32_t rest = reply_rest<F>(core, share, entry.backend_address, entry.backend_port, entry.nat);
  const auto rank = [&](uint32_t user) {
    const Vitals& vitals = flows[user].vitals;
    return uint64_t{vitals.probationary()} << 32 | ticks_since(core.now, vitals.seen());
  };
  for (uint32_t turns = share.count(), tries = most; turns > 0 && tries > 0; --turns) {
    if (++cursor >= share.count()) cursor %= share.count();
    const uint16_t port = share.port(cursor, rest);
    if (port == 0) continue;
    --tries;
    entry.nat_port = htons(port);
    const uint32_t user = find_user(core, flows, entry);
    if (user == 0) return true;
    if (!is_closed(flows[user].vitals.state()) && !is_expired(core, flows[user])) continue;
    if (closed == 0 || rank(user) > rank(closed)) closed = user;
  }
  return false;
}

// Half-open flows of a backend looked at for one whose port may become another's.
constexpr uint32_t kMostOldest = 16;

// Whether a flow's port may become the entry's: it is this worker's still, and toward the same endpoint.
template <typename F>
bool may_give_port(const WorkerCore& core, const NatEntry<F>& e, const NatEntry<F>& entry) {
  const bool is_own = owner_of(core, e) == core.config.index;
  const bool is_same = e.backend_address == entry.backend_address && e.backend_port == entry.backend_port;
  return is_own && is_same;
}

// The oldest half-open flow of the entry's backend whose port may become the entry's, or 0. Older ones may be
// toward another port of the backend.
template <typename F>
uint32_t oldest_half_open_of(const WorkerCore& core, const NatFlows<F>& flows, const NatEntry<F>& entry) {
  uint32_t flow = flows.oldest_half_open(flows.port_list(entry.backend));
  for (uint32_t n = 0; n < kMostOldest && flow != 0; ++n, flow = flows[flow].newer)
    if (may_give_port(core, flows[flow], entry)) return flow;
  return 0;
}

// Works out the worker's ports under the table in use, which takes divisions per address: once per table.
template <typename F>
void arrange_ports(const WorkerCore& core, NatFlows<F>& flows) {
  uint32_t ports = 0;
  for (const uint16_t nat : core.table->nat_of(F::kFamily)) {
    flows.share(nat) = port_share<F>(core.table->nat()[nat], core.config);
    ports += flows.share(nat).ports();
  }
  flows.set_half_open_limit(std::max(1u, ports / 4), core.table->generation());
}

// Half-open flows may hold a quarter of the worker's ports: a flood of SYNs leaves the rest to clients that
// answer.
template <typename F>
void limit_half_open(WorkerCore& core, NatFlows<F>& flows, uint16_t backend) {
  const uint32_t list = flows.port_list(backend);
  if (flows.half_open_count(list) >= flows.half_open_limit()) evict_half_open(core, flows, list);
}

}  // namespace

namespace {

// The port that was chosen ahead for the packet, if nobody has it.
template <typename F>
bool take_planned_port(WorkerCore&, NatFlows<F>&, NatEntry<F>&, const Packet&) {
  return false;
}
template <>
bool take_planned_port<V4>(WorkerCore& core, NatFlows<V4>& flows, NatEntry<V4>& entry, const Packet& packet) {
  OpeningColumns& o = core.openings;
  const auto i = static_cast<uint32_t>(&packet - core.packets.data());
  if (!((o.has_port >> i) & 1)) return false;
  if (o.reply_sources[i] != entry.backend_address || (o.reply_ports[i] & 0xffff) != entry.backend_port)
    return false;
  entry.nat = o.reply_destinations[i];
  entry.nat_port = static_cast<uint16_t>(o.reply_ports[i] >> 16);
  return find_user(core, flows, entry) == 0;
}

}  // namespace

template <typename F>
bool take_nat_port(WorkerCore& core, NatFlows<F>& flows, NatEntry<F>& entry, const Packet& packet) {
  const auto addresses = core.table->nat_of(F::kFamily);
  if (flows.ports_generation() != core.table->generation()) arrange_ports(core, flows);
  limit_half_open(core, flows, entry.backend);
  if (take_planned_port(core, flows, entry, packet)) return true;
  uint32_t closed = 0;
  const uint32_t most = kMaxTries / std::max<uint32_t>(1, static_cast<uint32_t>(addresses.size()));
  // Clients spread over the addresses by their port; the other addresses follow when that one has none.
  const uint32_t first = nat_turn(entry.client_port, static_cast<uint32_t>(addresses.size()));
  for (size_t i = 0; i < addresses.size(); ++i) {
    const uint16_t nat = addresses[(first + i) % addresses.size()];
    if (try_address(core, flows, entry, nat, most, closed)) return true;
  }
  if (closed == 0) closed = oldest_half_open_of(core, flows, entry);
  if (closed == 0) return false;
  entry.nat = flows[closed].nat;
  entry.nat_port = flows[closed].nat_port;
  erase_flow(core, flows, closed);
  bump(core.counters.evictions);
  return true;
}

template bool take_nat_port<V4>(WorkerCore&, NatFlows<V4>&, NatEntry<V4>&, const Packet&);
template bool take_nat_port<V6>(WorkerCore&, NatFlows<V6>&, NatEntry<V6>&, const Packet&);

}  // namespace portico
