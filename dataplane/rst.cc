// SPDX-License-Identifier: Apache-2.0
// Resets: answers to packets that have no flow, and resets out of the blue for flows whose backend went down.
#include <rte_mbuf.h>

#include "dataplane/own_packet.h"
#include "dataplane/proxy_segment.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

// One end of a connection as it stands in a header.
template <typename F>
struct End {
  typename F::Ip address;
  uint16_t port;
};

struct Numbers {
  uint32_t sequence, acknowledgement;
  uint8_t flags;
};

// A whole RST packet at `l3`; returns its length.
template <typename F>
uint16_t write_reset(uint8_t* l3, const End<F>& source, const End<F>& destination, const Numbers& numbers) {
  write_ip_header<F>(l3, source.address, destination.address,
                     {.protocol = IPPROTO_TCP, .payload = kTcpHeaderSize});
  uint8_t* const tcp = l3 + F::kHeaderSize;
  std::memset(tcp, 0, kTcpHeaderSize);
  store(tcp, source.port);
  store(tcp + 2, destination.port);
  store(tcp + 4, htonl(numbers.sequence));
  store(tcp + 8, htonl(numbers.acknowledgement));
  tcp[12] = (kTcpHeaderSize / 4) << 4;
  tcp[13] = numbers.flags;
  const uint64_t pseudo = sum_of(source.address) + sum_of(destination.address) + htons(IPPROTO_TCP) +
                          htons(static_cast<uint16_t>(kTcpHeaderSize));
  store(tcp + 16, static_cast<uint16_t>(~fold_sum(pseudo + sum_bytes(tcp, kTcpHeaderSize))));
  return F::kHeaderSize + kTcpHeaderSize;
}

// RFC 9293 section 3.10.7.1: what makes a RST acceptable to the sender of this packet.
Numbers answer_to(const Packet& p) {
  if (p.flags & kAck) return {tcp_acknowledgement(p.l4), 0, kRst};
  const uint32_t length = p.payload + ((p.flags & kSyn) ? 1u : 0u) + ((p.flags & kFin) ? 1u : 0u);
  return {0, tcp_sequence(p.l4) + length, kRst | kAck};
}

template <typename F>
uint16_t turn_around(Packet& p) {
  const Numbers numbers = answer_to(p);
  const End<F> us{destination_of<F>(p.l3), tcp_destination_port(p.l4)};
  const End<F> sender{source_of<F>(p.l3), tcp_source_port(p.l4)};
  return write_reset<F>(p.l3, us, sender, numbers);
}

// A packet of our own; false if there is no buffer.
template <typename F>
bool originate(WorkerCore& core, Packet& p, const End<F>& source, const End<F>& destination,
               const Numbers& n) {
  rte_mbuf* const m = rte_pktmbuf_alloc(core.config.pool);
  if (m == nullptr) {
    bump(core.counters.drops[static_cast<uint32_t>(DropReason::no_mbuf)]);
    return false;
  }
  auto* const frame =
      reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, kLargestL2 + F::kHeaderSize + kTcpHeaderSize));
  p = {};
  p.mbuf = m;
  p.l3 = frame + kLargestL2;
  p.is_v6 = F::kFamily == Family::v6;
  p.ip_length = write_reset<F>(p.l3, source, destination, n);
  return true;
}

// To a client whose SYN nobody has answered, RST needs the acknowledgement; else the sequence number it
// expects.
Numbers for_client(FlowState state, uint32_t isn, uint32_t expected) {
  if (state == FlowState::syn) return {expected, isn + 1, kRst | kAck};
  return {expected, 0, kRst};
}

// False: later, for want of a buffer. A client without a route gets none, and never will.
template <typename Entry>
bool reset_client_side(WorkerCore& core, const Entry& e, const Numbers& numbers) {
  using F = typename Entry::Family;
  Packet p;
  if (!originate<F>(core, p, {e.vip, e.vip_port}, {e.client, e.client_port}, numbers)) return false;
  if (!send_by_route<F>(core, p, e.client)) return true;
  bump(core.counters.originated);
  bump(core.counters.services[e.service].resets_sent);
  return true;
}

// Whether the MAC address on the way to a client is known, or there is no way. Else asks for it: a sweep's
// flows can wait until it is there, without places in the waiting room and for longer.
template <typename F>
bool is_way_known(WorkerCore& core, const typename F::Ip& client) {
  const RouteChoice route = core.table->route(client);
  if (route.next_hop == kNone && route.port == kNone) return true;
  if (route.next_hop == kNone) {
    core.resolve.push({F::address(client), route.port}, core.now * kTickMs);
    return false;
  }
  const TableNextHop& hop = core.table->next_hop(route.next_hop);
  if (!hop.resolved)
    core.resolve.push({core.table->next_hop_address(route.next_hop), hop.port}, core.now * kTickMs);
  return hop.resolved;
}

