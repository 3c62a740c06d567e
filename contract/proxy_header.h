// SPDX-License-Identifier: Apache-2.0
// Headers of the PROXY protocol, version 2 (HAProxy's doc/proxy-protocol.txt, section 2.2): what a connection
// to a server begins with, to tell it who is at the other end.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace portico {

// Signature, version and command, family and protocol, length of what follows.
inline constexpr uint32_t kProxyPreambleSize = 16;

namespace proxy_header_detail {

constexpr std::array<uint8_t, kProxyPreambleSize> preamble(uint8_t command, uint8_t family, uint8_t length) {
  return {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, command, family, 0, length};
}

}  // namespace proxy_header_detail

// Version 2, command LOCAL: the connection is the sender's own, such as a health check.
inline constexpr std::array<uint8_t, kProxyPreambleSize> kProxyLocalHeader =
    proxy_header_detail::preamble(0x20, 0x00, 0);

// Bytes of a header for command PROXY over TCP: addresses and ports after the preamble. Ip: 4 or 16 bytes.
template <typename Ip>
inline constexpr uint32_t kProxyHeaderSize = kProxyPreambleSize + 2 * sizeof(Ip) + 4;

// Writes kProxyHeaderSize<Ip> bytes: the client and the address that it connected to. Addresses and ports as
// they stand in packets (network byte order).
template <typename Ip>
void write_proxy_header(uint8_t* to, const Ip& client, uint16_t client_port, const Ip& vip,
                        uint16_t vip_port) {
  static_assert(sizeof(Ip) == 4 || sizeof(Ip) == 16);
  constexpr uint8_t kFamily = sizeof(Ip) == 4 ? 0x11 : 0x21;  // TCP over IPv4, TCP over IPv6
  constexpr auto kPreamble =
      proxy_header_detail::preamble(0x21, kFamily, kProxyHeaderSize<Ip> - kProxyPreambleSize);
  std::memcpy(to, kPreamble.data(), kPreamble.size());
  to += kProxyPreambleSize;
  std::memcpy(to, &client, sizeof client);
  std::memcpy(to + sizeof client, &vip, sizeof vip);
  to += 2 * sizeof client;
  std::memcpy(to, &client_port, sizeof client_port);
  std::memcpy(to + 2, &vip_port, sizeof vip_port);
}

}  // namespace portico
