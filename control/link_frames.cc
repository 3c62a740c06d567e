// SPDX-License-Identifier: Apache-2.0
#include "control/link_frames.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>

#include <cstddef>
#include <cstring>

namespace portico {

namespace {

constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

template <typename Part>
void append(Frame& frame, const Part& part) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&part);
  frame.insert(frame.end(), bytes, bytes + sizeof part);
}

ether_header ethernet(const MacAddress& to, const MacAddress& from, uint16_t type) {
  ether_header header{};
  std::memcpy(header.ether_dhost, to.data(), to.size());
  std::memcpy(header.ether_shost, from.data(), from.size());
  header.ether_type = htons(type);
  return header;
}

// RFC 4443 section 2.3: over the pseudo-header and the message, whose own checksum is zero and whose size is
// even.
uint16_t checksum(const ip6_hdr& ip, std::span<const uint8_t> message) {
  Frame bytes;
  append(bytes, ip.ip6_src);
  append(bytes, ip.ip6_dst);
  append(bytes, htonl(static_cast<uint32_t>(message.size())));
  append(bytes, htonl(IPPROTO_ICMPV6));
  bytes.insert(bytes.end(), message.begin(), message.end());
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

}  // namespace

Frame arp_request(const Address& sender, const Address& target, const MacAddress& mac) {
  ether_arp arp{};
  arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
  arp.ea_hdr.ar_pro = htons(ETHERTYPE_IP);
  arp.ea_hdr.ar_hln = sizeof arp.arp_sha;
  arp.ea_hdr.ar_pln = sizeof arp.arp_spa;
  arp.ea_hdr.ar_op = htons(ARPOP_REQUEST);
  const uint32_t sender_v4 = sender.v4(), target_v4 = target.v4();
  std::memcpy(arp.arp_sha, mac.data(), mac.size());
  std::memcpy(arp.arp_spa, &sender_v4, sizeof sender_v4);
  std::memcpy(arp.arp_tpa, &target_v4, sizeof target_v4);
  Frame frame;
  append(frame, ethernet(kBroadcast, mac, ETHERTYPE_ARP));
  append(frame, arp);
  return frame;
}

Frame discovery_frame(const MacAddress& from, const MacAddress& to, const in6_addr& source,
                      const in6_addr& destination, std::span<const uint8_t> message) {
  ip6_hdr ip{};
  ip.ip6_flow = htonl(6u << 28);
  ip.ip6_plen = htons(static_cast<uint16_t>(message.size()));
  ip.ip6_nxt = IPPROTO_ICMPV6;
  ip.ip6_hlim = 255;
  ip.ip6_src = source;
  ip.ip6_dst = destination;
  const uint16_t sum = checksum(ip, message);
  Frame frame;
  append(frame, ethernet(to, from, ETHERTYPE_IPV6));
  append(frame, ip);
  const size_t at = frame.size() + offsetof(icmp6_hdr, icmp6_cksum);
  frame.insert(frame.end(), message.begin(), message.end());
  std::memcpy(&frame[at], &sum, sizeof sum);
  return frame;
}

}  // namespace portico