template <typename F>
void reset_backend_side(WorkerCore& core, const NatEntry<F>& e) {
  Packet p;
  const uint32_t header = e.header.state() != HeaderMark::none ? kHeaderBytes<F> : 0;
  const bool is_known = e.is_answered || e.server_ack != 0;  // it may have wrapped to 0
  const uint32_t expected = is_known ? e.server_ack : e.client_isn + 1 - header;
  if (!originate<F>(core, p, {e.nat, e.nat_port}, {e.backend_address, e.backend_port}, {expected, 0, kRst}))
    return;
  if (send_to_backend<F>(core, p, e.backend, e.backend_address)) bump(core.counters.originated);
}

template <typename Entry>
void mark_dead(WorkerCore& core, Entry& e) {
  bump(core.counters.backends[e.backend].resets_sent);
  e.vitals = Vitals(FlowState::dead, false, core.now);
}

}  // namespace

template <typename F>
void reset_backend(WorkerCore& core, const NatEntry<F>& e) {
  reset_backend_side(core, e);
}

bool answer_with_reset(WorkerCore& core, Packet& p, DropReason reason) {
  if (p.flags & kRst) {
    drop(core, p.mbuf, reason);
    return false;
  }
  if (!core.answers.take(core.cycles, core.table->settings().reset_rate)) {
    drop(core, p.mbuf, DropReason::rate_limited);
    return false;
  }
  trim_and_return(p, p.is_v6 ? turn_around<V6>(p) : turn_around<V4>(p));
  bump(core.counters.drops[static_cast<uint32_t>(reason)]);
  bump(core.counters.answered);
  queue_frame(core, p.mbuf, p.mbuf->port);
  return true;
}

template <typename F>
ResetOutcome reset_flow(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference) {
  DsrEntry<F>& e = flows[reference];
  if (!is_way_known<F>(core, e.client)) return ResetOutcome::no_way;
  if (!core.sweep_resets.take(core.cycles, core.table->settings().reset_rate)) return ResetOutcome::put_off;
  const FlowState state = e.vitals.state();
  const bool is_unanswered = state == FlowState::syn;  // as far as we can see
  if (!reset_client_side(core, e, for_client(state, e.client_ack, is_unanswered ? 0 : e.client_ack)))
    return ResetOutcome::put_off;
  mark_dead(core, e);
  return ResetOutcome::done;
}

template <typename F>
ResetOutcome reset_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t reference) {
  NatEntry<F>& e = flows[reference];
  if (!is_way_known<F>(core, e.client)) return ResetOutcome::no_way;
  if (!core.sweep_resets.take(core.cycles, core.table->settings().reset_rate)) return ResetOutcome::put_off;
  if (!reset_client_side(core, e, for_client(e.vitals.state(), e.client_isn, e.client_ack)))
    return ResetOutcome::put_off;
  reset_backend_side(core, e);
  flows.unlink_half_open(reference);
  mark_dead(core, e);
  return ResetOutcome::done;
}

template <typename F>
void bury(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference) {
  DsrEntry<F>& e = flows[reference];
  if (e.vitals.state() != FlowState::dead) mark_dead(core, e);
}

template <typename F>
void bury(WorkerCore& core, NatFlows<F>& flows, uint32_t reference) {
  NatEntry<F>& e = flows[reference];
  if (e.vitals.state() == FlowState::dead) return;
  reset_backend_side(core, e);
  flows.unlink_half_open(reference);
  mark_dead(core, e);
}

template void reset_backend(WorkerCore&, const NatEntry<V4>&);
template void reset_backend(WorkerCore&, const NatEntry<V6>&);
template ResetOutcome reset_flow(WorkerCore&, DsrFlows<V4>&, uint32_t);
template ResetOutcome reset_flow(WorkerCore&, DsrFlows<V6>&, uint32_t);
template ResetOutcome reset_flow(WorkerCore&, NatFlows<V4>&, uint32_t);
template ResetOutcome reset_flow(WorkerCore&, NatFlows<V6>&, uint32_t);
template void bury(WorkerCore&, DsrFlows<V4>&, uint32_t);
template void bury(WorkerCore&, DsrFlows<V6>&, uint32_t);
template void bury(WorkerCore&, NatFlows<V4>&, uint32_t);
template void bury(WorkerCore&, NatFlows<V6>&, uint32_t);

}  // namespace portico
