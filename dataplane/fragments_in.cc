// SPDX-License-Identifier: Apache-2.0
#include <rte_mbuf.h>

#include <optional>

#include "dataplane/checksum.h"
#include "dataplane/fragment_table.h"
#include "dataplane/fragments.h"
#include "dataplane/ipv6_chain.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

constexpr uint32_t kFragmentHeaderSize = 8;
// Congestion experienced, and where the two bits of ECN stand in the second byte of an IP header (RFC 3168).
constexpr uint8_t kCongested = 3;
template <typename F>
constexpr uint32_t kEcnShift = F::kFamily == Family::v4 ? 0 : 4;

// Whole packets that workers send round to the others, each of which looks for the flow.
constexpr uint32_t kWholeRoundsPerSecond = 10000;

// What a fragment says of itself.
struct FragmentView {
  uint32_t id;            // IPv4: of 16 bits
  uint32_t offset, size;  // of the payload, bytes
  uint32_t head;          // bytes of IP headers that the whole packet has, too
  uint32_t header;        // bytes of all IP headers
  uint8_t protocol;       // of what the payload is
  bool is_last;
};

template <typename F>
std::optional<FragmentView> view_of(const Packet& p) {
  const auto head = static_cast<uint32_t>(p.l4 - p.l3);
  if constexpr (F::kFamily == Family::v4) {
    const uint16_t field = ntohs(load<uint16_t>(p.l3 + 6));
    return FragmentView{.id = load<uint16_t>(p.l3 + 4),
                        .offset = (field & 0x1fffu) * 8,
                        .size = p.ip_length - head,
                        .head = head,
                        .header = head,
                        .protocol = p.l3[9],
                        .is_last = (field & 0x2000) == 0};
  } else {
    const auto l2 = static_cast<uint32_t>(p.l3 - rte_pktmbuf_mtod(p.mbuf, const uint8_t*));
    const uint32_t readable = rte_pktmbuf_data_len(p.mbuf) - l2, header = head + kFragmentHeaderSize;
    if (header > readable || header > p.ip_length) return std::nullopt;
    const uint16_t field = ntohs(load<uint16_t>(p.l4 + 2));
    return FragmentView{.id = load<uint32_t>(p.l4 + 4),
                        .offset = field & 0xfff8u,
                        .size = p.ip_length - header,
                        .head = head,
                        .header = header,
                        .protocol = p.l4[0],
                        .is_last = (field & 1) == 0};
  }
}

// Bytes of the frame before the payload.
uint32_t payload_at(const Packet& p, const FragmentView& v) {
  return static_cast<uint32_t>(p.l3 - rte_pktmbuf_mtod(p.mbuf, const uint8_t*)) + v.header;
}

// Whether the first fragment has all of the TCP header, so that whoever looks at first fragments alone has
// seen what it says.
bool has_tcp_header(const Packet& p, const FragmentView& v) {
  if (v.size < kTcpHeaderSize) return false;
  uint8_t scratch;
  const void* const words = rte_pktmbuf_read(p.mbuf, payload_at(p, v) + 12, 1, &scratch);
  return words != nullptr && (*static_cast<const uint8_t*>(words) >> 4) * 4u <= v.size;
}

// Why a fragment of TCP is refused, whatever others say.
std::optional<DropReason> fault_of(const Packet& p, const FragmentView& v) {
  if (v.size == 0 || (!v.is_last && v.size % 8 != 0) || v.offset + v.size + v.head > UINT16_MAX)
    return DropReason::fragment_malformed;
  const bool is_tiny = v.offset == 0 ? !has_tcp_header(p, v) : v.offset < kTcpHeaderSize;
  return is_tiny ? std::optional(DropReason::fragment_tiny) : std::nullopt;
}

template <typename F>
uint64_t hash_of(const WorkerCore& core, const Packet& p, const FragmentView& v) {
  return core.table->slot_hash(source_of<F>(p.l3), static_cast<uint16_t>(v.id), destination_of<F>(p.l3),
                               static_cast<uint16_t>(v.id >> 16));
}

