// SPDX-License-Identifier: Apache-2.0
#include "contract/address.h"

#include <arpa/inet.h>

#include <charconv>

namespace portico {

std::optional<Address> Address::parse(std::string_view text) {
  const std::string copy(text);
  if (copy.find('\0') != std::string::npos) return std::nullopt;  // inet_pton() would read only up to there
  in_addr v4;
  if (inet_pton(AF_INET, copy.c_str(), &v4) == 1) return from_v4(v4.s_addr);
  in6_addr v6;
  if (inet_pton(AF_INET6, copy.c_str(), &v6) == 1) return from_v6(&v6);
  return std::nullopt;
}

std::string to_string(const Address& address) {
  char text[INET6_ADDRSTRLEN];
  if (address.is_v4()) {
    inet_ntop(AF_INET, address.bytes.data() + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, address.bytes.data(), text, sizeof text);
  }
  return text;
}

namespace {

// The position of the prefix's first bit within the 16 bytes, and its bit count there.
unsigned mapped_length(const Prefix& prefix) {
  return prefix.length + (prefix.address.is_v4() ? 96u : 0u);
}

bool same_leading_bits(const Address& a, const Address& b, unsigned bits) {
  const unsigned whole = bits / 8, rest = bits % 8;
  if (std::memcmp(a.bytes.data(), b.bytes.data(), whole) != 0) return false;
  if (rest == 0) return true;
  const auto mask = static_cast<uint8_t>(0xff << (8 - rest));
  return ((a.bytes[whole] ^ b.bytes[whole]) & mask) == 0;
}

}  // namespace

bool Prefix::is_canonical() const {
  const unsigned bits = mapped_length(*this);
  if (bits > 128) return false;
  if (bits == 128) return true;
  uint8_t beyond = address.bytes[bits / 8] & static_cast<uint8_t>(0xff >> (bits % 8));
  for (unsigned byte = bits / 8 + 1; byte < 16; ++byte) beyond |= address.bytes[byte];
  return beyond == 0;
}

bool Prefix::contains(const Address& a) const {
  return a.is_v4() == address.is_v4() && same_leading_bits(a, address, mapped_length(*this));
}

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const auto address = Address::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  const unsigned widest = address->is_v4() ? 32 : 128;
  unsigned length = widest;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size() || length > widest)
      return std::nullopt;
  }
  const Prefix prefix{*address, static_cast<uint8_t>(length)};
  if (!prefix.is_canonical()) return std::nullopt;
  return prefix;
}

std::string to_string(const Prefix& prefix) {
  return to_string(prefix.address) + "/" + std::to_string(prefix.length);
}

}  // namespace portico
