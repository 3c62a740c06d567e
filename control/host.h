// SPDX-License-Identifier: Apache-2.0
// What the kernel says of this host's addresses, in this network namespace. Needs no rights.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "contract/address.h"
#include "control/netlink.h"

namespace portico {

// "" if there is no such interface any more.
std::string interface_name(int ifindex);

// An address as the kernel has it.
struct HostAddress {
  Address address{};
  uint8_t length = 0;  // of its prefix, bits of its own family
  int ifindex = 0;
  uint8_t protocol = 0;  // IFA_PROTO (Linux 5.18): who installed it; 0: not said
};

// Protocol numbers of the kernel's own addresses end at 3; those from 0x80 on are Portico's.
inline constexpr uint8_t kFirstAddressProtocol = 0x80;
inline constexpr uint32_t kAddressProtocols = 0x7f;

// True if a Portico on this host installed the address, this instance or another.
constexpr bool is_installed_by_portico(const HostAddress& address) {
  return address.protocol >= kFirstAddressProtocol &&
         address.protocol < kFirstAddressProtocol + kAddressProtocols;
}

// Whether the kernel says who installed an address: `release` is uname(2)'s, or one of the addresses has a
// protocol (some distributors brought it to earlier kernels).
bool tells_address_protocol(std::span<const HostAddress> addresses, std::string_view release);

// Who an address belongs to. Without a protocol, one that is as long as Portico's may be of it.
enum class AddressOwner { portico, perhaps_portico, others };
constexpr AddressOwner owner_of(const HostAddress& address, bool tells_protocol) {
  if (is_installed_by_portico(address)) return AddressOwner::portico;
  const bool is_host_long = address.length == (address.address.is_v4() ? 32 : 128);
  return is_host_long && !tells_protocol ? AddressOwner::perhaps_portico : AddressOwner::others;
}

// Appends all addresses of the host. 0, or an errno.
int read_host_addresses(NetlinkSocket& socket, std::vector<HostAddress>& result);

}  // namespace portico
