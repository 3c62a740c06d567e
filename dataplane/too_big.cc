// SPDX-License-Identifier: Apache-2.0
// Tells a sender that its packet is larger than the way on (RFC 1191, RFC 8201). The answer comes from the
// address to which the packet went, as answers of a host do: senders need no more to believe it.
#include "dataplane/own_packet.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

constexpr uint32_t kIcmpHeaderSize = 8;

// What an answer may be in all: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c). And the least MTU that a
// sender takes for one: RFC 791, RFC 8200 section 5.
template <typename F>
inline constexpr uint32_t kLargestAnswer = F::kFamily == Family::v4 ? 576 : 1280;
template <typename F>
inline constexpr uint32_t kLeastMtu = F::kFamily == Family::v4 ? 68 : 1280;

template <typename F>
bool may_be_fragmented(const uint8_t* l3) {
  if constexpr (F::kFamily == Family::v4) return (load<uint16_t>(l3 + 6) & htons(0x4000)) == 0;
  return false;
}

// At `icmp`, before the start of the packet that the error is about. `size`: bytes of both.
template <typename F>
void write_icmp(uint8_t* icmp, uint32_t size, uint32_t mtu, uint64_t pseudo_sum) {
  std::memset(icmp, 0, kIcmpHeaderSize);
  if constexpr (F::kFamily == Family::v4) {
    icmp[0] = 3;  // destination unreachable
    icmp[1] = 4;  // fragmentation needed and DF set
    store(icmp + 6, htons(static_cast<uint16_t>(mtu)));
  } else {
    icmp[0] = 2;  // packet too big
    store(icmp + 4, htonl(mtu));
  }
  store(icmp + 2, static_cast<uint16_t>(~fold_sum(pseudo_sum + sum_bytes(icmp, size))));
}

// Puts the frame's Ethernet header, with its tags, before what now begins `bytes` before the packet.
void move_front(Packet& p, uint32_t bytes) {
  rte_mbuf* const m = p.mbuf;
  const uint8_t* const frame = rte_pktmbuf_mtod(m, uint8_t*);
  const auto l2_size = static_cast<size_t>(p.l3 - frame);
  p.l3 -= bytes;
  m->data_off = static_cast<uint16_t>(m->data_off - bytes);
  m->data_len = static_cast<uint16_t>(m->data_len + bytes);
  m->pkt_len += bytes;
  std::memmove(p.l3 - l2_size, frame, l2_size);
}

}  // namespace

template <typename F>
void answer_too_big(WorkerCore& core, Packet& p, uint32_t mtu) {
  constexpr uint32_t kAdded = F::kHeaderSize + kIcmpHeaderSize;
  const uint32_t told = std::max(mtu, kLeastMtu<F>);
  // An error about an error would never end (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
  if (p.kind == Kind::icmp_error || p.ip_length <= told || may_be_fragmented<F>(p.l3))
    return drop(core, p.mbuf, DropReason::exceeds_mtu);
  if (!core.too_big.take(core.cycles, core.table->settings().reset_rate))
    return drop(core, p.mbuf, DropReason::rate_limited);
  const auto* const frame = rte_pktmbuf_mtod(p.mbuf, const uint8_t*);
  const auto l2_size = static_cast<uint32_t>(p.l3 - frame);
  if (room_before(p) < kAdded + l2_size) return drop(core, p.mbuf, DropReason::tunnel_no_headroom);
  const uint32_t embedded =
      std::min<uint32_t>({p.ip_length, p.mbuf->data_len - l2_size, kLargestAnswer<F> - kAdded});
  const auto client = source_of<F>(p.l3), vip = destination_of<F>(p.l3);
  move_front(p, kAdded);
  const auto icmp_size = static_cast<uint16_t>(kIcmpHeaderSize + embedded);
  write_ip_header<F>(p.l3, vip, client, {.protocol = F::kIcmpProtocol, .payload = icmp_size});
  const uint64_t pseudo = F::kFamily == Family::v4
                              ? 0
                              : sum_of(vip) + sum_of(client) + htons(icmp_size) + htons(F::kIcmpProtocol);
  write_icmp<F>(p.l3 + F::kHeaderSize, icmp_size, told, pseudo);
  trim_and_return(p, F::kHeaderSize + icmp_size);
  bump(core.counters.drops[static_cast<uint32_t>(DropReason::tunnel_too_big)]);
  bump(core.counters.answered);
  queue_frame(core, p.mbuf, p.mbuf->port);
}

template void answer_too_big<V4>(WorkerCore&, Packet&, uint32_t);
template void answer_too_big<V6>(WorkerCore&, Packet&, uint32_t);

}  // namespace portico
