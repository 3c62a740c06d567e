// SPDX-License-Identifier: Apache-2.0
// An IPv4 or IPv6 address in one form: 16 bytes, network byte order, IPv4 as ::ffff:a.b.c.d
// (RFC 4291 section 2.5.5.2). It is what shared memory holds and what both processes compute with.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace portico {

enum class Family : uint8_t { v4 = 4, v6 = 6 };

struct Address {
  std::array<uint8_t, 16> bytes;

  auto operator<=>(const Address&) const = default;

  // True for ::ffff:0:0/96.
  bool is_v4() const {
    static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(bytes.data(), kMapped, sizeof kMapped) == 0;
  }
  Family family() const { return is_v4() ? Family::v4 : Family::v6; }
  // The all-zero address stands for "none" in shared memory.
  bool is_none() const { return *this == Address{}; }

  // The IPv4 address in network byte order, as it stands in a packet. Only for is_v4().
  uint32_t v4() const {
    uint32_t be;
    std::memcpy(&be, bytes.data() + 12, sizeof be);
    return be;
  }

  // From an IPv4 address in network byte order.
  static Address from_v4(uint32_t be) {
    Address a{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0}};
    std::memcpy(a.bytes.data() + 12, &be, sizeof be);
    return a;
  }
  // From the 16 bytes of an IPv6 header.
  static Address from_v6(const void* sixteen_bytes) {
    Address a;
    std::memcpy(a.bytes.data(), sixteen_bytes, sizeof a.bytes);
    return a;
  }
  // Parses "192.0.2.1" or "2001:db8::1"; nothing else (no port, no zone, no prefix).
  static std::optional<Address> parse(std::string_view text);
};
static_assert(sizeof(Address) == 16 && alignof(Address) == 1);

// "192.0.2.1" or "2001:db8::1" (RFC 5952).
std::string to_string(const Address& address);

// An address prefix. `length` counts bits of its own family: 0..32 or 0..128. Host bits are zero.
struct Prefix {
  Address address;
  uint8_t length;

  auto operator<=>(const Prefix&) const = default;

  bool contains(const Address& a) const;
  // Parses "192.0.2.0/24", "2001:db8::/32" or a bare address (a host prefix). Refuses host bits.
  static std::optional<Prefix> parse(std::string_view text);
  // False if a bit beyond `length` is set, or if `length` is more than the family has.
  bool is_canonical() const;
};

std::string to_string(const Prefix& prefix);

}  // namespace portico
