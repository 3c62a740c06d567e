// SPDX-License-Identifier: Apache-2.0
// Tunnels: a client's packet goes to the backend inside IP, in each of the four ways (RFC 2003, RFC 2473,
// RFC 4213), or inside GUE over UDP over IP (docs/gue.md). The backend takes it out and answers the client
// directly.
#include <algorithm>

#include "bpf/gue.h"
#include "dataplane/fragments.h"
#include "dataplane/stages.h"
#include "dataplane/tunnel_header.h"

namespace portico {

namespace {

static_assert(GUE_DEFAULT_PORT == kDefaultGuePort && GUE_MAX_HOPS >= kMaxFallbackColumns);

constexpr uint32_t kUdpSize = 8;

// Further backends that may have a flow, by their addresses of the outer family.
template <typename Outer>
struct Hops {
  uint32_t count = 0;
  std::array<typename Outer::Ip, GUE_MAX_HOPS> addresses;
};

// What stands between the outer IP header and the inner packet; nothing in mode dsr_ipip.
template <typename Outer>
struct Middle {
  bool is_gue = false;
  Hops<Outer> hops{};

  uint32_t size() const { return is_gue ? kUdpSize + uint32_t{sizeof(gue_header)} + private_size() : 0; }
  uint32_t private_size() const {
    constexpr uint32_t kHopSize = sizeof(typename Outer::Ip);
    return hops.count == 0 ? 0 : uint32_t{sizeof(gue_hops)} + hops.count * kHopSize;
  }
};

template <typename Outer>
bool may_have_flows(const TableBackend& b, uint16_t port) {
  return (Outer::kFamily == Family::v4 ? b.has_v4 : b.has_v6) && !must_reset(b, port);
}

// The slot's own backend, if the flow has another, and then its fallbacks: but those whose flows are being
// reset, since a packet that goes to a dead one gets no further.
template <typename Inner, typename Outer>
Hops<Outer> hops_of(const Table& table, const TunnelFlow<Inner>& flow) {
  Hops<Outer> hops{};
  const TableService& service = table.service(flow.service);
  const TablePool& pool = table.pool(service.pool);
  if (pool.fallback_columns == 0) return hops;
  const uint64_t hash =
      service.affinity == Affinity::client
          ? client_hash(table.hash_key(), Inner::address(flow.client), service.affinity_prefix_v6)
          : flow.hash;
  const uint32_t slot = slot_of(hash, pool.lookup_size);
  const auto add = [&](uint16_t id) {
    if (id == kNone || id == flow.backend || hops.count == GUE_MAX_HOPS) return;
    const TableBackend& b = table.backend(id);
    if (may_have_flows<Outer>(b, flow.vip_port)) hops.addresses[hops.count++] = address_of<Outer>(b);
  };
  add(pool.lookup[slot]);
  for (uint32_t i = 0; i < pool.fallback_columns; ++i) add(pool.fallback[slot * pool.fallback_columns + i]);
  return hops;
}

template <typename Inner, typename Outer>
Middle<Outer> middle_of(const Table& table, const Packet& p, const TunnelFlow<Inner>& flow) {
  if (table.service(flow.service).mode != Mode::dsr_gue) return {};
  // A new connection is the first backend's.
  const bool is_opening = p.kind == Kind::tcp && (p.flags & (kSyn | kAck)) == kSyn;
  return {true, is_opening ? Hops<Outer>{} : hops_of<Inner, Outer>(table, flow)};
}

// What the words of the packet at l3 sum to, without a look at its payload: a right checksum makes the sum of
// what it covers that of nothing. Of a packet with a wrong one the sum is wrong, and so is what comes of it.
// A fragment has no sum of its own.
template <typename Inner>
uint64_t sum_of_packet(const Packet& p) {
  if (p.kind == Kind::fragment) return sum_bytes(p.l3, p.ip_length);
  const auto headers = static_cast<size_t>(p.l4 - p.l3);
  const uint64_t before = sum_bytes(p.l3, headers);
  const uint16_t protocol = p.kind == Kind::tcp ? uint8_t{IPPROTO_TCP} : Inner::kIcmpProtocol;
  if (protocol == IPPROTO_ICMP) return before;
  const uint64_t pseudo = sum_of(source_of<Inner>(p.l3)) + sum_of(destination_of<Inner>(p.l3)) +
                          htons(static_cast<uint16_t>(p.ip_length - headers)) + htons(protocol);
  return before + static_cast<uint16_t>(~fold_sum(pseudo));
}

// GUE's header and private data, after the room for UDP's header at `at`.
template <typename Inner, typename Outer>
void write_middle(uint8_t* at, const Middle<Outer>& middle) {
  const gue_header header{
      .first = static_cast<uint8_t>(
          middle.hops.count == 0 ? 0 : GUE_HOPS_WORDS(middle.hops.count, sizeof(typename Outer::Ip))),
      .protocol = kTunnelProtocol<Inner>,
      .flags = 0};
  store(at + kUdpSize, header);
  if (middle.hops.count == 0) return;
  uint8_t* const list = at + kUdpSize + sizeof header;
  store(list, gue_hops{htons(GUE_HOPS_TYPE), 0, static_cast<uint8_t>(middle.hops.count)});
  std::memcpy(list + sizeof(gue_hops), middle.hops.addresses.data(),
              middle.hops.count * sizeof(typename Outer::Ip));
}

// `sum`: of the inner packet. Over IPv6 UDP has to have a checksum (RFC 8200 section 8.1); 0 says none.
template <typename Outer>
void write_udp(uint8_t* at, uint16_t size, uint32_t middle_size, uint64_t hash, uint16_t port, uint64_t sum,
               const typename Outer::Ip& source, const typename Outer::Ip& destination) {
  constexpr uint32_t kPorts = 1u << GUE_SOURCE_PORT_BITS;
  store(at, htons(static_cast<uint16_t>(GUE_FIRST_SOURCE_PORT + hash % kPorts)));
  store(at + 2, htons(port));
  store(at + 4, htons(size));
  store(at + 6, uint16_t{0});
  sum += sum_of(source) + sum_of(destination) + htons(size) + htons(IPPROTO_UDP) + sum_bytes(at, middle_size);
  const auto checksum = static_cast<uint16_t>(~fold_sum(sum));
  store(at + 6, checksum != 0 ? checksum : uint16_t{0xffff});
}

// The packet becomes the outer one.
template <typename Inner, typename Outer>
void wrap(const Table& table, Packet& p, const TunnelFlow<Inner>& flow, const Middle<Outer>& middle) {
  const auto source = table.tunnel_source<Outer>().pick(flow.hash);
  const auto& destination = address_of<Outer>(table.backend(flow.backend));
  const auto payload = static_cast<uint16_t>(p.ip_length + middle.size());
  if (middle.is_gue) {
    uint8_t* const at = p.l3 - middle.size();
    write_middle<Inner>(at, middle);
    // The hash's low bits choose the source address.
    write_udp<Outer>(at, payload, middle.size(), flow.hash >> 40, table.settings().gue_port,
                     sum_of_packet<Inner>(p), source, destination);
  }
  const uint8_t protocol = middle.is_gue ? uint8_t{IPPROTO_UDP} : kTunnelProtocol<Inner>;
  const OwnHeader header = tunnel_header<Inner>(p.l3, protocol, payload, flow.hash);
  p.l3 -= Outer::kHeaderSize + middle.size();
  p.ip_length = static_cast<uint16_t>(payload + Outer::kHeaderSize);
  p.is_v6 = Outer::kFamily == Family::v6;
  p.kind = Kind::other_ip;
  write_ip_header<Outer>(p.l3, source, destination, header);
}

template <typename Inner, typename Outer>
bool send_wrapped(WorkerCore& core, Packet& p, const TunnelFlow<Inner>& flow, const Middle<Outer>& middle,
                  uint16_t hop) {
  if (room_before(p) < Outer::kHeaderSize + middle.size() + kLargestL2) {
    drop(core, p.mbuf, DropReason::tunnel_no_headroom);
    return false;
  }
  wrap(*core.table, p, flow, middle);
  return send_by_hop(core, p, hop);
}

// What does not fit may be split before it is wrapped (RFC 2003 section 3.1: outer headers say "do not
// fragment"), so that the end of the tunnel need not put together what others send it.
template <typename Inner, typename Outer>
[[gnu::noinline]] bool send_split_inside(WorkerCore& core, Packet& p, const TunnelFlow<Inner>& flow,
                                         const Middle<Outer>& middle, uint16_t hop, uint32_t mtu) {
  Pieces pieces;
  if (!split<Inner>(core, p, mtu, pieces)) return false;
  bool is_sent = false;
  for (uint32_t i = 0; i < pieces.count; ++i)
    is_sent |= send_wrapped<Inner, Outer>(core, pieces.packets[i], flow, middle, hop);
  return is_sent;
}

template <typename Inner, typename Outer>
bool send_inside(WorkerCore& core, Packet& p, const TunnelFlow<Inner>& flow) {
  const TableBackend& backend = core.table->backend(flow.backend);
  const uint16_t hop = Outer::kFamily == Family::v4 ? backend.next_hop_v4 : backend.next_hop_v6;
  if (hop == kNone) {
    drop(core, p.mbuf, DropReason::no_route);
    return false;
  }
  const auto middle = middle_of<Inner, Outer>(*core.table, p, flow);
  const uint32_t mtu = core.table->next_hop(hop).mtu, added = Outer::kHeaderSize + middle.size();
  if (p.ip_length + added > mtu) {
    if (mtu > added && fragment_size<Inner>(p, mtu - added) != 0)
      return send_split_inside<Inner, Outer>(core, p, flow, middle, hop, mtu - added);
    answer_too_big<Inner>(core, p, mtu > added ? mtu - added : 0);
    return false;
  }
  return send_wrapped<Inner, Outer>(core, p, flow, middle, hop);
}

}  // namespace

template <typename F>
bool send_through_tunnel(WorkerCore& core, Packet& p, const TunnelFlow<F>& flow) {
  const auto outer = core.table->tunnel_family(core.table->backend(flow.backend), F::kFamily);
  if (outer == Family::v4) return send_inside<F, V4>(core, p, flow);
  if (outer == Family::v6) return send_inside<F, V6>(core, p, flow);
  drop(core, p.mbuf, DropReason::no_backend);
  return false;
}

template bool send_through_tunnel<V4>(WorkerCore&, Packet&, const TunnelFlow<V4>&);
template bool send_through_tunnel<V6>(WorkerCore&, Packet&, const TunnelFlow<V6>&);

}  // namespace portico
