// SPDX-License-Identifier: Apache-2.0
#include "control/doctor/who_answers.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "contract/run_dir.h"

namespace portico::doctor {

namespace {

using Clock = std::chrono::steady_clock;
using Frame = std::vector<uint8_t>;

constexpr MacAddress kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::chrono::milliseconds kAskAgain{200};

template <typename Part>
void append(Frame& frame, const Part& part) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&part);
  frame.insert(frame.end(), bytes, bytes + sizeof part);
}

// The part of the frame at `at`; false if it ends before.
template <typename Part>
bool take(std::span<const uint8_t> frame, size_t at, Part& part) {
  if (frame.size() < at + sizeof part) return false;
  std::memcpy(&part, frame.data() + at, sizeof part);
  return true;
}

ether_header ethernet(const MacAddress& to, const MacAddress& from, uint16_t type) {
  ether_header header{};
  std::memcpy(header.ether_dhost, to.data(), to.size());
  std::memcpy(header.ether_shost, from.data(), from.size());
  header.ether_type = htons(type);
  return header;
}

// The sender's address is 0.0.0.0: nobody learns anything of it.
Frame arp_probe(const Address& address, const MacAddress& mac) {
  ether_arp arp{};
  arp.ea_hdr.ar_hrd = htons(ARPHRD_ETHER);
  arp.ea_hdr.ar_pro = htons(ETHERTYPE_IP);
  arp.ea_hdr.ar_hln = sizeof arp.arp_sha;
  arp.ea_hdr.ar_pln = sizeof arp.arp_spa;
  arp.ea_hdr.ar_op = htons(ARPOP_REQUEST);
  const uint32_t v4 = address.v4();
  std::memcpy(arp.arp_sha, mac.data(), mac.size());
  std::memcpy(arp.arp_tpa, &v4, sizeof v4);
  Frame frame;
  append(frame, ethernet(kBroadcast, mac, ETHERTYPE_ARP));
  append(frame, arp);
  return frame;
}

// RFC 4443 section 2.3: over the pseudo-header and the message, whose own checksum is zero.
uint16_t checksum(const ip6_hdr& ip, const nd_neighbor_solicit& message) {
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

// From the unspecified address to the solicited-node group (RFC 4291 section 2.7.1).
Frame solicitation(const Address& address, const MacAddress& mac) {
  const uint8_t* low = address.bytes.data() + 13;
  ip6_hdr ip{};
  ip.ip6_flow = htonl(6u << 28);
  ip.ip6_plen = htons(sizeof(nd_neighbor_solicit));
  ip.ip6_nxt = IPPROTO_ICMPV6;
  ip.ip6_hlim = 255;
  const std::array<uint8_t, 16> group{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, low[0], low[1], low[2]};
  std::memcpy(&ip.ip6_dst, group.data(), group.size());
  nd_neighbor_solicit message{};
  message.nd_ns_hdr.icmp6_type = ND_NEIGHBOR_SOLICIT;
  std::memcpy(&message.nd_ns_target, address.bytes.data(), sizeof message.nd_ns_target);
  message.nd_ns_hdr.icmp6_cksum = checksum(ip, message);
  Frame frame;
  append(frame, ethernet({0x33, 0x33, 0xff, low[0], low[1], low[2]}, mac, ETHERTYPE_IPV6));
  append(frame, ip);
  append(frame, message);
  return frame;
}

std::optional<Answer> known(const Address& address, const MacAddress& mac, bool is_answer,
                            std::span<const Address> addresses) {
  if (std::find(addresses.begin(), addresses.end(), address) == addresses.end()) return std::nullopt;
  return Answer{address, mac, is_answer};
}

MacAddress mac_of(int fd, const std::string& interface) {
  ifreq request{};
  std::memcpy(request.ifr_name, interface.c_str(), std::min(interface.size(), sizeof request.ifr_name - 1));
  MacAddress mac{};
  if (ioctl(fd, SIOCGIFHWADDR, &request) == 0)
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  return mac;
}

void receive(int fd, const MacAddress& own, std::span<const Address> addresses, std::set<Answer>& answers) {
  std::array<uint8_t, 2048> buffer;
  for (;;) {
    const ssize_t size = recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) return;
    const auto answer = read_answer({buffer.data(), static_cast<size_t>(size)}, addresses);
    if (answer && answer->mac != own) answers.insert(*answer);
  }
}

}  // namespace

std::vector<uint8_t> probe_frame(const Address& address, const MacAddress& mac) {
  return address.is_v4() ? arp_probe(address, mac) : solicitation(address, mac);
}

std::optional<Answer> read_answer(std::span<const uint8_t> frame, std::span<const Address> addresses) {
  ether_header ethernet{};
  if (!take(frame, 0, ethernet)) return std::nullopt;
  MacAddress mac;
  std::memcpy(mac.data(), ethernet.ether_shost, mac.size());
  if (ethernet.ether_type == htons(ETHERTYPE_ARP)) {
    ether_arp arp{};
    uint32_t sender = 0;
    if (!take(frame, sizeof ethernet, arp)) return std::nullopt;
    std::memcpy(&sender, arp.arp_spa, sizeof sender);
    std::memcpy(mac.data(), arp.arp_sha, mac.size());
    return known(Address::from_v4(sender), mac, arp.ea_hdr.ar_op == htons(ARPOP_REPLY), addresses);
  }
  ip6_hdr ip{};
  nd_neighbor_advert message{};
  if (ethernet.ether_type != htons(ETHERTYPE_IPV6) || !take(frame, sizeof ethernet, ip) ||
      ip.ip6_nxt != IPPROTO_ICMPV6 || !take(frame, sizeof ethernet + sizeof ip, message) ||
      message.nd_na_hdr.icmp6_type != ND_NEIGHBOR_ADVERT)
    return std::nullopt;
  return known(Address::from_v6(&message.nd_na_target), mac, true, addresses);
}

bool ask_who_has(const std::string& interface, std::span<const Address> addresses,
                 std::chrono::milliseconds patience, std::set<Answer>& answers) {
  const FileHandle handle(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
  sockaddr_ll here{};
  here.sll_family = AF_PACKET;
  here.sll_protocol = htons(ETH_P_ALL);
  here.sll_ifindex = static_cast<int>(if_nametoindex(interface.c_str()));
  if (!handle.is_open() || here.sll_ifindex == 0 ||
      bind(handle.fd(), reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0)
    return false;
  const MacAddress own = mac_of(handle.fd(), interface);
  const auto ask = [&] {
    for (const Address& address : addresses) {
      const Frame frame = probe_frame(address, own);
      if (send(handle.fd(), frame.data(), frame.size(), 0) < 0) return false;
      receive(handle.fd(), own, addresses, answers);
    }
    return true;
  };
  const auto listen_until = [&](Clock::time_point end) {
    for (auto now = Clock::now(); now < end; now = Clock::now()) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - now).count() + 1;
      pollfd ready{handle.fd(), POLLIN, 0};
      poll(&ready, 1, static_cast<int>(left));
      receive(handle.fd(), own, addresses, answers);
    }
  };
  const auto begin = Clock::now();
  if (!ask()) return false;
  listen_until(begin + std::min(kAskAgain, patience));
  if (!ask()) return false;
  listen_until(begin + patience);
  return true;
}

}  // namespace portico::doctor
