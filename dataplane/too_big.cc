// SPDX-License-Identifier: Apache-2.0
// Tells a sender that its packet is larger than the way on (RFC 1191, RFC 8201). The answer comes from the
// address to which the packet went, as answers of a host do: senders need no more to believe it.
#include "dataplane/too_big.h"

#include "dataplane/fragments.h"
#include "dataplane/own_packet.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

// Puts the frame's Ethernet header, with its tags, before what now begins `bytes` before the packet.
void move_front(Packet& p, uint32_t bytes) {
  rte_mbuf* const m = p.mbuf;
  const uint8_t* const frame = rte_pktmbuf_mtod(m, uint8_t*);
  const auto l2_size = static_cast<size_t>(p.l3 - frame);
  p.l3 -= bytes;
  prepend(m, bytes);
  std::memmove(p.l3 - l2_size, frame, l2_size);
}

// Counts `reason`.
template <typename F>
void answer(WorkerCore& core, Packet& p, uint32_t mtu, DropReason reason) {
  constexpr uint32_t kAdded = F::kHeaderSize + kIcmpHeaderSize;
  const uint32_t told = std::max(mtu, kLeastMtu<F>);
  // An error about an error would never end (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
  if (p.kind == Kind::icmp_error || p.ip_length <= told) return drop(core, p.mbuf, DropReason::exceeds_mtu);
  if (!core.too_big.take(core.cycles, core.table->settings().reset_rate))
    return drop(core, p.mbuf, DropReason::rate_limited);
  const auto* const frame = rte_pktmbuf_mtod(p.mbuf, const uint8_t*);
  const auto l2_size = static_cast<uint32_t>(p.l3 - frame);
  if (room_before(p) < kAdded + l2_size) return drop(core, p.mbuf, DropReason::tunnel_no_headroom);
  const uint32_t embedded =
      std::min<uint32_t>({p.ip_length, p.mbuf->data_len - l2_size, kLargestError<F> - kAdded});
  const auto client = source_of<F>(p.l3), vip = destination_of<F>(p.l3);
  move_front(p, kAdded);
  trim_and_return(p, write_own_error<F>(p.l3, vip, client, {told}, embedded));
  bump(core.counters.drops[static_cast<uint32_t>(reason)]);
  bump(core.counters.answered);
  queue_frame(core, p.mbuf, p.mbuf->port);
}

}  // namespace

template <typename F>
void answer_too_big(WorkerCore& core, Packet& p, uint32_t mtu) {
  answer<F>(core, p, mtu, DropReason::tunnel_too_big);
}

template <typename F>
bool fits_way(WorkerCore& core, Packet& p, uint16_t next_hop) {
  if (next_hop == kNone) return true;
  const TableNextHop& hop = core.table->next_hop(next_hop);
  if (!hop.resolved || p.ip_length <= hop.mtu) return true;  // what waits for a MAC is looked at when sent
  if (fragment_size<F>(p, hop.mtu) != 0) return true;
  answer<F>(core, p, hop.mtu, DropReason::exceeds_mtu);
  return false;
}

template <typename F>
bool fits_way_to_backend(WorkerCore& core, Packet& p, uint16_t backend, const typename F::Ip& address) {
  const TableBackend& b = core.table->backend(backend);
  const uint16_t own = F::kFamily == Family::v4 ? b.next_hop_v4 : b.next_hop_v6;
  return fits_way<F>(core, p, b.exists && own != kNone ? own : core.table->route(address).next_hop);
}

template void answer_too_big<V4>(WorkerCore&, Packet&, uint32_t);
template void answer_too_big<V6>(WorkerCore&, Packet&, uint32_t);
template bool fits_way<V4>(WorkerCore&, Packet&, uint16_t);
template bool fits_way<V6>(WorkerCore&, Packet&, uint16_t);
template bool fits_way_to_backend<V4>(WorkerCore&, Packet&, uint16_t, const V4::Ip&);
template bool fits_way_to_backend<V6>(WorkerCore&, Packet&, uint16_t, const V6::Ip&);

}  // namespace portico
