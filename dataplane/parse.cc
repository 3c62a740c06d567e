// SPDX-License-Identifier: Apache-2.0
#include "dataplane/parse.h"

#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/family.h"

namespace portico {

namespace {

constexpr uint16_t kEtherIpv4 = 0x0800, kEtherIpv6 = 0x86dd, kEtherVlan = 0x8100, kEtherServiceVlan = 0x88a8;
constexpr uint32_t kEtherHeaderSize = 14, kVlanSize = 4, kMaxVlans = 2;
constexpr uint16_t kVlanMask = 0x0fff;
// As many as any sane sender uses (RFC 8504 section 5.3 lets a receiver bound the chain).
constexpr uint32_t kMaxExtensions = 8;
constexpr uint32_t kIcmpHeaderSize = 8;

IpParts malformed(DropReason reason) {
  return {Kind::malformed, reason, false, 0, 0, 0};
}

// IANA's special-purpose registry: no packet from outside has such a source.
bool is_bad_source_v4(const uint8_t* source) {
  return source[0] == 0 || source[0] == 127 || source[0] >= 224;
}

// Unspecified, loopback, multicast.
bool is_bad_source_v6(const uint8_t* source) {
  const auto words = load<V6::Ip>(source);
  return source[0] == 0xff || (words[0] == 0 && (words[1] == 0 || words[1] == htobe64(1)));
}

bool is_icmp_error(uint8_t type, bool is_v6) {
  if (is_v6) return type >= 1 && type <= 4;      // RFC 4443: types below 128 are errors; 1..4 are defined
  return type == 3 || type == 11 || type == 12;  // RFC 792; source quench is deprecated (RFC 6633)
}

// The kind that the last header's protocol makes of the packet.
void find_kind(IpParts& parts, const uint8_t* l3, uint32_t available) {
  parts.kind = Kind::other_ip;
  if (parts.protocol == IPPROTO_TCP) parts.kind = Kind::tcp;
  const uint8_t icmp = parts.is_v6 ? V6::kIcmpProtocol : V4::kIcmpProtocol;
  if (parts.protocol != icmp) return;
  const uint32_t end = parts.total_length < available ? parts.total_length : available;
  if (parts.l4_offset + kIcmpHeaderSize <= end && is_icmp_error(l3[parts.l4_offset], parts.is_v6))
    parts.kind = Kind::icmp_error;
}

IpParts parse_v4(const uint8_t* l3, uint32_t available, uint32_t whole) {
  if (available < V4::kHeaderSize) return malformed(DropReason::truncated);
  const uint32_t header = (l3[0] & 0x0fu) * 4;
  const uint32_t total = ntohs(load<uint16_t>(l3 + 2));
  if (header < V4::kHeaderSize || total < header) return malformed(DropReason::bad_ip_header);
  if (header > available || (whole != kCut && total > whole)) return malformed(DropReason::truncated);
  if (whole != kCut && fold_sum(sum_bytes(l3, header)) != 0xffff)
    return malformed(DropReason::bad_ip_checksum);
  if (whole != kCut && is_bad_source_v4(l3 + V4::kSourceOffset)) return malformed(DropReason::bad_source);
  IpParts parts{Kind::fragment, {}, false, l3[9], header, total};
  const uint16_t fragment = ntohs(load<uint16_t>(l3 + 6));
  if ((fragment & 0x3fff) == 0) find_kind(parts, l3, available);  // neither "more fragments" nor an offset
  return parts;
}

// RFC 8200 section 4. Hop-by-hop options, destination options and a used-up routing header may stand before
// TCP.
IpParts parse_v6(const uint8_t* l3, uint32_t available, uint32_t whole) {
  if (available < V6::kHeaderSize) return malformed(DropReason::truncated);
  const uint32_t total = V6::kHeaderSize + ntohs(load<uint16_t>(l3 + 4));
  if (whole != kCut && total > whole) return malformed(DropReason::truncated);
  if (whole != kCut && is_bad_source_v6(l3 + V6::kSourceOffset)) return malformed(DropReason::bad_source);
  const uint32_t end = total < available ? total : available;
  IpParts parts{Kind::other_ip, {}, true, l3[6], V6::kHeaderSize, total};
  for (uint32_t i = 0;; ++i) {
    const uint8_t* const header = l3 + parts.l4_offset;
    switch (parts.protocol) {
      case IPPROTO_FRAGMENT:
        parts.kind = Kind::fragment;
        return parts;
      case IPPROTO_HOPOPTS:
      case IPPROTO_DSTOPTS:
      case IPPROTO_ROUTING:
        break;
      default:
        find_kind(parts, l3, available);
        return parts;
    }
    if (i == kMaxExtensions) return malformed(DropReason::ipv6_extension);
    if (parts.l4_offset + 8 > end) return malformed(DropReason::truncated);
    if (parts.protocol == IPPROTO_ROUTING && header[3] != 0) return malformed(DropReason::ipv6_extension);
    parts.protocol = header[0];
    parts.l4_offset += (header[1] + 1u) * 8;
    if (parts.l4_offset > end) return malformed(DropReason::truncated);
  }
}

// What an Ethernet header says. `type` 0: the frame is too short. `offset`: where the payload starts.
struct EthernetParts {
  uint16_t type, vlan;
  uint32_t offset;
};

EthernetParts parse_ethernet(const uint8_t* frame, uint32_t available) {
  uint32_t offset = kEtherHeaderSize;
  if (available < offset) return {0, 0, offset};
  uint16_t type = ntohs(load<uint16_t>(frame + 12)), vlan = 0;
  for (uint32_t i = 0; i < kMaxVlans && (type == kEtherVlan || type == kEtherServiceVlan); ++i) {
    if (available < offset + kVlanSize) return {0, vlan, offset};
    const uint16_t id = ntohs(load<uint16_t>(frame + offset)) & kVlanMask;
    if (id != 0) vlan = type == kEtherVlan && vlan == 0 ? id : kForeignVlan;
    type = ntohs(load<uint16_t>(frame + offset + 2));
    offset += kVlanSize;
  }
  return {type, vlan, offset};
}

void fail(Packet& packet, DropReason reason) {
  packet.kind = Kind::malformed;
  packet.reason = reason;
}

// `readable`: bytes from the TCP header on that are in the first segment.
void parse_tcp(Packet& packet, uint32_t l4_offset, uint32_t readable) {
  const uint32_t available = packet.ip_length - l4_offset;
  if (available < kTcpHeaderSize || readable < kTcpHeaderSize)
    return fail(packet, DropReason::bad_tcp_header);
  const uint32_t header = (packet.l4[12] >> 4) * 4u;
  if (header < kTcpHeaderSize || header > available || header > readable)
    return fail(packet, DropReason::bad_tcp_header);
  packet.flags = packet.l4[13] & 0x3f;
  packet.payload = static_cast<uint16_t>(available - header);
  if (!are_sane_tcp_flags(packet.flags)) fail(packet, DropReason::bad_tcp_flags);
}

// `readable`: bytes from the IP header on that are in the first segment; `whole`: in all.
void parse_packet(Packet& packet, uint32_t readable, uint32_t whole) {
  if (readable > 0 && (packet.l3[0] >> 4 == 6) != packet.is_v6)
    return fail(packet, DropReason::bad_ip_header);
  const IpParts parts = parse_ip(packet.l3, readable, whole);
  if (parts.kind == Kind::malformed) return fail(packet, parts.reason);
  if (parts.total_length > UINT16_MAX) return fail(packet, DropReason::bad_ip_header);
  packet.kind = parts.kind;
  packet.ip_length = static_cast<uint16_t>(parts.total_length);
  packet.l4 = packet.l3 + parts.l4_offset;
  if (parts.kind == Kind::tcp) parse_tcp(packet, parts.l4_offset, readable - parts.l4_offset);
}

}  // namespace

IpParts parse_ip(const uint8_t* l3, uint32_t available, uint32_t whole) {
  if (available == 0) return malformed(DropReason::truncated);
  if (l3[0] >> 4 == 4) return parse_v4(l3, available, whole);
  if (l3[0] >> 4 == 6) return parse_v6(l3, available, whole);
  return malformed(DropReason::bad_ip_header);
}

uint16_t parse_frame(Packet& packet) {
  uint8_t* const frame = rte_pktmbuf_mtod(packet.mbuf, uint8_t*);
  const uint32_t first_segment = rte_pktmbuf_data_len(packet.mbuf);
  const auto [type, vlan, offset] = parse_ethernet(frame, first_segment);
  packet.kind = Kind::not_ip;
  if (type == 0) {
    fail(packet, DropReason::truncated);
  } else if (type == kEtherIpv4 || type == kEtherIpv6) {
    packet.l3 = frame + offset;
    packet.is_v6 = type == kEtherIpv6;
    parse_packet(packet, first_segment - offset, rte_pktmbuf_pkt_len(packet.mbuf) - offset);
  }
  return vlan;
}

}  // namespace portico
