// SPDX-License-Identifier: Apache-2.0
#include "control/announce.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace portico {

namespace {

using Frame = std::vector<uint8_t>;

constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
// ff02::1 and its MAC (RFC 2464 section 7).
constexpr MacAddress kAllNodesMac{0x33, 0x33, 0, 0, 0, 1};
constexpr uint8_t kAllNodes[16] = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

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

Frame arp_announcement(const Address& address, const MacAddress& mac) {
  ether_arp arp{};
  arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
  arp.ea_hdr.ar_pro = htons(ETHERTYPE_IP);
  arp.ea_hdr.ar_hln = sizeof arp.arp_sha;
  arp.ea_hdr.ar_pln = sizeof arp.arp_spa;
  arp.ea_hdr.ar_op = htons(ARPOP_REQUEST);
  const uint32_t v4 = address.v4();
  std::memcpy(arp.arp_sha, mac.data(), mac.size());
  std::memcpy(arp.arp_spa, &v4, sizeof v4);
  std::memcpy(arp.arp_tpa, &v4, sizeof v4);
  Frame frame;
  append(frame, ethernet(kBroadcast, mac, ETHERTYPE_ARP));
  append(frame, arp);
  return frame;
}

struct Advertisement {
  nd_neighbor_advert body;
  uint8_t option_type, option_length;  // target link-layer address, in 8 bytes
  MacAddress mac;
};
static_assert(sizeof(Advertisement) == 32);

// RFC 4443 section 2.3: over the pseudo-header and the message, whose own checksum is zero.
uint16_t checksum(const ip6_hdr& ip, const Advertisement& message) {
  Frame bytes;
  append(bytes, ip.ip6_src);
  append(bytes, ip.ip6_dst);
  append(bytes, htonl(sizeof message));
  append(bytes, htonl(IPPROTO_ICMPV6));
  append(bytes, message);
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); i += 2) sum += static_cast<uint32_t>(bytes[i] << 8 | bytes[i + 1]);
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

Frame neighbour_advertisement(const Address& address, const MacAddress& mac) {
  ip6_hdr ip{};
  ip.ip6_flow = htonl(6u << 28);
  ip.ip6_plen = htons(sizeof(Advertisement));
  ip.ip6_nxt = IPPROTO_ICMPV6;
  ip.ip6_hlim = 255;
  std::memcpy(&ip.ip6_src, address.bytes.data(), sizeof ip.ip6_src);
  std::memcpy(&ip.ip6_dst, kAllNodes, sizeof ip.ip6_dst);

  Advertisement message{};
  message.body.nd_na_hdr.icmp6_type = ND_NEIGHBOR_ADVERT;
  message.body.nd_na_hdr.icmp6_data32[0] = ND_NA_FLAG_OVERRIDE;
  std::memcpy(&message.body.nd_na_target, address.bytes.data(), sizeof message.body.nd_na_target);
  message.option_type = ND_OPT_TARGET_LINKADDR;
  message.option_length = 1;
  message.mac = mac;
  message.body.nd_na_hdr.icmp6_cksum = checksum(ip, message);

  Frame frame;
  append(frame, ethernet(kAllNodesMac, mac, ETHERTYPE_IPV6));
  append(frame, ip);
  append(frame, message);
  return frame;
}

bool send_on(int ifindex, int fd, const Address& address) {
  ifreq request{};
  request.ifr_ifindex = ifindex;
  if (ioctl(fd, SIOCGIFNAME, &request) != 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0) return false;
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return true;
  MacAddress mac;
  std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  const Frame frame = announcement(address, mac);
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = ifindex;
  return sendto(fd, frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to) >= 0;
}

}  // namespace

std::vector<uint8_t> announcement(const Address& address, const MacAddress& mac) {
  return address.is_v4() ? arp_announcement(address, mac) : neighbour_advertisement(address, mac);
}

bool announce(const Address& address, int ifindex) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const bool sent = send_on(ifindex, fd, address);
  const int error = errno;
  close(fd);
  errno = error;
  return sent;
}

}  // namespace portico
