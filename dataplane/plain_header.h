// SPDX-License-Identifier: Apache-2.0
// Headers without options or extensions, checked in a few instructions: see parse_v4() and parse_v6() for the
// rules, which are the same.
#pragma once

#include "dataplane/checksum.h"
#include "dataplane/family.h"
#include "dataplane/first_look.h"

namespace portico {

// Whether the one's complement sum of an IPv4 header without options is right (RFC 1071).
inline bool has_right_sum(const uint8_t* l3) {
  const auto a = load<uint64_t>(l3), b = load<uint64_t>(l3 + 8);
  uint64_t sum = a + b;
  const uint64_t rest = uint64_t{load<uint32_t>(l3 + 16)} + (sum < a);
  sum += rest;
  sum += sum < rest;
  const uint64_t folded = (sum & 0xffffffff) + (sum >> 32);
  return fold_sum32(static_cast<uint32_t>(folded) + static_cast<uint32_t>(folded >> 32)) == 0xffff;
}

// Length of the IP packet, or 0 if the header is not plain. `size`: bytes of the frame's first segment.
template <typename F>
uint32_t plain_ip_length(const uint8_t* frame, uint32_t size);

template <>
inline uint32_t plain_ip_length<V4>(const uint8_t* frame, uint32_t size) {
  const uint8_t* const l3 = frame + kPlainL2Size;
  constexpr uint32_t kLeast = V4::kHeaderSize + kTcpHeaderSize;
  if (size < kPlainL2Size + kLeast || l3[0] != 0x45 || load<uint16_t>(frame + 12) != htons(0x0800)) return 0;
  const uint32_t total = ntohs(load<uint16_t>(l3 + 2));
  const bool is_whole = (load<uint16_t>(l3 + 6) & htons(0x3fff)) == 0;
  const uint8_t source = l3[V4::kSourceOffset];
  const bool is_sane_source = static_cast<uint8_t>(source - 1) < 223 && source != 127;
  if (!is_whole || l3[9] != IPPROTO_TCP || l3[V4::kTtlOffset] <= 1 || !is_sane_source) return 0;
  if (total < kLeast || total > size - kPlainL2Size || !has_right_sum(l3)) return 0;
  return total;
}

template <>
inline uint32_t plain_ip_length<V6>(const uint8_t* frame, uint32_t size) {
  const uint8_t* const l3 = frame + kPlainL2Size;
  constexpr uint32_t kLeast = V6::kHeaderSize + kTcpHeaderSize;
  if (size < kPlainL2Size + kLeast || l3[0] >> 4 != 6 || load<uint16_t>(frame + 12) != htons(0x86dd))
    return 0;
  const uint32_t total = V6::kHeaderSize + ntohs(load<uint16_t>(l3 + 4));
  // Unspecified and loopback begin with a zero byte; so do other addresses, which the general case handles.
  const uint8_t source = l3[V6::kSourceOffset];
  if (l3[6] != IPPROTO_TCP || l3[V6::kTtlOffset] <= 1 || source == 0 || source == 0xff) return 0;
  return total < kLeast || total > size - kPlainL2Size ? 0 : total;
}

}  // namespace portico
