// SPDX-License-Identifier: Apache-2.0
#include "dataplane/proxy.h"

#include <rte_ip.h>
#include <rte_mbuf.h>

#include "dataplane/own_packet.h"
#include "dataplane/rewrite.h"

namespace portico {

namespace {

// Timers that may come to their end in one sweep: a look at a flow each, which may be far away in memory.
constexpr uint32_t kMostDue = 128;
constexpr uint16_t kWhole = 0xffff;

// The one's complement sum of a packet's payload, in however many segments.
uint64_t payload_sum(const Packet& p) {
  if (p.payload == 0) return 0;
  const auto* const frame = rte_pktmbuf_mtod(p.mbuf, const uint8_t*);
  const auto offset = static_cast<uint32_t>(p.l4 - frame) + (p.l4[12] >> 4) * 4u;
  uint16_t sum = 0;
  // It fails when the packet is shorter, which parsing has excluded.
  if (rte_raw_cksum_mbuf(p.mbuf, offset, p.payload, &sum) != 0) return 0;
  return sum;
}

template <typename F>
uint16_t residue_of(const Packet& p) {
  return segment_sum<F>(p.l3, p.l4, p.payload, payload_sum(p));
}

// Takes the payload off a client's packet: the backend would take it for a part of the header. What comes
// with a SYN the client sends again (RFC 7413 section 4.2.2).
template <typename F>
void cut_payload(Packet& p) {
  const uint64_t sum = payload_sum(p);
  const auto length = static_cast<uint16_t>(p.ip_length - p.payload);
  const auto tcp = static_cast<uint16_t>(p.l3 + p.ip_length - p.l4);
  const auto rest = static_cast<uint16_t>(tcp - p.payload);
  adjust_checksum(p.l4 + kTcpChecksumOffset, checksum_delta(sum + htons(tcp), htons(rest)));
  const uint32_t at = F::kFamily == Family::v4 ? 2 : 4;
  const auto before = load<uint16_t>(p.l3 + at);
  const uint16_t after = htons(static_cast<uint16_t>(ntohs(before) - p.payload));
  store(p.l3 + at, after);
  if constexpr (F::kFamily == Family::v4) adjust_checksum(p.l3 + 10, checksum_delta(before, after));
  trim(p, length);
  p.payload = 0;
}

// Writes the flow's header over a client's packet that carries nothing.
template <typename F>
bool put_in_place(WorkerCore& core, const NatEntry<F>& e, Packet& p, const HeaderCue& cue, uint16_t residue) {
  const auto* const end = static_cast<uint8_t*>(p.mbuf->buf_addr) + p.mbuf->buf_len;
  if (end - p.l3 < static_cast<ptrdiff_t>(kHeaderSegmentSize<F>)) {
    drop(core, p.mbuf, DropReason::no_mbuf);
    return false;
  }
  const Ends<F> ends{e.client, e.vip, e.client_port, e.vip_port};
  const uint16_t length = write_header_segment(p.l3, ends, e, cue, residue);
  p.l4 = p.l3 + F::kHeaderSize;
  p.payload = kHeaderBytes<F>;
  trim(p, length);
  return true;
}

// Sends the flow's header in a packet of our own. Without a buffer it is as if it were lost.
template <typename F>
void send_header(WorkerCore& core, const NatEntry<F>& e, HeaderCue cue, uint16_t residue) {
  rte_mbuf* const m = rte_pktmbuf_alloc(core.config.pool);
  if (m == nullptr) return bump(core.counters.drops[static_cast<uint32_t>(DropReason::no_mbuf)]);
  auto* const frame = reinterpret_cast<uint8_t*>(rte_pktmbuf_append(m, kLargestL2 + kHeaderSegmentSize<F>));
  Packet p{};
  p.mbuf = m;
  p.l3 = frame + kLargestL2;
  p.is_v6 = F::kFamily == Family::v6;
  --cue.ttl;
  const Ends<F> ends{e.nat, e.backend_address, e.nat_port, e.backend_port};
  trim(p, write_header_segment(p.l3, ends, e, cue, residue));
  if (send_to_backend<F>(core, p, e.backend, e.backend_address)) bump(core.counters.originated);
}

// Counts a header that goes out.
template <typename F>
void count_header(WorkerCore& core, NatEntry<F>& e) {
  ServiceFeedback& service = core.counters.services[e.service];
  const bool is_copy = e.header.state() == HeaderMark::sent;
  bump(is_copy ? service.headers_repeated : service.headers_sent);
  e.header.set_state(HeaderMark::sent);
}

uint32_t next_due(const WorkerCore& core) {
  return (core.now + ticks_of_ms(kHeaderIntervalMs)) & kTickMask;
}

// Whether the flow that a timer watches still waits for its header to be acknowledged.
template <typename F>
bool is_waiting(const NatFlows<F>& flows, const WatchedHeader& header) {
  const NatEntry<F>& e = flows[header.reference];
  return flows.is_live(header.reference) && e.client_isn == header.client_isn &&
         e.header.state() == HeaderMark::sent && e.vitals.state() != FlowState::reset &&
         e.vitals.state() != FlowState::dead;
}

bool is_waiting(const WorkerCore& core, const WatchedHeader& header) {
  return header.is_v6 ? is_waiting(*core.v6.nat.load(std::memory_order_acquire), header)
                      : is_waiting(*core.v4.nat.load(std::memory_order_acquire), header);
}

// Most headers are acknowledged long before their time: in a full ring those at the front give way.
template <typename F>
void watch(WorkerCore& core, const NatEntry<F>& e, uint32_t reference, const HeaderCue& cue) {
  HeaderTimers* const timers = core.header_timers.load(std::memory_order_acquire);
  if (timers == nullptr) return;
  if (timers->is_full() && !is_waiting(core, timers->front())) timers->pop();
  if (!timers->push({reference, e.client_isn, next_due(core), 0, F::kFamily == Family::v6, cue}))
    bump(core.counters.services[e.service].headers_unwatched);
}

// A RST whose number is not within this many bytes of the connection's start is a guess, and stays one.
constexpr uint32_t kResetWindow = 65536;

// The backend may or may not have the header; a RST must name the very number that it expects next
// (RFC 5961 section 3.2). One goes for each case.
template <typename F>
void announce_reset(WorkerCore& core, const NatEntry<F>& e, Packet& p) {
  if (e.header.state() == HeaderMark::unsent) {
    shift_reset(p.l4, kHeaderBytes<F>);
  } else if (tcp_sequence(p.l4) - (e.client_isn + 1) < kResetWindow) {
    reset_backend(core, e);
  }
}

// Whether observing the packet has found that the client has shaken hands: its acknowledgement was taken up.
template <typename F>
bool is_proven(const NatEntry<F>& e, const Packet& p) {
  const FlowState state = e.vitals.state();
  if (state == FlowState::syn || state == FlowState::reset || state == FlowState::dead) return false;
  return e.client_ack == tcp_acknowledgement(p.l4);
}

template <typename F>
bool repeat_header(WorkerCore& core, WatchedHeader& header) {
  NatFlows<F>& flows = *core.set<F>().nat.load(std::memory_order_acquire);
  if (!is_waiting(flows, header)) return false;
  ++header.rounds;
  if ((header.rounds & (header.rounds + 1)) == 0) {
    NatEntry<F>& e = flows[header.reference];
    count_header(core, e);
    send_header(core, e, header.cue, kWhole);
  }
  return header.rounds < kHeaderRounds;
}

}  // namespace

template <typename F>
bool announce_client(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, Packet& p) {
  NatEntry<F>& e = flows[reference];
  if (p.flags & kSyn) {
    if (p.payload > 0) cut_payload<F>(p);
    shift_syn(p.l4, kHeaderBytes<F>);
    return true;
  }
  if (e.header.state() == HeaderMark::taken) return true;
  if (p.flags & kRst) {
    announce_reset(core, e, p);
    return true;
  }
  // A probe of a live client carries the number before its first byte, perhaps with a byte of rubbish: that
  // number is the header's last.
  const bool is_probe = is_before(tcp_sequence(p.l4), e.client_isn + 1);
  if (is_probe && p.payload > 0) cut_payload<F>(p);
  if (!is_proven(e, p)) return true;
  const HeaderCue cue = cue_of<F>(p.l3, p.l4);
  const uint16_t residue = residue_of<F>(p);
  const bool is_first = e.header.state() == HeaderMark::unsent;
  count_header(core, e);
  // Whether a wrong checksum hides wrong numbers nobody knows: once is enough for those.
  if (is_first && residue == kWhole) watch(core, e, reference, cue);
  if (is_probe || (p.payload == 0 && !(p.flags & kFin))) return put_in_place(core, e, p, cue, residue);
  send_header(core, e, cue, residue);
  return true;
}

template <typename F>
void observe_header(WorkerCore& core, NatEntry<F>& e, const Packet& p) {
  if (!(p.flags & kAck) || (p.flags & kRst)) return;
  const uint32_t ack = tcp_acknowledgement(p.l4);
  if (p.flags & kSyn) {
    const uint32_t isn = ack - 1 + kHeaderBytes<F>;
    if (e.vitals.state() == FlowState::syn || isn == e.client_isn) return;
    // The backend has no such connection any more and takes up a SYN that was passed on to it: a new one.
    e.client_isn = isn;
    e.header = HeaderMark(HeaderMark::unsent);
    e.vitals = Vitals(FlowState::syn, true, core.now);
    return;
  }
  if (e.header.state() != HeaderMark::sent || is_before(ack, e.client_isn + 1)) return;
  // The backend has the header. It may still tell of copies as duplicates (RFC 2883): TCPs pass over blocks
  // of numbers that they never sent.
  e.header.set_state(HeaderMark::taken);
  e.vitals.set_probationary(false);
}

void prepare_header_timers(WorkerCore& core, const Table& table) {
  if (core.header_timers_owner != nullptr || !table.uses_proxy_protocol()) return;
  core.header_timers_owner = std::make_unique<HeaderTimers>();
  core.header_timers.store(core.header_timers_owner.get(), std::memory_order_release);
}

void repeat_headers(WorkerCore& core, uint64_t output_end) {
  HeaderTimers* const timers = core.header_timers.load(std::memory_order_acquire);
  if (timers == nullptr) return;
  const auto is_due = [&](const WatchedHeader& header) {
    return ticks_since(core.now, header.due) <= kTickMask / 2;
  };
  for (uint32_t n = 0; n < kMostDue && timers->count() > 0 && is_due(timers->front()); ++n) {
    if (core.counters.originated >= output_end) return;
    WatchedHeader header = timers->pop();
    const bool goes_on = header.is_v6 ? repeat_header<V6>(core, header) : repeat_header<V4>(core, header);
    if (!goes_on) continue;
    header.due = next_due(core);
    timers->push(header);
  }
}

template bool announce_client(WorkerCore&, NatFlows<V4>&, uint32_t, Packet&);
template bool announce_client(WorkerCore&, NatFlows<V6>&, uint32_t, Packet&);
template void observe_header(WorkerCore&, NatEntry<V4>&, const Packet&);
template void observe_header(WorkerCore&, NatEntry<V6>&, const Packet&);

}  // namespace portico
