// SPDX-License-Identifier: Apache-2.0
#include "dataplane/kernel_rules.h"

#include <netinet/in.h>

#include <cstring>

#include "dataplane/family.h"

namespace portico {
namespace {

constexpr uint32_t kEthernetSize = 14, kVlanSize = 4, kIcmpErrorSize = 8, kPortsSize = 4;
constexpr uint32_t kSourceMac = 6;
constexpr uint32_t kMaxExtensions = 8;
constexpr uint8_t kNeverForwarded = 255;  // a hop limit that no router has lowered
constexpr uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kVlan = 0x8100;

// An IP packet, outer or embedded in an ICMP error.
struct View {
  Address source, destination;
  uint32_t payload;  // offset in the frame of what follows the IP headers
  uint8_t protocol;
  uint8_t hop_limit;
  bool is_fragment;  // first or later
  bool is_later;     // not the first one: no ports
};

struct Frame {
  const uint8_t* bytes;
  uint32_t size;

  bool has(uint32_t at, uint32_t count) const { return at <= size && count <= size - at; }
  uint8_t byte(uint32_t at) const { return bytes[at]; }
  uint16_t be16(uint32_t at) const { return ntohs(load<uint16_t>(bytes + at)); }
};

bool read_v4(const Frame& frame, uint32_t at, View& view) {
  if (!frame.has(at, V4::kHeaderSize) || frame.byte(at) >> 4 != 4) return false;
  const uint32_t words = frame.byte(at) & 0x0fu;
  if (words < 5) return false;
  const uint16_t fragment = frame.be16(at + 6);
  view = {.source = Address::from_v4(source_of<V4>(frame.bytes + at)),
          .destination = Address::from_v4(destination_of<V4>(frame.bytes + at)),
          .payload = at + words * 4,
          .protocol = frame.byte(at + 9),
          .hop_limit = frame.byte(at + V4::kTtlOffset),
          .is_fragment = (fragment & 0x3fff) != 0,
          .is_later = (fragment & 0x1fff) != 0};
  return true;
}

bool read_v6(const Frame& frame, uint32_t at, View& view) {
  if (!frame.has(at, V6::kHeaderSize) || frame.byte(at) >> 4 != 6) return false;
  view = {.source = Address::from_v6(frame.bytes + at + V6::kSourceOffset),
          .destination = Address::from_v6(frame.bytes + at + V6::kDestinationOffset),
          .payload = at + V6::kHeaderSize,
          .protocol = frame.byte(at + 6),
          .hop_limit = frame.byte(at + V6::kTtlOffset),
          .is_fragment = false,
          .is_later = false};
  for (uint32_t i = 0; i < kMaxExtensions; ++i) {
    const uint32_t header = view.payload;
    switch (view.protocol) {
      case IPPROTO_HOPOPTS:
      case IPPROTO_ROUTING:
      case IPPROTO_DSTOPTS:
        if (!frame.has(header, 8)) return false;
        view.protocol = frame.byte(header);
        view.payload += 8 + frame.byte(header + 1) * 8u;
        break;
      case IPPROTO_FRAGMENT:
        if (!frame.has(header, 8)) return false;
        view.is_fragment = true;
        view.is_later = (frame.be16(header + 2) & 0xfff8) != 0;
        view.protocol = frame.byte(header);
        view.payload += 8;
        if (view.is_later) return true;
        break;
      default:
        return true;
    }
  }
  return false;
}

bool is_address(const Table& table, const Address& address) {
  return (address.is_v4() ? table.find_local(address.v4()) : table.find_local(V6::from(address))) != nullptr;
}

bool is_tunnel_source(const Table& table, const Address& address) {
  return address.is_v4() ? table.tunnel_source<V4>().contains(address.v4())
                         : table.tunnel_source<V6>().contains(V6::from(address));
}

// A listener, or a port of a NAT address's range. `port` as in the packet.
bool is_endpoint(const Table& table, const Address& address, uint16_t port) {
  const bool is_v4 = address.is_v4();
  const uint16_t service =
      is_v4 ? table.find_service(address.v4(), port) : table.find_service(V6::from(address), port);
  if (service != kNone) return true;
  const LocalAddress* local = is_v4 ? table.find_local(address.v4()) : table.find_local(V6::from(address));
  if (local == nullptr || !local->is_nat) return false;
  const TableNat& nat = table.nat()[local->nat];
  return ntohs(port) >= nat.first_port && ntohs(port) <= nat.last_port;
}

// Whether TCP between two such ends is a backend's reply to a client, or, of an ICMP error, would be one the
// other way round. `destination` is no address of ours. The port as in the packet.
bool is_dnat_reply(const Table& table, const Address& source, uint16_t port, const Address& destination) {
  if (source.family() != destination.family()) return false;
  return source.is_v4() ? table.is_dnat_reply(source.v4(), port, destination.v4())
                        : table.is_dnat_reply(V6::from(source), port, V6::from(destination));
}

// RFC 792, RFC 4443: unreachable, time exceeded, parameter problem; for IPv6 also packet too big.
bool is_error(uint8_t type, bool is_v4) {
  return is_v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

// An ICMP error about TCP from or to an endpoint of ours; or, under way to a client, about TCP that it sent
// to a backend by way of a service in mode dnat.
bool is_our_error(const Table& table, const Frame& frame, const View& view, bool is_v4) {
  if (view.is_fragment || !frame.has(view.payload, kIcmpErrorSize)) return false;
  if (!is_error(frame.byte(view.payload), is_v4)) return false;
  View embedded;
  const uint32_t inside = view.payload + kIcmpErrorSize;
  if (!(is_v4 ? read_v4(frame, inside, embedded) : read_v6(frame, inside, embedded))) return false;
  const uint32_t ports = embedded.payload;
  if (embedded.protocol != IPPROTO_TCP || embedded.is_later || !frame.has(ports, kPortsSize)) return false;
  if (!is_address(table, view.destination))
    return is_dnat_reply(table, embedded.destination, load<uint16_t>(frame.bytes + ports + 2),
                         view.destination);
  return is_endpoint(table, embedded.source, load<uint16_t>(frame.bytes + ports)) ||
         is_endpoint(table, embedded.destination, load<uint16_t>(frame.bytes + ports + 2));
}

// What a frame's Ethernet header and tag announce.
enum class Content : uint8_t { unreadable, other, ip };

Content read_frame(const Frame& frame, View& view) {
  if (!frame.has(0, kEthernetSize)) return Content::unreadable;
  uint16_t type = frame.be16(12);
  uint32_t at = kEthernetSize;
  if (type == kVlan) {
    if (!frame.has(at, kVlanSize)) return Content::unreadable;
    type = frame.be16(at + 2);
    at += kVlanSize;
  }
  if (type != kIpv4 && type != kIpv6) return Content::other;
  const bool is_whole = type == kIpv4 ? read_v4(frame, at, view) : read_v6(frame, at, view);
  return is_whole ? Content::ip : Content::unreadable;
}

bool is_for_group(const Frame& frame) {
  return (frame.byte(0) & 1) != 0;
}

bool is_icmp(const View& view) {
  return view.protocol == (view.destination.is_v4() ? V4::kIcmpProtocol : V6::kIcmpProtocol);
}

// RFC 4861 section 6.1, 7.1 and 8.1: solicitations, advertisements and redirects, which come from this link
// or are not valid. They are not fragmented (RFC 6980).
bool is_neighbour_discovery(const Frame& frame, const View& view) {
  if (view.destination.is_v4() || view.is_fragment || view.hop_limit != kNeverForwarded) return false;
  if (!frame.has(view.payload, 1)) return false;
  const uint8_t type = frame.byte(view.payload);
  return type >= 133 && type <= 137;
}

// fe80::/10: no router forwards what comes from there.
bool is_link_local(const Address& address) {
  return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80;
}

// 224.0.0.0/24, ff02::/16: groups to which no router forwards.
bool is_group_of_link(const Address& address) {
  if (address.is_v4()) return (ntohl(address.v4()) & 0xffffff00u) == 0xe0000000u;
  return address.bytes[0] == 0xff && (address.bytes[1] & 0x0f) == 0x02;
}

template <typename Ip>
bool is_near(const Table& table, const Ip& ip, const Address& address) {
  if (table.is_backend(ip)) return true;
  const RouteChoice route = table.route(ip);
  return route.next_hop == kNone ? route.port != kNone : table.next_hop_address(route.next_hop) == address;
}

// Whether the frame comes from the MAC address of a backend on the link: what is forged elsewhere comes from
// a router's. `F` is the family of `address`.
template <typename F>
bool is_from_backend_itself(const Table& table, const Frame& frame, const typename F::Ip& ip,
                            const Address& address) {
  const uint16_t backend = table.find_backend(ip);
  if (backend == kNone) return false;
  const TableBackend& of = table.backend(backend);
  const uint16_t hop = F::kFamily == Family::v4 ? of.next_hop_v4 : of.next_hop_v6;
  if (hop == kNone || !table.next_hop(hop).resolved || table.next_hop_address(hop) != address) return false;
  return std::memcmp(table.next_hop(hop).macs.data(), frame.bytes + kSourceMac, 6) == 0;
}

template <typename F>
Urgency urgency_of_source(const Table& table, const Frame& frame, const View& view,
                          const typename F::Ip& source) {
  if (is_link_local(view.source)) return Urgency::certain;
  if (!is_near(table, source, view.source)) return Urgency::none;
  const bool is_certain = view.hop_limit == kNeverForwarded || is_group_of_link(view.destination) ||
                          is_from_backend_itself<F>(table, frame, source, view.source);
  return is_certain ? Urgency::certain : Urgency::claimed;
}

}  // namespace

bool is_for_dataplane(const Table& table, const uint8_t* bytes, uint32_t size) {
  const Frame frame{bytes, size};
  View view;
  if (read_frame(frame, view) != Content::ip) return false;
  if (is_for_group(frame)) return false;  // TCP is never sent to one
  const bool is_tcp = view.protocol == IPPROTO_TCP;
  if (!is_tcp && !is_icmp(view)) return false;
  if (!is_tcp || view.is_fragment) {
    if (is_tcp) return is_address(table, view.destination);
    if (!view.is_fragment && is_tunnel_source(table, view.destination) &&
        frame.has(view.payload, kIcmpErrorSize) &&
        is_error(frame.byte(view.payload), view.destination.is_v4()))
      return true;
    return is_our_error(table, frame, view, view.destination.is_v4());
  }
  if (!frame.has(view.payload, kPortsSize)) return false;
  if (is_endpoint(table, view.destination, load<uint16_t>(bytes + view.payload + 2))) return true;
  return !is_address(table, view.destination) &&
         is_dnat_reply(table, view.source, load<uint16_t>(bytes + view.payload), view.destination);
}

bool is_for_nobody(const Table& table, const uint8_t* bytes, uint32_t size) {
  const Frame frame{bytes, size};
  View view;
  return read_frame(frame, view) == Content::ip && view.protocol != IPPROTO_TCP && !is_icmp(view) &&
         is_address(table, view.destination);
}

Urgency urgency_of(const Table& table, const uint8_t* bytes, uint32_t size) {
  const Frame frame{bytes, size};
  View view;
  const Content content = read_frame(frame, view);
  if (content != Content::ip) return content == Content::other ? Urgency::certain : Urgency::none;
  if (is_icmp(view)) return is_neighbour_discovery(frame, view) ? Urgency::certain : Urgency::none;
  return view.source.is_v4() ? urgency_of_source<V4>(table, frame, view, view.source.v4())
                             : urgency_of_source<V6>(table, frame, view, V6::from(view.source));
}

}  // namespace portico
