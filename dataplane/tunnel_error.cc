// SPDX-License-Identifier: Apache-2.0
// ICMP errors about our own tunnel packets: routers on the way to a backend send them to a tunnel's outer
// source. They become errors about the client's packet inside, from the VIP to the client (RFC 2003 section
// 4, RFC 2473 section 8). Nothing is remembered: whichever balancer gets one does the same.
#include "bpf/gue.h"
#include "dataplane/parse.h"
#include "dataplane/stages.h"
#include "dataplane/too_big.h"

namespace portico {

namespace {

constexpr uint32_t kUdpSize = 8;
constexpr uint32_t kLeastTcp = 8;  // what every error embeds of TCP at least (RFC 792)

// Bytes that can be read.
struct Piece {
  uint8_t* at;
  uint32_t size;

  bool skip(uint32_t bytes) {
    if (bytes > size) return false;
    at += bytes;
    size -= bytes;
    return true;
  }
};

// Skips UDP and GUE, as send_through_tunnel() writes them; tells the inner packet's protocol.
bool skip_gue(Piece& piece, uint16_t port, uint8_t& protocol) {
  if (piece.size < kUdpSize + sizeof(gue_header) || load<uint16_t>(piece.at + 2) != htons(port)) return false;
  const auto header = load<gue_header>(piece.at + kUdpSize);
  if (header.first & GUE_VARIANT_AND_CONTROL) return false;
  protocol = header.protocol;
  return piece.skip(kUdpSize + uint32_t{sizeof header} + (header.first & GUE_WORDS) * 4u);
}

// Skips an outer header of ours: without options or extensions.
template <typename Outer>
bool skip_outer(const Table& table, Piece& piece, uint8_t& protocol) {
  constexpr uint8_t kFirst = Outer::kFamily == Family::v4 ? 0x45 : 0x60;
  constexpr uint8_t kFirstMask = Outer::kFamily == Family::v4 ? 0xff : 0xf0;
  if (piece.size < Outer::kHeaderSize || (piece.at[0] & kFirstMask) != kFirst) return false;
  protocol = piece.at[Outer::kFamily == Family::v4 ? 9 : 6];
  piece.skip(Outer::kHeaderSize);
  if (protocol == IPPROTO_UDP && !skip_gue(piece, table.settings().gue_port, protocol)) return false;
  return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

// What the error says about the inner packet, `added` bytes of which were the outer one's.
template <typename Outer>
std::optional<OwnError> translated(const uint8_t* icmp, uint32_t added, uint32_t least) {
  constexpr bool kIsV4 = Outer::kFamily == Family::v4;
  const uint8_t type = icmp[0];
  const bool is_too_big = kIsV4 ? type == 3 && icmp[1] == 4 : type == 2;
  if (is_too_big) {
    const uint32_t mtu = kIsV4 ? ntohs(load<uint16_t>(icmp + 6)) : ntohl(load<uint32_t>(icmp + 4));
    return OwnError{std::clamp(mtu > added ? mtu - added : 0, least, uint32_t{UINT16_MAX})};
  }
  if (kIsV4 ? type == 3 || type == 11 : type == 1 || type == 3) return OwnError{0};
  return std::nullopt;
}

// Only who sees our packets can tell the outer source of a flow, which the secret key chooses.
template <typename Inner, typename Outer>
bool is_ours(const Table& table, const uint8_t* outer, const uint8_t* l3, const uint8_t* tcp) {
  const uint16_t service = table.find_service(destination_of<Inner>(l3), tcp_destination_port(tcp));
  return service != kNone && is_tunnel(table.service(service).mode) &&
         table.is_backend(destination_of<Outer>(outer)) &&
         source_of<Outer>(outer) == table.tunnel_source<Outer>().pick(tunnel_hash<Inner>(table, l3, tcp));
}

// The mbuf becomes the error to the client; `inner`: what is there of its packet.
template <typename Inner, typename Outer>
void tell_client(WorkerCore& core, Packet& p, const uint8_t* outer, const Piece& inner) {
  const IpParts parts = parse_ip(inner.at, inner.size, kCut);
  const bool is_v6 = Inner::kFamily == Family::v6;
  if (parts.kind != Kind::tcp || parts.is_v6 != is_v6 || parts.l4_offset + kLeastTcp > inner.size ||
      !is_ours<Inner, Outer>(*core.table, outer, inner.at, inner.at + parts.l4_offset))
    return drop(core, p.mbuf, DropReason::icmp_unknown_flow);
  const auto added = static_cast<uint32_t>(inner.at - outer);
  const auto error = translated<Outer>(p.l4, added, kLeastMtu<Inner>);
  if (!error) return drop(core, p.mbuf, DropReason::icmp_invalid);
  if (!core.too_big.take(core.cycles, core.table->settings().reset_rate))
    return drop(core, p.mbuf, DropReason::rate_limited);
  constexpr uint32_t kAdded = Inner::kHeaderSize + kIcmpHeaderSize;
  static_assert(kAdded <= Outer::kHeaderSize + kIcmpHeaderSize + Outer::kHeaderSize, "it finds room");
  const uint32_t embedded = std::min({inner.size, parts.total_length, kLargestError<Inner> - kAdded});
  const auto client = source_of<Inner>(inner.at), vip = destination_of<Inner>(inner.at);
  p.l3 = inner.at - kAdded;
  p.is_v6 = is_v6;
  trim(p, write_own_error<Inner>(p.l3, vip, client, *error, embedded));
  if (!send_by_route<Inner>(core, p, client)) return;
  bump(core.counters.forwarded);
}

}  // namespace

template <typename F>
void forward_tunnel_error(WorkerCore& core, Packet& p) {
  const uint8_t* const end = rte_pktmbuf_mtod(p.mbuf, uint8_t*) + rte_pktmbuf_data_len(p.mbuf);
  const uint8_t* const packet_end = std::min<const uint8_t*>(p.l3 + p.ip_length, end);
  uint8_t* const outer = p.l4 + kIcmpHeaderSize;
  if (outer >= packet_end) return drop(core, p.mbuf, DropReason::icmp_invalid);
  Piece piece{outer, static_cast<uint32_t>(packet_end - outer)};
  uint8_t protocol = 0;
  if (!skip_outer<F>(*core.table, piece, protocol) || source_of<F>(outer) != destination_of<F>(p.l3))
    return drop(core, p.mbuf, DropReason::icmp_invalid);
  protocol == IPPROTO_IPIP ? tell_client<V4, F>(core, p, outer, piece)
                           : tell_client<V6, F>(core, p, outer, piece);
}

template void forward_tunnel_error<V4>(WorkerCore&, Packet&);
template void forward_tunnel_error<V6>(WorkerCore&, Packet&);

}  // namespace portico
