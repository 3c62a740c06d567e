// SPDX-License-Identifier: Apache-2.0
// Frames for the tests of the steering program, put together from the outside in. Lengths and checksums of IP
// are as short as the program needs: it looks at neither.
#pragma once

#include <arpa/inet.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "contract/address.h"

namespace portico::frames {

using Bytes = std::vector<uint8_t>;

inline constexpr uint8_t kTcp = 6, kUdp = 17, kIcmp = 1, kIcmp6 = 58;
inline constexpr uint16_t kMoreFragments = 0x2000;

inline Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline Bytes be16(unsigned value) {
  return {static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)};
}

inline Bytes address_bytes(const std::string& text) {
  const Address address = *Address::parse(text);
  return {address.bytes.begin() + (address.is_v4() ? 12 : 0), address.bytes.end()};
}

inline Bytes ethernet(uint16_t type, uint8_t first_byte = 0x02) {
  return Bytes{first_byte, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2} + be16(type);
}
inline Bytes vlan(uint16_t type) {
  return ethernet(0x8100) + be16(100) + be16(type);
}

// `fragment`: flags and offset. `words`: header length with options.
inline Bytes ipv4(uint8_t protocol, const std::string& from, const std::string& to, uint16_t fragment = 0,
                  uint8_t words = 5) {
  const auto first = static_cast<uint8_t>(0x40 | words);
  return Bytes{first, 0} + be16(40) + be16(1) + be16(fragment) + Bytes{64, protocol, 0, 0} +
         address_bytes(from) + address_bytes(to) + Bytes(static_cast<size_t>(words - 5) * 4, 1);
}

inline Bytes ipv6(uint8_t next, const std::string& from, const std::string& to) {
  return Bytes{0x60, 0, 0, 0, 0, 20, next, 64} + address_bytes(from) + address_bytes(to);
}

// A hop-by-hop, routing or destination options header of 8 * (1 + more) bytes.
inline Bytes extension(uint8_t next, uint8_t more = 0) {
  return Bytes{next, more} + Bytes(6 + static_cast<size_t>(more) * 8, 0);
}
inline Bytes fragment6(uint8_t next, uint16_t offset_and_flags) {
  return Bytes{next, 0} + be16(offset_and_flags) + Bytes{0, 0, 0, 7};
}

inline Bytes tcp(uint16_t from, uint16_t to) {
  return be16(from) + be16(to) + Bytes(16, 0);
}
inline Bytes icmp(uint8_t type) {
  return Bytes{type, 0, 0, 0, 0, 0, 0, 0};
}

}  // namespace portico::frames
