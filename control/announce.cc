// SPDX-License-Identifier: Apache-2.0
#include "control/announce.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace portico {

namespace {

// The MAC address of ff02::1 (RFC 2464 section 7).
constexpr MacAddress kAllNodesMac{0x33, 0x33, 0, 0, 0, 1};
constexpr in6_addr kAllNodes{{{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}};

struct Advertisement {
  nd_neighbor_advert body;
  uint8_t option_type, option_length;  // target link-layer address, in 8 bytes
  MacAddress mac;
};
static_assert(sizeof(Advertisement) == 32);

Frame neighbour_advertisement(const Address& address, const MacAddress& mac) {
  in6_addr source;
  std::memcpy(&source, address.bytes.data(), sizeof source);
  Advertisement message{};
  message.body.nd_na_hdr.icmp6_type = ND_NEIGHBOR_ADVERT;
  message.body.nd_na_hdr.icmp6_data32[0] = ND_NA_FLAG_OVERRIDE;
  message.body.nd_na_target = source;
  message.option_type = ND_OPT_TARGET_LINKADDR;
  message.option_length = 1;
  message.mac = mac;
  return discovery_frame(mac, kAllNodesMac, source, kAllNodes,
                         {reinterpret_cast<const uint8_t*>(&message), sizeof message});
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

Frame announcement(const Address& address, const MacAddress& mac) {
  return address.is_v4() ? arp_request(address, address, mac) : neighbour_advertisement(address, mac);
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