template <typename F>
FragmentKey key_of(const Packet& p, const FragmentView& v) {
  FragmentKey key{.source = {}, .destination = {}, .id = v.id, .is_v6 = F::kFamily == Family::v6};
  std::memcpy(key.source.data(), p.l3 + F::kSourceOffset, sizeof(typename F::Ip));
  std::memcpy(key.destination.data(), p.l3 + F::kDestinationOffset, sizeof(typename F::Ip));
  return key;
}

// Gives the headers of a whole packet, which are its first fragment's, its length.
template <typename F>
void finish_headers(uint8_t* l3, uint32_t header, uint32_t payload, bool is_congested) {
  if (is_congested) l3[1] |= kCongested << kEcnShift<F>;  // RFC 3168 section 5.3
  if constexpr (F::kFamily == Family::v4) {
    store(l3 + 2, htons(static_cast<uint16_t>(header + payload)));
    store(l3 + 6, static_cast<uint16_t>(load<uint16_t>(l3 + 6) & htons(0x4000)));
    store(l3 + 10, uint16_t{0});
    store(l3 + 10, static_cast<uint16_t>(~fold_sum(sum_bytes(l3, header))));
  } else {
    store(l3 + 4, htons(static_cast<uint16_t>(header - F::kHeaderSize + payload)));
  }
}

// To be looked at behind this burst.
void note_whole(WorkerCore& core, rte_mbuf* m, uint32_t largest, uint32_t fragments) {
  Note::whole(largest).write(m);
  core.wholes[core.whole_count++] = m;
  bump(core.counters.reassembled);
  bump(core.counters.fragments_joined, fragments);
}

// A whole packet with a fragment header all the same is what it is without (RFC 6946).
void unwrap(WorkerCore& core, Packet& p, const FragmentView& v) {
  uint8_t* const frame = rte_pktmbuf_mtod(p.mbuf, uint8_t*);
  *next_header_of(p.l3, v.head) = v.protocol;
  finish_headers<V6>(p.l3, v.head, v.size, false);
  std::memmove(frame + kFragmentHeaderSize, frame, static_cast<size_t>(p.l4 - frame));
  rte_pktmbuf_adj(p.mbuf, kFragmentHeaderSize);
  note_whole(core, p.mbuf, p.ip_length, 1);
}

void lose(WorkerCore& core, DropReason reason, uint32_t fragments) {
  bump(core.counters.drops[static_cast<uint32_t>(reason)], fragments);
  lower(core.counters.fragments_held, fragments);
}

template <typename F>
void settle(WorkerCore& core, Packet& p, const FragmentTable::Added& added) {
  using Outcome = FragmentTable::Outcome;
  switch (added.outcome) {
    case Outcome::held:
      bump(core.counters.fragments_held);
      return discard(core, p.mbuf);
    case Outcome::duplicate:
      return drop(core, p.mbuf, DropReason::fragment_duplicate);
    case Outcome::no_buffer:
      return drop(core, p.mbuf, DropReason::no_mbuf);
    case Outcome::overlap:
      lose(core, DropReason::fragment_overlap, added.fragments);
      return drop(core, p.mbuf, DropReason::fragment_overlap);
    case Outcome::too_long:
      lose(core, DropReason::fragment_too_long, added.fragments);
      return drop(core, p.mbuf, DropReason::fragment_too_long);
    case Outcome::whole:
      break;
  }
  const uint32_t payload = added.packet->data_len - added.l2_size - added.l3_size;
  uint8_t* const l3 = rte_pktmbuf_mtod_offset(added.packet, uint8_t*, added.l2_size);
  finish_headers<F>(l3, added.l3_size, payload, added.is_congested);
  lower(core.counters.fragments_held, added.fragments - 1);
  note_whole(core, added.packet, added.largest, added.fragments);
  discard(core, p.mbuf);
}

