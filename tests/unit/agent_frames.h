// SPDX-License-Identifier: Apache-2.0
// Tunnel packets for the tests of the portal hosts' programs: lengths and checksums are right, put together
// from the inside out.
#pragma once

#include <cstdint>
#include <string>

#include "bpf/gue.h"
#include "tests/unit/steer_frames.h"

namespace portico::frames {

inline constexpr uint8_t kIpInIp = 4, kIp6InIp = 41;
inline constexpr uint16_t kIp = 0x0800, kIp6 = 0x86dd;

inline uint32_t words(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
  return sum;
}
inline uint16_t checksum(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}
inline void set16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}
inline uint16_t get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline Bytes part(const Bytes& bytes, size_t from, size_t size = SIZE_MAX) {
  const auto begin = bytes.begin() + static_cast<ptrdiff_t>(from);
  return {begin, size < bytes.size() - from ? begin + static_cast<ptrdiff_t>(size) : bytes.end()};
}

struct IpHeader {
  std::string from, to;
  uint8_t protocol = kTcp;
  uint8_t traffic_class = 0;  // DSCP and ECN
  uint8_t ttl = 64;
  uint16_t fragment = 0x4000;  // IPv4: flags and offset
  Bytes options;               // IPv4
};

// An IP packet of either family, by its addresses.
inline Bytes ip_packet(const IpHeader& header, const Bytes& payload) {
  const Bytes addresses = address_bytes(header.from) + address_bytes(header.to);
  if (addresses.size() == 32) {
    const auto high = static_cast<uint8_t>(0x60 | header.traffic_class >> 4);
    const auto low = static_cast<uint8_t>(header.traffic_class << 4);
    return Bytes{high, low, 0, 0} + be16(static_cast<unsigned>(payload.size())) +
           Bytes{header.protocol, header.ttl} + addresses + payload;
  }
  const size_t size = 20 + header.options.size();
  Bytes ip = Bytes{static_cast<uint8_t>(0x40 | size / 4), header.traffic_class} +
             be16(static_cast<unsigned>(size + payload.size())) + be16(1) + be16(header.fragment) +
             Bytes{header.ttl, header.protocol, 0, 0} + addresses + header.options;
  set16(ip, 10, checksum(words(ip)));
  return ip + payload;
}

// TCP's or UDP's checksum of a payload between two addresses; 0 if the one that is in there is right.
inline uint16_t transport_sum(const std::string& from, const std::string& to, uint8_t protocol,
                              const Bytes& payload) {
  return checksum(words(address_bytes(from)) + words(address_bytes(to)) + protocol +
                  static_cast<uint32_t>(payload.size()) + words(payload));
}

inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

inline Bytes tcp_segment(const std::string& from, const std::string& to, uint16_t source,
                         uint16_t destination, uint8_t flags, uint32_t sequence = 1,
                         uint32_t acknowledged = 0, const Bytes& options = {}, const Bytes& data = {}) {
  const auto offset = static_cast<uint8_t>((20 + options.size()) / 4 << 4);
  Bytes tcp = be16(source) + be16(destination) + be16(sequence >> 16) + be16(sequence & 0xffff) +
              be16(acknowledged >> 16) + be16(acknowledged & 0xffff) + Bytes{offset, flags} + be16(1000) +
              Bytes{0, 0, 0, 0} + options + data;
  set16(tcp, 16, transport_sum(from, to, kTcp, tcp));
  return tcp;
}

// GUE over UDP. `hops`: of the outer family; `next`: how many of them have been tried.
struct Gue {
  std::vector<std::string> hops;
  uint8_t next = 0;
  uint16_t type = GUE_HOPS_TYPE;
  uint16_t port = GUE_DEFAULT_PORT;
  bool with_sum = true;
};

inline Bytes gue_packet(const IpHeader& outer, const Gue& gue, uint8_t inner_protocol, const Bytes& inner) {
  Bytes list;
  for (const auto& hop : gue.hops) list = list + address_bytes(hop);
  Bytes options;
  if (!gue.hops.empty())
    options = be16(gue.type) + Bytes{gue.next, static_cast<uint8_t>(gue.hops.size())} + list;
  const Bytes header = Bytes{static_cast<uint8_t>(options.size() / 4), inner_protocol, 0, 0} + options;
  Bytes udp = be16(50000) + be16(gue.port) + be16(static_cast<unsigned>(8 + header.size() + inner.size())) +
              Bytes{0, 0} + header + inner;
  if (gue.with_sum) set16(udp, 6, transport_sum(outer.from, outer.to, kUdp, udp));
  IpHeader ip = outer;
  ip.protocol = kUdp;
  return ip_packet(ip, udp);
}

inline Bytes frame_of(const Bytes& packet) {
  return ethernet(packet.at(0) >> 4 == 6 ? kIp6 : kIp) + packet;
}
inline Bytes tagged_frame_of(const Bytes& packet) {
  return vlan(packet.at(0) >> 4 == 6 ? kIp6 : kIp) + packet;
}

}  // namespace portico::frames
