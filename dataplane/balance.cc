// SPDX-License-Identifier: Apache-2.0
// Which backend a packet's flow goes to: the one that it has, while that lives; else by the pool's look-up
// table.
#include "dataplane/stages.h"

namespace portico {

namespace {

// A flow with a packet in this time counts as alive: more than a few retransmission timeouts (RFC 6298).
constexpr uint32_t kAliveTicks = 5000 / kTickMs;

// Drops for `reason` and says that there is no backend.
uint16_t refuse(WorkerCore& core, Packet& packet, DropReason reason) {
  drop(core, packet.mbuf, reason);
  return kNone;
}

// Whether packets of the family can go to the backend.
template <typename F>
bool is_in_reach(const Table& table, Mode mode, const TableBackend& backend) {
  if (is_tunnel(mode)) return table.tunnel_family(backend, F::kFamily).has_value();
  return F::kFamily == Family::v4 ? backend.has_v4 : backend.has_v6;
}

// The backend's port of the entry's flow.
template <typename F>
uint16_t backend_port_of(const DsrEntry<F>& entry) {
  return entry.vip_port;
}
template <typename F>
uint16_t backend_port_of(const NatEntry<F>& entry) {
  return entry.backend_port;
}

// Whether a SYN is likely one of the flow's own again. A NAT flow remembers its SYN, a DSR entry only in
// state syn; once that is established, a late copy and a new connection from the same port look alike: copies
// that the network makes follow at once, new connections do not.
template <typename F>
bool is_repeated_syn(const WorkerCore& core, const DsrEntry<F>& entry, uint32_t sequence) {
  const Vitals& vitals = entry.vitals;
  if (vitals.state() == FlowState::syn) return entry.client_ack == sequence;
  return vitals.state() == FlowState::established && vitals.probationary() &&
         ticks_since(core.now, vitals.seen()) < kProbationTicks;
}
template <typename F>
bool is_repeated_syn(const WorkerCore&, const NatEntry<F>& entry, uint32_t sequence) {
  return entry.client_isn == sequence;
}

// Whether the backend is known not to have answered the flow's SYN. If it takes no new flows, it may never
// do, and its client's next attempt goes elsewhere. In dsr no answers pass: there the client may be about to
// acknowledge one, which must not reach another backend.
template <typename F>
bool is_unanswered(const DsrEntry<F>&) {
  return false;
}
template <typename F>
bool is_unanswered(const NatEntry<F>& entry) {
  return entry.vitals.state() == FlowState::syn && !entry.is_answered;
}

// Whether a half-closed flow may still carry data: where both sides' packets pass, the other side's end would
// have shown. Where only the client's do, its FIN is all that shows of the end.
template <typename F>
bool shows_its_end(const DsrEntry<F>&) {
  return false;
}
template <typename F>
bool shows_its_end(const NatEntry<F>&) {
  return true;
}

// Whether a half-closed flow, or one of a backend that takes no new ones, outlives a SYN with another number.
// Such a SYN is a new connection from a reused port, or forged. While the backend is well (drained, weight
// 0), a flow that had a packet just now is taken for alive: its backend answers the SYN with a challenge ACK
// (RFC 5961), to which a client with a new connection says RST, and its next SYN goes elsewhere. A backend
// that is down may not answer, and no new connection shall reach it: there the SYN wins, and a forged one
// ends a flow whose next request would be reset anyhow.
template <typename Entry>
bool is_protected(const WorkerCore& core, const TableBackend& backend, const Entry& entry) {
  const Vitals& vitals = entry.vitals;
  const bool may_carry_data = vitals.is_plain() || (is_half_closed(vitals.state()) && shows_its_end(entry));
  return backend.disposition == BackendDisposition::forward && may_carry_data &&
         ticks_since(core.now, vitals.seen()) < kAliveTicks;
}

// The backend that an entry names may have another address now.
template <typename F>
bool has_moved(const DsrEntry<F>&, const TableBackend&) {
  return false;
}
template <typename F>
bool has_moved(const NatEntry<F>& entry, const TableBackend& backend) {
  return entry.backend_address != address_of<F>(backend);
}

}  // namespace

bool must_reset(const TableBackend& backend, uint16_t port) {
  if (!backend.exists || backend.disposition == BackendDisposition::reset) return true;
  for (uint32_t i = 0; i < backend.reset_count; ++i) {
    if (backend.reset_ports[i] == port) return true;
  }
  return false;
}

template <typename Entry>
Fate fate_of(const WorkerCore& core, const Entry& entry, const Packet& packet) {
  const TableBackend& backend = core.table->backend(entry.backend);
  const FlowState state = entry.vitals.state();
  const bool is_gone = must_reset(backend, backend_port_of(entry)) || entry.service != packet.service ||
                       has_moved(entry, backend) || state == FlowState::dead;
  if ((packet.flags & (kSyn | kAck)) == kSyn) {
    if (is_gone || is_expired(core, entry)) return Fate::renew;
    if (is_repeated_syn(core, entry, tcp_sequence(packet.l4)))
      return backend.takes_new || !is_unanswered(entry) ? Fate::forward : Fate::renew;
    if (is_closed(state)) return Fate::renew;
    if (is_protected(core, backend, entry)) return Fate::forward;
    return backend.takes_new && !is_half_closed(state) ? Fate::forward : Fate::renew;
  }
  const bool is_to_go = is_gone || (backend.disposition == BackendDisposition::finish && packet.payload > 0);
  if (!is_to_go) return Fate::forward;
  return is_guessed(entry) ? Fate::renew : Fate::reset;
}

template <typename F>
uint32_t choose_slot(const Table& table, const TableService& service, const typename F::Ip& client,
                     uint16_t client_port, const typename F::Ip& vip, uint16_t vip_port) {
  const uint64_t hash = service.affinity == Affinity::client
                            ? client_hash(table.hash_key(), F::address(client), service.affinity_prefix_v6)
                            : table.slot_hash(client, client_port, vip, vip_port);
  return slot_of(hash, table.pool(service.pool).lookup_size);
}

template <typename F>
bool may_enter(WorkerCore& core, Packet& packet) {
  const auto client = source_of<F>(packet.l3);
  if (core.table->find_local(client) != nullptr) {
    drop(core, packet.mbuf, DropReason::bad_source);
    return false;
  }
  const bool is_allowed = core.table->allows(core.table->service(packet.service).access_list, client);
  if (!is_allowed) drop(core, packet.mbuf, DropReason::access_denied);
  return is_allowed;
}

template <typename F>
uint16_t admit(WorkerCore& core, Packet& packet) {
  if (!may_enter<F>(core, packet)) return kNone;
  const bool is_syn = (packet.flags & (kSyn | kAck)) == kSyn;
  if (is_syn && !is_within_limits<F>(core, packet)) return kNone;
  const Table& table = *core.table;
  const TableService& service = table.service(packet.service);
  const auto client = source_of<F>(packet.l3);
  const TablePool& pool = table.pool(service.pool);
  if (pool.disposition == PoolDisposition::reset) {
    if (answer_with_reset(core, packet, DropReason::no_backend))
      bump(core.counters.services[packet.service].resets_sent);
    return kNone;
  }
  if (pool.disposition == PoolDisposition::drop || pool.lookup == nullptr)
    return refuse(core, packet, DropReason::no_backend);
  const uint16_t backend =
      pool.lookup[choose_slot<F>(table, service, client, tcp_source_port(packet.l4),
                                 destination_of<F>(packet.l3), tcp_destination_port(packet.l4))];
  if (!is_in_reach<F>(table, service.mode, table.backend(backend)))
    return refuse(core, packet, DropReason::no_backend);
  return backend;
}

template Fate fate_of<DsrEntry<V4>>(const WorkerCore&, const DsrEntry<V4>&, const Packet&);
template Fate fate_of<DsrEntry<V6>>(const WorkerCore&, const DsrEntry<V6>&, const Packet&);
template Fate fate_of<NatEntry<V4>>(const WorkerCore&, const NatEntry<V4>&, const Packet&);
template Fate fate_of<NatEntry<V6>>(const WorkerCore&, const NatEntry<V6>&, const Packet&);
template uint32_t choose_slot<V4>(const Table&, const TableService&, const V4::Ip&, uint16_t, const V4::Ip&,
                                  uint16_t);
template uint32_t choose_slot<V6>(const Table&, const TableService&, const V6::Ip&, uint16_t, const V6::Ip&,
                                  uint16_t);
template bool may_enter<V4>(WorkerCore&, Packet&);
template bool may_enter<V6>(WorkerCore&, Packet&);
template uint16_t admit<V4>(WorkerCore&, Packet&);
template uint16_t admit<V6>(WorkerCore&, Packet&);

}  // namespace portico
