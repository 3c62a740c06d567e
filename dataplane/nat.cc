// SPDX-License-Identifier: Apache-2.0
// Address translation in both directions: client and VIP on one side, NAT address and backend on the other.
// In mode dnat the NAT address is the client's own, and so is the port.
#include "dataplane/fragments.h"
#include "dataplane/nat_deltas.h"
#include "dataplane/new_entry.h"
#include "dataplane/proxy.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"
#include "dataplane/too_big.h"

namespace portico {

namespace {

// How far beyond the first acknowledgement a client may be when its handshake counts as proven: an initial
// window (RFC 7413 lets a server send before it). A spoofer hits it once in 2^16.
constexpr uint32_t kHandshakeWindow = 65536;

template <typename F>
void send_in(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, Packet& p) {
  const NatEntry<F>& e = flows[reference];
  if (!fits_way_to_backend<F>(core, p, e.backend, e.backend_address)) return;
  if (e.header.state() != HeaderMark::none && !announce_client(core, flows, reference, p)) return;
  rewrite<F>(p.l3, p.l4, e.nat, e.nat_port, e.backend_address, e.backend_port, e.address_delta, e.tcp_delta);
  if (!send_to_backend<F>(core, p, e.backend, e.backend_address)) return;
  bump(core.counters.forwarded);
  count_in(core.counters, e.service, e.backend, p.ip_length);
}

// Answers a client's packet with RST and counts it for its service.
void reset_client(WorkerCore& core, Packet& p, DropReason reason) {
  const uint16_t service = p.service;
  if (answer_with_reset(core, p, reason)) bump(core.counters.services[service].resets_sent);
}

template <typename F>
uint32_t find_of_client(const NatFlows<F>& flows, const Packet& p) {
  return flows.find(p.hash, p.candidate, [&](const NatEntry<F>& e) {
    return e.is_from_client(source_of<F>(p.l3), tcp_source_port(p.l4), destination_of<F>(p.l3),
                            tcp_destination_port(p.l4));
  });
}

// Whether the backend's replies will tell the entry's flow, which shows its client, from all others. One that
// is over gives way, but for `old`, which the new one will replace.
template <typename F>
bool take_client_port(WorkerCore& core, NatFlows<F>& flows, NatEntry<F>& entry, uint32_t old) {
  entry.nat = entry.client;
  entry.nat_port = entry.client_port;
  const uint64_t hash =
      F::hash(core.flow_key, entry.backend_address, entry.backend_port, entry.nat, entry.nat_port);
  const uint32_t user = flows.find(hash, 0, [&](const NatEntry<F>& e) {
    return e.is_from_backend(entry.backend_address, entry.backend_port, entry.nat, entry.nat_port);
  });
  if (user == 0 || user == old) return true;
  if (!is_closed(flows[user].vitals.state()) && !is_expired(core, flows[user])) return false;
  erase_flow(core, flows, user);
  bump(core.counters.evictions);
  return true;
}

// The address and port that the backend is to see. False: there is none, and the packet has its verdict.
template <typename F>
bool take_source(WorkerCore& core, NatFlows<F>& flows, NatEntry<F>& entry, uint32_t old, Packet& p) {
  if (core.table->service(p.service).mode == Mode::dnat) {
    if (take_client_port(core, flows, entry, old)) return true;
    reset_client(core, p, DropReason::reply_ambiguous);
    return false;
  }
  // An old one that is over gives its port if that is the last, and is gone then.
  if (take_nat_port(core, flows, entry, p)) return true;
  reset_client(core, p, DropReason::nat_ports_exhausted);
  return false;
}

// `old`: the flow in whose place the new one is to come, or 0. A SYN that is refused leaves it as it is.
template <typename F>
void open(WorkerCore& core, NatFlows<F>& flows, Packet& p, uint32_t old = 0) {
  if (old == 0 && hand_over_unknown<F>(core, p)) return;
  if ((p.flags & (kSyn | kAck)) != kSyn) {
    bump(core.counters.services[p.service].missed);
    if (!may_enter<F>(core, p)) return;
    return reset_client(core, p, DropReason::unknown_flow);
  }
  const uint16_t backend = admit<F>(core, p);
  if (backend == kNone) return;
  NatEntry<F> entry{};
  const TableService& service = core.table->service(p.service);
  fill_nat_entry<F>(entry, p.l3, p.l4, p.service, backend, address_of<F>(core.table->backend(backend)),
                    service.backend_port != 0 ? htons(service.backend_port) : tcp_destination_port(p.l4));
  if (service.proxy_protocol != ProxyProtocol::none) entry.header.set_state(HeaderMark::unsent);
  entry.vitals = Vitals(FlowState::syn, true, core.now);
  if (!take_source(core, flows, entry, old, p)) return;
  const NatDeltas deltas = deltas_of(entry);
  entry.address_delta = deltas.address;
  entry.tcp_delta = deltas.tcp;
  const uint32_t before = old != 0 ? find_of_client(flows, p) : 0;
  const uint32_t reference =
      before != 0 ? replace_flow(core, flows, before, entry) : insert_flow(core, flows, entry);
  if (reference == 0) return drop(core, p.mbuf, DropReason::flow_table_full);
  if (core.moved != nullptr && was_asked_for(p)) note_moved(core, flows, reference);
  count_new_flow(core, p.service, backend);
  send_in(core, flows, reference, p);
}

// A flow on probation has shown that its client gets answers. It is not past it before its backend has the
// header: packets of such flows take no short way.
template <typename F>
void establish(NatFlows<F>& flows, uint32_t reference, FlowState state) {
  flows.unlink_half_open(reference);
  flows[reference].vitals.set_state(state);
  flows[reference].vitals.set_probationary(flows[reference].header.is_outstanding());
}

template <typename F>
void observe_syn(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, const Packet& p) {
  NatEntry<F>& e = flows[reference];
  const uint32_t sequence = tcp_sequence(p.l4);
  const FlowState before = e.vitals.state();
  const FlowState state = next_state(before, true, p.flags, e.reset_by_client);
  if (before == FlowState::syn && !e.is_answered) {
    if (e.client_isn == sequence) bump(core.counters.backends[e.backend].syn_repeats);
    // Its time begins anew below: those behind it shall not wait for that.
    flows.pass_judgement(reference);
  }
  // Of several SYNs, of which one may be forged, the backend answers one: that is the connection. The others
  // it answers with a challenge ACK (RFC 5961 section 4), and their client, if there is one, with a RST.
  if (state == FlowState::syn && !e.is_answered) e.client_isn = sequence;
  e.vitals.set_state(state);
  // Of a flow that is open, a SYN with another number, which may be forged, says nothing.
  if (e.client_isn == sequence) e.vitals.set_seen(core.now);
}

template <typename F>
void observe_from_client(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, const Packet& p) {
  if (p.flags & kSyn) return observe_syn(core, flows, reference, p);
  NatEntry<F>& e = flows[reference];
  const FlowState before = e.vitals.state();
  const uint32_t ack = tcp_acknowledgement(p.l4);
  e.vitals.set_seen(core.now);
  if (p.flags & kRst) {
    if (before != FlowState::reset) e.reset_by_client = 1;
    e.vitals.set_state(FlowState::reset);
    return flows.unlink_half_open(reference);
  }
  const FlowState state = next_state(before, true, p.flags, e.reset_by_client);
  if (e.vitals.probationary()) {
    // Not even a flow that seemed reset comes back without the proof: its port would be held for long.
    const bool is_over = is_closed(state) && state != FlowState::closing;
    if (!e.is_answered || ack - e.client_ack >= kHandshakeWindow || is_over) return;
    establish(flows, reference, state);
  } else {
    e.vitals.set_state(state);
  }
  e.client_ack = ack;
}

template <typename F>
void take_answer(NatEntry<F>& e, const Packet& p) {
  e.is_answered = 1;
  e.client_ack = tcp_sequence(p.l4) + 1;
  const uint32_t header = e.header.state() != HeaderMark::none ? kHeaderBytes<F> : 0;
  if (p.flags & kAck) e.client_isn = tcp_acknowledgement(p.l4) - 1 + header;
}

template <typename F>
void observe_from_backend(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, const Packet& p) {
  NatEntry<F>& e = flows[reference];
  const FlowState before = e.vitals.state();
  // A backend that repeats its SYN to nobody does not hold the port.
  if (!e.vitals.probationary()) e.vitals.set_seen(core.now);
  if (p.flags & kAck) e.server_ack = tcp_acknowledgement(p.l4);
  if (e.header.state() != HeaderMark::none) observe_header(core, e, p);
  if (p.flags & kRst) {
    bump(core.counters.backends[e.backend].resets_received);
    if (before == FlowState::syn && !e.is_answered) bump(core.counters.backends[e.backend].syns_refused);
    if (before != FlowState::reset) e.reset_by_client = 0;
    e.vitals.set_state(FlowState::reset);
    return flows.unlink_half_open(reference);
  }
  if (e.vitals.probationary()) {
    if (p.flags & kSyn) take_answer(e, p);
    if (!e.header.is_outstanding() || before == FlowState::syn || (p.flags & kSyn)) return;
  }
  e.vitals.set_state(next_state(before, false, p.flags, e.reset_by_client));
}

// A reply whose flow is not here: to the worker that a NIC would have given it to, by the hash, if this one
// has it from a device that does not. False: it is here, or nowhere.
template <typename F>
bool hand_over_reply(WorkerCore& core, Packet& p) {
  if (was_given(p) || core.port_sharers<F>() == core.config.worker_count) return false;
  const LocalAddress* const local = core.table->find_local(destination_of<F>(p.l3));
  if (local == nullptr) return false;  // to a client: this worker is the one
  const uint32_t owner =
      reply_owner<F>(core, local->nat, source_of<F>(p.l3), tcp_source_port(p.l4), tcp_destination_port(p.l4));
  if (owner >= core.config.worker_count || owner == core.config.index) return false;
  hand_over(core, p, owner);
  return true;
}

// The way back to the client, remembered in the flow while routes stay as they are. kNone: no next hop leads
// there.
template <typename F>
uint16_t return_hop(const Table& table, NatEntry<F>& e) {
  const uint16_t version = table.route_version();
  if (e.return_version != version) {
    const RouteChoice route = table.route(e.client);
    if (route.next_hop == kNone) return kNone;
    e.return_hop = route.next_hop;
    e.return_version = version;
  }
  return e.return_hop;
}

template <typename F>
void send_out(WorkerCore& core, NatEntry<F>& e, Packet& p) {
  const uint16_t hop = return_hop(*core.table, e);
  if (!fits_way<F>(core, p, hop)) return;
  rewrite<F>(p.l3, p.l4, e.vip, e.vip_port, e.client, e.client_port, inverse_delta(e.address_delta),
             inverse_delta(e.tcp_delta));
  if (!(hop != kNone ? send_by_hop(core, p, hop) : send_by_route<F>(core, p, e.client))) return;
  bump(core.counters.forwarded);
  count_out(core.counters, e.service, e.backend, p.ip_length);
}

}  // namespace

template <typename F>
void forward_nat_in(WorkerCore& core, Packet& p) {
  auto& flows = *core.set<F>().nat.load(std::memory_order_relaxed);
  const uint32_t reference = find_of_client(flows, p);
  if (reference == 0) return open<F>(core, flows, p);
  NatEntry<F>& e = flows[reference];
  switch (fate_of(core, e, p)) {
    case Fate::renew:
      return open<F>(core, flows, p, reference);
    case Fate::reset:
      if (!answer_with_reset(core, p, DropReason::flow_reset)) return;
      bump(core.counters.services[e.service].resets_sent);
      return bury(core, flows, reference);
    case Fate::forward:
      observe_from_client(core, flows, reference, p);
      return send_in(core, flows, reference, p);
  }
}

template <typename F>
void forward_nat_out(WorkerCore& core, Packet& p) {
  auto& flows = *core.set<F>().nat.load(std::memory_order_relaxed);
  const uint32_t reference = flows.find(p.hash, p.candidate, [&](const NatEntry<F>& e) {
    return e.is_from_backend(source_of<F>(p.l3), tcp_source_port(p.l4), destination_of<F>(p.l3),
                             tcp_destination_port(p.l4));
  });
  if (reference == 0) {
    if (hand_over_reply<F>(core, p)) return;
    // A connection of before a restart, or whose flow gave way: the backend shall not hold it for hours.
    if (core.table->is_backend(source_of<F>(p.l3)))
      answer_with_reset(core, p, DropReason::unknown_reply);
    else
      drop(core, p.mbuf, DropReason::unknown_reply);
    return;
  }
  NatEntry<F>& e = flows[reference];
  if (e.vitals.state() == FlowState::dead) {
    answer_with_reset(core, p, DropReason::flow_reset);
    return;
  }
  // Of a settled header there is nothing to hide: numbers like its own mean the client's data, gigabytes
  // later.
  const bool has_header = e.header.state() != HeaderMark::none;
  const bool hides = has_header && (p.flags & kSyn || e.header.is_outstanding());
  observe_from_backend(core, flows, reference, p);
  if (hides) hide_header_of(e, p);
  send_out(core, e, p);
}

template void forward_nat_in<V4>(WorkerCore&, Packet&);
template void forward_nat_in<V6>(WorkerCore&, Packet&);
template void forward_nat_out<V4>(WorkerCore&, Packet&);
template void forward_nat_out<V6>(WorkerCore&, Packet&);

}  // namespace portico
