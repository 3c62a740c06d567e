// SPDX-License-Identifier: Apache-2.0
#include "dataplane/kernel_rules.h"

#include <netinet/in.h>

#include "dataplane/family.h"

namespace portico {
namespace {

constexpr uint32_t kEthernetSize = 14, kVlanSize = 4, kIcmpErrorSize = 8, kPortsSize = 4;
constexpr uint32_t kMaxExtensions = 8;
constexpr uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kVlan = 0x8100;

// An IP packet, outer or embedded in an ICMP error.
struct View {
  Address source, destination;
  uint32_t payload;  // offset in the frame of what follows the IP headers
  uint8_t protocol;
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

// RFC 792, RFC 4443: unreachable, time exceeded, parameter problem; for IPv6 also packet too big.
bool is_error(uint8_t type, bool is_v4) {
  return is_v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

// An ICMP error about TCP from or to an endpoint of ours.
bool is_our_error(const Table& table, const Frame& frame, const View& view, bool is_v4) {
  if (view.is_fragment || !frame.has(view.payload, kIcmpErrorSize)) return false;
  if (!is_error(frame.byte(view.payload), is_v4)) return false;
  View embedded;
  const uint32_t inside = view.payload + kIcmpErrorSize;
  if (!(is_v4 ? read_v4(frame, inside, embedded) : read_v6(frame, inside, embedded))) return false;
  const uint32_t ports = embedded.payload;
  if (embedded.protocol != IPPROTO_TCP || embedded.is_later || !frame.has(ports, kPortsSize)) return false;
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

template <typename Ip>
bool is_near(const Table& table, const Ip& ip, const Address& address) {
  if (table.is_backend(ip)) return true;
  const RouteChoice route = table.route(ip);
  return route.next_hop == kNone ? route.port != kNone : table.next_hop_address(route.next_hop) == address;
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
    if (!is_address(table, view.destination)) return false;
    return is_tcp || is_our_error(table, frame, view, view.destination.is_v4());
  }
  if (!frame.has(view.payload, kPortsSize)) return false;
  return is_endpoint(table, view.destination, load<uint16_t>(bytes + view.payload + 2));
}

bool is_for_nobody(const Table& table, const uint8_t* bytes, uint32_t size) {
  const Frame frame{bytes, size};
  View view;
  return read_frame(frame, view) == Content::ip && view.protocol != IPPROTO_TCP && !is_icmp(view) &&
         is_address(table, view.destination);
}

bool is_urgent(const Table& table, const uint8_t* bytes, uint32_t size) {
  const Frame frame{bytes, size};
  View view;
  const Content content = read_frame(frame, view);
  if (content != Content::ip) return content == Content::other;
  if (is_icmp(view)) return true;
  const Address& from = view.source;
  if (view.protocol != IPPROTO_TCP) return false;
  return from.is_v4() ? is_near(table, from.v4(), from) : is_near(table, V6::from(from), from);
}

}  // namespace portico
