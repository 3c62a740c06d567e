// SPDX-License-Identifier: Apache-2.0
// Splits as a router does (RFC 791 section 3.2), and packets of IPv6 as their senders did (RFC 8200 section
// 4.5): no router splits those, but who puts them together has to. Each fragment is a buffer of its own, not
// a reference into the packet's: AF_XDP ports send no chains.
#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/checksum.h"
#include "dataplane/fragments.h"
#include "dataplane/ipv6_chain.h"
#include "dataplane/own_packet.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

constexpr uint32_t kFragmentHeaderSize = 8, kLeastMtuV6 = 1280;

// An identification that no other packet between the same addresses has had for long, and that outsiders do
// not guess (RFC 7739): workers count in turns, from where the addresses' keyed hash says.
template <typename F>
uint32_t fresh_id(WorkerCore& core, const uint8_t* l3) {
  const uint32_t turn = core.split_count++ * core.config.worker_count + core.config.index;
  return static_cast<uint32_t>(core.table->slot_hash(source_of<F>(l3), 0, destination_of<F>(l3), 0)) + turn;
}

// Of IPv4: options that are for the first fragment alone make way for "no operation" (RFC 791 section 3.1).
void blank_options(uint8_t* l3, uint32_t header) {
  for (uint32_t at = V4::kHeaderSize; at < header && l3[at] != 0;) {
    const uint32_t size = l3[at] == 1 ? 1 : at + 1 < header ? l3[at + 1] : 0;
    if (size == 0 || size > header - at) return;
    if ((l3[at] & 0x80) == 0) std::memset(l3 + at, 1, size);
    at += size;
  }
}

// One fragment's place in its packet, bytes of payload.
struct Place {
  uint32_t offset, size, id;
  bool is_last;
};

// The headers stand at l3, as those of the whole packet up to what is split, and with room behind them.
void write_headers_v4(uint8_t* l3, uint32_t header, const Place& place) {
  if (place.offset != 0) blank_options(l3, header);
  store(l3 + 2, htons(static_cast<uint16_t>(header + place.size)));
  store(l3 + 4, static_cast<uint16_t>(place.id));
  store(l3 + 6, htons(static_cast<uint16_t>(place.offset / 8 | (place.is_last ? 0 : 0x2000))));
  store(l3 + 10, uint16_t{0});
  store(l3 + 10, static_cast<uint16_t>(~fold_sum(sum_bytes(l3, header))));
}

void write_headers_v6(uint8_t* l3, uint32_t header, const Place& place) {
  uint8_t* const next = next_header_of(l3, header);
  uint8_t* const fragment = l3 + header;
  fragment[0] = *next;
  fragment[1] = 0;
  store(fragment + 2, htons(static_cast<uint16_t>(place.offset | (place.is_last ? 0 : 1))));
  store(fragment + 4, place.id);
  *next = IPPROTO_FRAGMENT;
  store(l3 + 4, htons(static_cast<uint16_t>(header - V6::kHeaderSize + kFragmentHeaderSize + place.size)));
}

// Fills a fresh buffer with a fragment.
template <typename F>
Packet write_piece(const Packet& p, rte_mbuf* m, uint32_t header, const Place& place) {
  constexpr uint32_t kAdded = F::kFamily == Family::v6 ? kFragmentHeaderSize : 0;
  const auto at = static_cast<uint32_t>(p.l4 - rte_pktmbuf_mtod(p.mbuf, const uint8_t*));
  rte_pktmbuf_append(m, static_cast<uint16_t>(kLargestL2 + header + kAdded + place.size));
  Packet piece = p;
  piece.mbuf = m;
  piece.l3 = rte_pktmbuf_mtod_offset(m, uint8_t*, kLargestL2);
  piece.l4 = piece.l3 + header + kAdded;
  piece.ip_length = static_cast<uint16_t>(header + kAdded + place.size);
  piece.kind = Kind::fragment;
  piece.was_handed_over = false;
  m->port = p.mbuf->port;
  std::memcpy(piece.l3, p.l3, header);
  const void* const bytes = rte_pktmbuf_read(p.mbuf, at + place.offset, place.size, piece.l4);
  if (bytes != piece.l4) std::memcpy(piece.l4, bytes, place.size);
  F::kFamily == Family::v4 ? write_headers_v4(piece.l3, header, place)
                           : write_headers_v6(piece.l3, header, place);
  return piece;
}

}  // namespace

template <typename F>
uint32_t fragment_size(const Packet& p, uint32_t mtu) {
  if (p.kind != Kind::tcp) return 0;
  if constexpr (F::kFamily == Family::v4) {
    return (load<uint16_t>(p.l3 + 6) & htons(0x4000)) == 0 ? mtu : 0;
  } else {
    if (!p.was_handed_over || mtu < kLeastMtuV6) return 0;
    const uint32_t largest = Note::read(p.mbuf).largest_fragment();
    return largest == 0 || largest > mtu ? 0 : std::max(largest, kLeastMtuV6);
  }
}

template <typename F>
bool split(WorkerCore& core, Packet& p, uint32_t mtu, Pieces& pieces) {
  const auto refuse = [&](DropReason reason) {
    drop(core, p.mbuf, reason);
    return false;
  };
  const auto header = static_cast<uint32_t>(p.l4 - p.l3), payload = p.ip_length - header;
  const uint32_t own = header + (F::kFamily == Family::v6 ? kFragmentHeaderSize : 0);
  const uint32_t room = rte_pktmbuf_data_room_size(core.config.pool) - RTE_PKTMBUF_HEADROOM - kLargestL2;
  const uint32_t size = std::min(fragment_size<F>(p, mtu), room);
  if (size < own + 8) return refuse(DropReason::exceeds_mtu);
  const uint32_t step = (size - own) & ~7u, count = (payload + step - 1) / step;
  if (count > kMostPieces) return refuse(DropReason::exceeds_mtu);
  std::array<rte_mbuf*, kMostPieces> buffers;
  if (rte_pktmbuf_alloc_bulk(core.config.pool, buffers.data(), count) != 0)
    return refuse(DropReason::no_mbuf);
  // Behind one NAT address many clients choose identifications.
  const bool keeps_id = F::kFamily == Family::v4 && p.path != Path::nat_in && p.path != Path::nat_out;
  const uint32_t id = keeps_id ? load<uint16_t>(p.l3 + 4) : fresh_id<F>(core, p.l3);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t offset = i * step, bytes = std::min(step, payload - offset);
    pieces.packets[i] = write_piece<F>(p, buffers[i], header, {offset, bytes, id, i + 1 == count});
  }
  pieces.count = count;
  bump(core.counters.fragmented);
  bump(core.counters.fragments_sent, count);
  discard(core, p.mbuf);
  return true;
}

template uint32_t fragment_size<V4>(const Packet&, uint32_t);
template uint32_t fragment_size<V6>(const Packet&, uint32_t);
template bool split<V4>(WorkerCore&, Packet&, uint32_t, Pieces&);
template bool split<V6>(WorkerCore&, Packet&, uint32_t, Pieces&);

}  // namespace portico
