// SPDX-License-Identifier: Apache-2.0
// The common case on its shortest way: an untagged frame with a whole TCP segment behind an IP header without
// options or extensions, of an established flow whose backend is well and whose next hop is resolved. Each
// function does exactly what the general stages would do with such a packet, or nothing at all and says
// false: then they do it.
#pragma once

#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/parse.h"
#include "dataplane/plain_header.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"
#include "dataplane/tunnel_header.h"

namespace portico {

// Bit f: flags f are sane.
constexpr uint64_t sane_tcp_flags() {
  uint64_t set = 0;
  for (uint32_t f = 0; f < 64; ++f) set |= uint64_t{are_sane_tcp_flags(static_cast<uint8_t>(f))} << f;
  return set;
}
inline constexpr uint64_t kSaneTcpFlags = sane_tcp_flags();

inline Shape shape_of(uint8_t flags) {
  const uint8_t decisive = flags & (kFin | kSyn | kRst | kAck);
  return decisive == kAck ? Shape::later : decisive == kSyn ? Shape::opening : Shape::general;
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
  packet.shape = shape_of(flags);
  packet.kind = Kind::tcp;
  return true;
}

[[gnu::always_inline]] inline bool has_room(const WorkerCore& core, uint16_t port) {
  return core.output.ports[port].count < kOutputSize;
}
// Writes the MAC addresses and queues the packet; there is room.
[[gnu::always_inline]] inline void send_plain(WorkerCore& core, rte_mbuf* mbuf, uint8_t* l3,
                                              const std::array<uint8_t, 12>& macs, uint16_t port) {
  PacketBuffer& out = core.output.ports[port];
  const uint32_t at = out.count;
  if (at == 0) core.output.ports_used |= uint64_t{1} << port;
  out.count = at + 1;
  out.packets[at] = mbuf;
  mbuf->ol_flags &= kBufferFlags;
  std::memcpy(l3 - kPlainL2Size, macs.data(), macs.size());
}

// A plain packet: its header at `l3`, the likely entry of its flow (0: none), bytes of IP.
struct PlainPacket {
  rte_mbuf* mbuf;
  uint8_t* l3;
  uint32_t candidate;
  uint16_t length, service;
};

// What the short ways of a burst's packets need, read once: the compiler must take every write into a packet
// for one that may change it. Entry 0, the candidate of a packet without any, is never live.
template <typename F>
class PlainPath {
 public:
  explicit PlainPath(WorkerCore& core)
      : core_(core),
        dsr_(core.set<F>().dsr.load(std::memory_order_relaxed)),
        nat_(core.set<F>().nat.load(std::memory_order_relaxed)),
        ways_(core.table->plain_ways(typename F::Ip{})),
        tunnel_source_(core.table->tunnel_source<F>()),
        table_(*core.table),
        services_(&table_.service(0)),
        hops_(core.table->next_hop_count() != 0 ? &core.table->next_hop(0) : nullptr),
        alive_(Vitals(FlowState::established, false, core.now)),
        route_version_(core.table->route_version()) {}

  // Each forwards a packet of shape `later`, by its path. They do not count it as forwarded: that is done for
  // all together.
  [[gnu::always_inline]] bool dsr(const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    DsrEntry<F>& e = (*dsr_)[p.candidate];
    const uint16_t service = p.service, backend = e.backend, length = p.length;
    if (!e.vitals.is_plain() || e.service != service || !e.is_client_of(l3, l4)) return false;
    const auto& way = ways_[backend];
    if (length > way.mtu || !has_room(core_, way.port)) return false;
    send_plain(core_, p.mbuf, l3, way.macs, way.port);
    e.client_ack = tcp_acknowledgement(l4);
    e.vitals = alive_;
    age_header<F>(l3);
    count_in(core_.counters, service, backend, length);
    return true;
  }

  // Mode dsr_ipip, where the tunnel is of the packet's own family.
  [[gnu::always_inline]] bool ipip(const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    DsrEntry<F>& e = (*dsr_)[p.candidate];
    const uint16_t service = p.service, backend = e.backend, length = p.length;
    if (!e.vitals.is_plain() || e.service != service || !e.is_client_of(l3, l4)) return false;
    if (services_[service].mode != Mode::dsr_ipip || !tunnel_source_.exists()) return false;
    const auto& way = ways_[backend];
    const auto room = static_cast<uint32_t>(l3 - static_cast<const uint8_t*>(p.mbuf->buf_addr));
    if (length + F::kHeaderSize > way.mtu || room < F::kHeaderSize + kLargestL2 || !has_room(core_, way.port))
      return false;
    e.client_ack = tcp_acknowledgement(l4);
    e.vitals = alive_;
    age_header<F>(l3);
    const uint64_t hash = tunnel_hash<F>(table_, l3, l4);
    uint8_t* const outer = l3 - F::kHeaderSize;
    write_ip_header<F>(outer, tunnel_source_.pick(hash), way.address,
                       tunnel_header<F>(l3, kTunnelProtocol<F>, length, hash));
    prepend(p.mbuf, F::kHeaderSize);
    send_plain(core_, p.mbuf, outer, way.macs, way.port);
    store(outer - 2, htons(F::kFamily == Family::v4 ? 0x0800 : 0x86dd));
    count_in(core_.counters, service, backend, length);
    return true;
  }

  [[gnu::always_inline]] bool nat_in(const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    uint8_t* const l4 = l3 + F::kHeaderSize;
    NatEntry<F>& e = (*nat_)[p.candidate];
    const uint16_t service = p.service, backend = e.backend, length = p.length;
    if (!e.vitals.is_plain() || e.service != service || !e.is_client_of(l3, l4)) return false;
    const auto& way = ways_[backend];
    if (e.backend_address != way.address || length > way.mtu || !has_room(core_, way.port)) return false;
    send_plain(core_, p.mbuf, l3, way.macs, way.port);
    e.client_ack = tcp_acknowledgement(l4);
    e.vitals = alive_;
    rewrite<F>(l3, l4, e.nat, e.nat_port, e.backend_address, e.backend_port, e.address_delta, e.tcp_delta);
    count_in(core_.counters, service, backend, length);
    return true;
  }

  [[gnu::always_inline]] bool nat_out(const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    uint8_t* const l4 = l3 + F::kHeaderSize;
    NatEntry<F>& e = (*nat_)[p.candidate];
    const uint16_t service = e.service, backend = e.backend, length = p.length;
    if (!e.vitals.is_plain() || !e.is_backend_of(l3, l4)) return false;
    if (e.return_version != route_version_) return false;
    const TableNextHop& hop = hops_[e.return_hop];
    if (length > hop.plain_mtu || !has_room(core_, hop.port)) return false;
    send_plain(core_, p.mbuf, l3, hop.macs, hop.port);
    e.server_ack = tcp_acknowledgement(l4);
    e.vitals = alive_;
    rewrite<F>(l3, l4, e.vip, e.vip_port, e.client, e.client_port, inverse_delta(e.address_delta),
               inverse_delta(e.tcp_delta));
    count_out(core_.counters, service, backend, length);
    return true;
  }

 private:
  WorkerCore& core_;
  DsrFlows<F>* const dsr_;
  NatFlows<F>* const nat_;
  const PlainWay<typename F::Ip>* const ways_;
  const TunnelSource<F> tunnel_source_;
  const Table& table_;
  const TableService* const services_;
  const TableNextHop* const hops_;
  const Vitals alive_;
  const uint16_t route_version_;
};

}  // namespace portico
