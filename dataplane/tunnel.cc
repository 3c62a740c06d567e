// SPDX-License-Identifier: Apache-2.0
// Tunnels: a client's packet goes to the backend inside IP, in each of the four ways (RFC 2003, RFC 2473,
// RFC 4213). The backend takes it out and answers the client directly.
#include "dataplane/own_packet.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

template <typename F>
constexpr uint8_t kProtocolOf = F::kFamily == Family::v4 ? IPPROTO_IPIP : IPPROTO_IPV6;

template <typename F>
uint8_t traffic_class_of(const uint8_t* l3) {
  if constexpr (F::kFamily == Family::v4) return l3[1];
  return static_cast<uint8_t>(l3[0] << 4 | l3[1] >> 4);
}

// The packet becomes the outer one. DSCP and ECN are the inner packet's: RFC 2983 section 3.1 (uniform), RFC
// 6040 section 4.1 (normal mode). The flow label is for who spreads flows by it (RFC 6438).
template <typename Inner, typename Outer>
void wrap(const Table& table, Packet& p, const TableBackend& backend, uint64_t hash) {
  constexpr uint32_t kFlowLabel = 0xfffff;
  const OwnHeader header{.protocol = kProtocolOf<Inner>,
                         .payload = p.ip_length,
                         .traffic_class = traffic_class_of<Inner>(p.l3),
                         .flow_label = static_cast<uint32_t>(hash >> 12) & kFlowLabel};
  p.l3 -= Outer::kHeaderSize;
  p.ip_length = static_cast<uint16_t>(p.ip_length + Outer::kHeaderSize);
  p.is_v6 = Outer::kFamily == Family::v6;
  write_ip_header<Outer>(p.l3, table.tunnel_source<Outer>().pick(hash), address_of<Outer>(backend), header);
}

template <typename Inner, typename Outer>
bool send_inside(WorkerCore& core, Packet& p, const TableBackend& backend, uint64_t hash) {
  const uint16_t hop = Outer::kFamily == Family::v4 ? backend.next_hop_v4 : backend.next_hop_v6;
  if (hop == kNone) {
    drop(core, p.mbuf, DropReason::no_route);
    return false;
  }
  const uint32_t mtu = core.table->next_hop(hop).mtu;
  if (p.ip_length + Outer::kHeaderSize > mtu) {
    answer_too_big<Inner>(core, p, mtu > Outer::kHeaderSize ? mtu - Outer::kHeaderSize : 0);
    return false;
  }
  if (room_before(p) < Outer::kHeaderSize + kLargestL2) {
    drop(core, p.mbuf, DropReason::tunnel_no_headroom);
    return false;
  }
  wrap<Inner, Outer>(*core.table, p, backend, hash);
  return send_by_hop(core, p, hop);
}

}  // namespace

template <typename F>
bool send_through_tunnel(WorkerCore& core, Packet& p, uint16_t backend, uint64_t hash) {
  const TableBackend& b = core.table->backend(backend);
  const auto outer = core.table->tunnel_family(b, F::kFamily);
  if (outer == Family::v4) return send_inside<F, V4>(core, p, b, hash);
  if (outer == Family::v6) return send_inside<F, V6>(core, p, b, hash);
  drop(core, p.mbuf, DropReason::no_backend);
  return false;
}

template bool send_through_tunnel<V4>(WorkerCore&, Packet&, uint16_t, uint64_t);
template bool send_through_tunnel<V6>(WorkerCore&, Packet&, uint16_t, uint64_t);

}  // namespace portico
