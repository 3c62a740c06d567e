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

constexpr std::chrono::milliseconds kAskAgain{200};

// The part of the frame at `at`; false if it ends before.
template <typename Part>
bool take(std::span<const uint8_t> frame, size_t at, Part& part) {
  if (frame.size() < at + sizeof part) return false;
  std::memcpy(&part, frame.data() + at, sizeof part);
  return true;
}

// From the unspecified address to the solicited-node group (RFC 4291 section 2.7.1).
Frame solicitation(const Address& address, const MacAddress& mac) {
  const uint8_t* low = address.bytes.data() + 13;
  const MacAddress to{0x33, 0x33, 0xff, low[0], low[1], low[2]};
  const in6_addr group{{{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, low[0], low[1], low[2]}}};
  nd_neighbor_solicit message{};
  message.nd_ns_hdr.icmp6_type = ND_NEIGHBOR_SOLICIT;
  std::memcpy(&message.nd_ns_target, address.bytes.data(), sizeof message.nd_ns_target);
  return discovery_frame(mac, to, in6addr_any, group,
                         {reinterpret_cast<const uint8_t*>(&message), sizeof message});
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

Frame probe_frame(const Address& address, const MacAddress& mac) {
  return address.is_v4() ? arp_request(Address::from_v4(0), address, mac) : solicitation(address, mac);
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