template <typename F>
void add(WorkerCore& core, Packet& p, const FragmentView& v, uint64_t hash, FragmentTable& table) {
  uint8_t* const frame = rte_pktmbuf_mtod(p.mbuf, uint8_t*);
  FragmentPiece piece{.mbuf = p.mbuf,
                      .head = {},
                      .l2_size = static_cast<uint32_t>(p.l3 - frame),
                      .at = payload_at(p, v),
                      .offset = v.offset,
                      .size = v.size,
                      .ip_length = p.ip_length,
                      .is_last = v.is_last,
                      .is_congested = (p.l3[1] >> kEcnShift<F> & kCongested) == kCongested};
  if (v.offset == 0) {
    if constexpr (F::kFamily == Family::v6) *next_header_of(p.l3, v.head) = v.protocol;
    piece.head = {frame, piece.l2_size + v.head};
  }
  const auto added = table.add(key_of<F>(p, v), hash, piece, core.now);
  if (added.evicted != 0) lose(core, DropReason::fragment_evicted, added.evicted);
  settle<F>(core, p, added);
}

}  // namespace

template <typename F>
void take_fragment(WorkerCore& core, Packet& p) {
  FragmentTable* const table = core.fragments.load(std::memory_order_acquire);
  if (table == nullptr || core.table->settings().fragments != static_cast<uint8_t>(Fragments::reassemble)) {
    p.path = Path::done;
    return drop(core, p.mbuf, DropReason::fragment);
  }
  const auto view = view_of<F>(p);
  if (view && view->protocol != IPPROTO_TCP) return to_kernel_or_drop(core, p, DropReason::not_tcp);
  p.path = Path::done;
  if (!view) return drop(core, p.mbuf, DropReason::truncated);
  if (const auto fault = fault_of(p, *view)) return drop(core, p.mbuf, *fault);
  if constexpr (F::kFamily == Family::v6)
    if (view->offset == 0 && view->is_last) return unwrap(core, p, *view);
  const uint64_t hash = hash_of<F>(core, p, *view);
  const uint32_t owner = slot_of(hash, core.config.worker_count);
  if (owner != core.config.index && !p.was_handed_over) return hand_over(core, p, owner);
  add<F>(core, p, *view, hash, *table);
}

bool was_given(const Packet& p) {
  if (!p.was_handed_over) return false;
  const Note note = Note::read(p.mbuf);
  return note.largest_fragment() == 0 || note.hands() != 0;
}

template <typename F>
bool hand_over_whole(WorkerCore& core, Packet& p) {
  if (!p.was_handed_over) return false;
  const Note note = Note::read(p.mbuf);
  const uint32_t workers = core.config.worker_count, self = core.config.index;
  if (note.largest_fragment() == 0 || note.hands() + 1 >= workers) return false;
  uint32_t next = (self + 1) % workers;
  if (const ReplySpread<F>* spread =
          core.config.spreads != nullptr ? core.config.spreads->of<F>() : nullptr) {
    if (note.hands() != 0) return false;
    const uint32_t rest = spread->rest(source_of<F>(p.l3), tcp_source_port(p.l4), destination_of<F>(p.l3));
    next = spread->owner(rest, ntohs(tcp_destination_port(p.l4)));
    if (next == self || next >= workers) return false;
  } else if (note.hands() == 0 && !core.whole_rounds.take(core.cycles, kWholeRoundsPerSecond)) {
    return false;
  }
  hand_over(core, p, next);
  return true;
}

void expire_fragments(WorkerCore& core) {
  FragmentTable* const table = core.fragments.load(std::memory_order_acquire);
  if (table == nullptr || table->is_empty()) return;
  if (const uint32_t lost = table->expire(core.now)) lose(core, DropReason::fragment_timeout, lost);
}

template void take_fragment<V4>(WorkerCore&, Packet&);
template void take_fragment<V6>(WorkerCore&, Packet&);
template bool hand_over_whole<V4>(WorkerCore&, Packet&);
template bool hand_over_whole<V6>(WorkerCore&, Packet&);

}  // namespace portico
