// SPDX-License-Identifier: Apache-2.0
// The common case on its shortest way: an untagged frame with a whole TCP segment behind an IP header without
// options or extensions, of an established flow whose backend is well and whose next hop is resolved. Each
// function does exactly what the general stages would do with such a packet, or nothing at all and says
// false: then they do it.
#pragma once

#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/parse.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"

namespace portico {

inline constexpr uint32_t kPlainL2Size = 14;

// Bit f: flags f are sane.
constexpr uint64_t sane_tcp_flags() {
  uint64_t set = 0;
  for (uint32_t f = 0; f < 64; ++f) set |= uint64_t{are_sane_tcp_flags(static_cast<uint8_t>(f))} << f;
  return set;
}
inline constexpr uint64_t kSaneTcpFlags = sane_tcp_flags();

// Whether the one's complement sum of an IPv4 header without options is right (RFC 1071).
inline bool has_right_sum(const uint8_t* l3) {
  const auto a = load<uint64_t>(l3), b = load<uint64_t>(l3 + 8);
  uint64_t sum = a + b;
  const uint64_t rest = uint64_t{load<uint32_t>(l3 + 16)} + (sum < a);
  sum += rest;
  sum += sum < rest;
  const uint64_t folded = (sum & 0xffffffff) + (sum >> 32);
  return fold_sum32(static_cast<uint32_t>(folded) + static_cast<uint32_t>(folded >> 32)) == 0xffff;
}

// Length of the IP packet, or 0 if the header is not plain: see parse_v4() and parse_v6() for the rules.
template <typename F>
uint32_t plain_ip_length(const uint8_t* frame, uint32_t size);

template <>
inline uint32_t plain_ip_length<V4>(const uint8_t* frame, uint32_t size) {
  const uint8_t* const l3 = frame + kPlainL2Size;
  constexpr uint32_t kLeast = V4::kHeaderSize + kTcpHeaderSize;
  if (size < kPlainL2Size + kLeast || l3[0] != 0x45 || load<uint16_t>(frame + 12) != htons(0x0800)) return 0;
  const uint32_t total = ntohs(load<uint16_t>(l3 + 2));
  const bool is_whole = (load<uint16_t>(l3 + 6) & htons(0x3fff)) == 0;
  const uint8_t source = l3[V4::kSourceOffset];
  const bool is_sane_source = static_cast<uint8_t>(source - 1) < 223 && source != 127;
  if (!is_whole || l3[9] != IPPROTO_TCP || l3[V4::kTtlOffset] <= 1 || !is_sane_source) return 0;
  if (total < kLeast || total > size - kPlainL2Size || !has_right_sum(l3)) return 0;
  return total;
}

template <>
inline uint32_t plain_ip_length<V6>(const uint8_t* frame, uint32_t size) {
  const uint8_t* const l3 = frame + kPlainL2Size;
  constexpr uint32_t kLeast = V6::kHeaderSize + kTcpHeaderSize;
  if (size < kPlainL2Size + kLeast || l3[0] >> 4 != 6 || load<uint16_t>(frame + 12) != htons(0x86dd))
    return 0;
  const uint32_t total = V6::kHeaderSize + ntohs(load<uint16_t>(l3 + 4));
  // Unspecified and loopback begin with a zero byte; so do other addresses, which the general case handles.
  const uint8_t source = l3[V6::kSourceOffset];
  if (l3[6] != IPPROTO_TCP || l3[V6::kTtlOffset] <= 1 || source == 0 || source == 0xff) return 0;
  return total < kLeast || total > size - kPlainL2Size ? 0 : total;
}

// Fills in the packet, but for what classification finds out and what only malformed packets have.
template <typename F>
bool parse_plain(Packet& packet, rte_mbuf* mbuf, bool was_handed_over) {
  uint8_t* const frame = rte_pktmbuf_mtod(mbuf, uint8_t*);
  const uint32_t total = plain_ip_length<F>(frame, mbuf->data_len);
  if (total == 0) return false;
  uint8_t* const l3 = frame + kPlainL2Size;
  uint8_t* const l4 = l3 + F::kHeaderSize;
  const uint32_t header = (l4[12] >> 4) * 4u;
  const uint8_t flags = l4[13] & 0x3f;
  if (header < kTcpHeaderSize || header > total - F::kHeaderSize || !((kSaneTcpFlags >> flags) & 1))
    return false;
  packet.mbuf = mbuf;
  packet.l3 = l3;
  packet.l4 = l4;
  packet.ip_length = static_cast<uint16_t>(total);
  packet.payload = static_cast<uint16_t>(total - F::kHeaderSize - header);
  packet.flags = flags;
  packet.is_v6 = F::kFamily == Family::v6;
  packet.was_handed_over = was_handed_over;
  packet.is_plain = (flags & (kFin | kSyn | kRst | kAck)) == kAck;
  packet.kind = Kind::tcp;
  return true;
}

// Whether the packet goes out by the hop with nothing but its MAC addresses to be written.
inline bool can_send_plain(const WorkerCore& core, const TableNextHop& hop, uint16_t ip_length) {
  return ip_length <= hop.plain_mtu && core.output.ports[hop.port].count < kOutputSize;
}
// Writes them and queues the packet.
inline void send_plain(WorkerCore& core, const TableNextHop& hop, rte_mbuf* mbuf, uint8_t* l3) {
  std::memcpy(l3 - kPlainL2Size, hop.macs.data(), hop.macs.size());
  mbuf->ol_flags &= kBufferFlags;
  const uint16_t port = hop.port;
  PacketBuffer& out = core.output.ports[port];
  core.output.ports_used |= uint64_t{1} << port;
  const uint32_t at = out.count;
  out.count = at + 1;
  out.packets[at] = mbuf;
}

// The next hop of a backend that has one of its own.
template <typename F>
uint16_t hop_of(const TableBackend& backend) {
  return F::kFamily == Family::v4 ? backend.next_hop_v4 : backend.next_hop_v6;
}

// The functions below forward a packet whose `is_plain` is set. Entry 0, the candidate of a packet without
// any, is never live. Fields are read once into variables: the compiler must take every write into the packet
// for one that may change them.
template <typename F>
bool forward_plain_dsr(WorkerCore& core, FlowTable<DsrEntry<F>>& flows, const Packet& p) {
  DsrEntry<F>& e = flows[p.candidate];
  const uint16_t service = p.service, backend = e.backend, length = p.ip_length;
  uint8_t* const l3 = p.l3;
  const uint8_t* const l4 = p.l4;
  if (!e.vitals.is_plain() || e.service != service || !e.is_client_of(l3, l4)) return false;
  const TableBackend& b = core.table->backend(backend);
  if (!b.is_plain || hop_of<F>(b) == kNone) return false;
  const TableNextHop& hop = core.table->next_hop(hop_of<F>(b));
  if (!can_send_plain(core, hop, length)) return false;
  e.client_ack = tcp_acknowledgement(l4);
  e.vitals.keep_plain(core.now);
  send_plain(core, hop, p.mbuf, l3);
  age_header<F>(l3, 0);
  count_in(core.counters, service, backend, length);
  return true;
}

template <typename F>
bool forward_plain_nat_in(WorkerCore& core, NatFlows<F>& flows, const Packet& p) {
  NatEntry<F>& e = flows[p.candidate];
  const uint16_t service = p.service, backend = e.backend, length = p.ip_length;
  uint8_t* const l3 = p.l3;
  uint8_t* const l4 = p.l4;
  if (!e.vitals.is_plain() || e.is_half_open || e.service != service || !e.is_client_of(l3, l4)) return false;
  const TableBackend& b = core.table->backend(backend);
  if (!b.is_plain || hop_of<F>(b) == kNone || e.backend_address != address_of<F>(b)) return false;
  const TableNextHop& hop = core.table->next_hop(hop_of<F>(b));
  if (!can_send_plain(core, hop, length)) return false;
  e.client_ack = tcp_acknowledgement(l4);
  e.vitals.keep_plain(core.now);
  send_plain(core, hop, p.mbuf, l3);
  rewrite<F>(l3, l4, e.nat, e.nat_port, e.backend_address, e.backend_port, e.address_delta, e.tcp_delta);
  count_in(core.counters, service, backend, length);
  return true;
}

template <typename F>
bool forward_plain_nat_out(WorkerCore& core, NatFlows<F>& flows, const Packet& p) {
  NatEntry<F>& e = flows[p.candidate];
  const uint16_t service = e.service, backend = e.backend, length = p.ip_length;
  uint8_t* const l3 = p.l3;
  uint8_t* const l4 = p.l4;
  if (!e.vitals.is_plain() || !e.is_backend_of(l3, l4)) return false;
  if (e.return_version != core.table->route_version()) return false;
  const TableNextHop& hop = core.table->next_hop(e.return_hop);
  if (!can_send_plain(core, hop, length)) return false;
  e.server_ack = tcp_acknowledgement(l4);
  e.vitals.keep_plain(core.now);
  send_plain(core, hop, p.mbuf, l3);
  rewrite<F>(l3, l4, e.vip, e.vip_port, e.client, e.client_port, inverse_delta(e.address_delta),
             inverse_delta(e.tcp_delta));
  count_out(core.counters, service, backend, length);
  return true;
}

}  // namespace portico
