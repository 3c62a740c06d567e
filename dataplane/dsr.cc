// SPDX-License-Identifier: Apache-2.0
// Direct server return: the packet goes to the backend as it is, but for its Ethernet header and TTL, or
// through a tunnel.
#include "dataplane/new_entry.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"
#include "dataplane/too_big.h"

namespace portico {

namespace {

// What the packet says about its flow.
template <typename F>
void observe(WorkerCore& core, DsrEntry<F>& e, const Packet& p) {
  const FlowState before = e.vitals.state();
  const FlowState after = next_state(before, true, p.flags, true);
  // A client's FIN makes a guess no better.
  const FlowState state = before == kGuessed && after == FlowState::closing ? kGuessed : after;
  const bool is_syn = p.flags & kSyn;
  if (is_syn && state == FlowState::syn) {
    const uint32_t sequence = tcp_sequence(p.l4);
    if (before == FlowState::syn && e.client_ack == sequence)
      bump(core.counters.backends[e.backend].syn_repeats);
    e.client_ack = sequence;
  } else if (p.flags & kAck) {
    e.client_ack = tcp_acknowledgement(p.l4);
  }
  e.vitals.set_state(state);
  if (e.vitals.probationary() && !is_syn) {
    // While on probation the entry keeps the time of its first packet.
    if (ticks_since(core.now, e.vitals.seen()) < kProbationTicks) return;
    e.vitals.set_probationary(false);
  }
  e.vitals.set_seen(core.now);
}

template <typename F>
bool send_directly(WorkerCore& core, Packet& p, uint16_t backend) {
  const auto& address = address_of<F>(core.table->backend(backend));
  return fits_way_to_backend<F>(core, p, backend, address) && send_to_backend<F>(core, p, backend, address);
}

template <typename F>
void send_in(WorkerCore& core, Packet& p, uint16_t backend) {
  const uint16_t bytes = p.ip_length;  // the client's
  age_header<F>(p.l3);
  const bool is_sent =
      p.path == Path::tunnel
          ? send_through_tunnel<F>(core, p,
                                   {p.service, backend, tcp_destination_port(p.l4), source_of<F>(p.l3),
                                    tunnel_hash<F>(*core.table, p.l3, p.l4)})
          : send_directly<F>(core, p, backend);
  if (!is_sent) return;
  bump(core.counters.forwarded);
  count_in(core.counters, p.service, backend, bytes);
}

// Whether another backend may have a flow whose SYN was not seen here, and get its packets all the same.
bool has_second_chance(const Table& table, uint16_t service) {
  const TableService& of = table.service(service);
  return of.mode == Mode::dsr_gue && table.pool(of.pool).fallback_columns > 0;
}

// A flow that is not known goes by the pool's table, which is right for most even after a restart.
// Remembering it is what the rate of new flows limits. `old`: the flow in whose place it comes, or 0; a SYN
// that is refused leaves that as it is.
template <typename F>
void open(WorkerCore& core, DsrFlows<F>& flows, Packet& p, uint32_t old = 0) {
  if (old == 0 && hand_over_unknown<F>(core, p)) return;
  const bool is_syn = (p.flags & (kSyn | kAck)) == kSyn;
  if (!is_syn) bump(core.counters.services[p.service].missed);
  const uint16_t backend = admit<F>(core, p);
  if (backend == kNone) return;
  if (old != 0) erase_flow(core, flows, old);
  if (is_syn) count_new_flow(core, p.service, backend);
  if (!(p.flags & kRst)) {
    const uint32_t rate = core.table->settings().new_flow_rate;
    const bool may_insert = rate == 0 || core.new_flows.take(core.cycles, rate);
    auto entry = make_dsr_entry<F>(core, p.l3, p.l4, p.service, backend);
    if (entry.vitals.state() == FlowState::established && has_second_chance(*core.table, p.service))
      entry.vitals.set_state(kGuessed);
    const uint32_t reference = may_insert ? insert_flow(core, flows, entry) : 0;
    if (reference == 0) bump(core.counters.flows_uninserted);
    if (reference != 0 && core.moved != nullptr && was_asked_for(p)) note_moved(core, flows, reference);
  }
  send_in<F>(core, p, backend);
}

}  // namespace

template <typename F>
void forward_dsr(WorkerCore& core, Packet& p) {
  auto& flows = *core.set<F>().dsr.load(std::memory_order_relaxed);
  const uint32_t reference = flows.find(p.hash, p.candidate, [&](const DsrEntry<F>& e) {
    return e.is_from_client(source_of<F>(p.l3), tcp_source_port(p.l4), destination_of<F>(p.l3),
                            tcp_destination_port(p.l4));
  });
  if (reference == 0) return open<F>(core, flows, p);
  DsrEntry<F>& e = flows[reference];
  switch (fate_of(core, e, p)) {
    case Fate::renew:
      return open<F>(core, flows, p, reference);
    case Fate::reset:
      if (!answer_with_reset(core, p, DropReason::flow_reset)) return;
      bump(core.counters.services[e.service].resets_sent);
      return bury(core, flows, reference);
    case Fate::forward:
      observe(core, e, p);
      return send_in<F>(core, p, e.backend);
  }
}

template void forward_dsr<V4>(WorkerCore&, Packet&);
template void forward_dsr<V6>(WorkerCore&, Packet&);

}  // namespace portico
