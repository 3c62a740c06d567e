// SPDX-License-Identifier: Apache-2.0
// Internet checksums (RFC 1071) and their incremental update (RFC 1624), in one's complement sums of 16-bit
// words as they stand in memory: the sum does not depend on byte order.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace portico {

// Folds a sum of 16-bit words to 16 bits.
inline uint16_t fold_sum(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

// The same of a sum below 2^32, in three instructions: both halves are added with the carry between them.
inline uint16_t fold_sum32(uint32_t sum) {
  return static_cast<uint16_t>((sum + (sum << 16 | sum >> 16)) >> 16);
}

// The sum of the words of a value whose size is a multiple of two bytes.
template <typename T>
uint64_t sum_of(const T& value) {
  uint16_t words[sizeof(T) / 2];
  std::memcpy(words, &value, sizeof words);
  uint64_t sum = 0;
  for (const uint16_t word : words) sum += word;
  return sum;
}

// The sum over bytes; an odd last one counts as the first of a word whose second is zero.
inline uint64_t sum_bytes(const uint8_t* bytes, size_t size) {
  uint64_t sum = 0;
  for (; size >= 4; bytes += 4, size -= 4) {  // two words at a time fold to the same
    uint32_t words;
    std::memcpy(&words, bytes, 4);
    sum += words;
  }
  for (; size >= 2; bytes += 2, size -= 2) {
    uint16_t word;
    std::memcpy(&word, bytes, 2);
    sum += word;
  }
  if (size == 1) {
    uint16_t word = 0;
    std::memcpy(&word, bytes, 1);
    sum += word;
  }
  return sum;
}

// What replacing words that sum to `before` by words that sum to `after` adds to a sum.
inline uint16_t checksum_delta(uint64_t before, uint64_t after) {
  return fold_sum(after + static_cast<uint16_t>(~fold_sum(before)));
}
// The same of sums of at most 2^15 words.
inline uint16_t short_checksum_delta(uint32_t before, uint32_t after) {
  return fold_sum32(after + static_cast<uint16_t>(~fold_sum32(before)));
}
// The delta of the opposite replacement.
inline uint16_t inverse_delta(uint16_t delta) {
  return static_cast<uint16_t>(~delta);
}

// RFC 1624 equation 3 on the checksum field at `field`. A wrong checksum stays wrong by the same amount. The
// delta may be a sum of deltas.
inline void adjust_checksum(uint8_t* field, uint32_t delta) {
  uint16_t checksum;
  std::memcpy(&checksum, field, 2);
  checksum = static_cast<uint16_t>(~fold_sum32(static_cast<uint16_t>(~checksum) + delta));
  std::memcpy(field, &checksum, 2);
}

// Decrementing a TTL in the first byte of its word (RFC 791): minus 0x0100 in the packet's byte order.
inline constexpr uint16_t kTtlDelta = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0xfffe : 0xfeff;

// An IPv4 header's word of TTL (above 0), protocol and checksum, as it stands in memory, with the TTL one
// less: the checksum grows by 0x0100 in the packet's byte order, and 0xffff is written as 0.
inline uint32_t aged(uint32_t word) {
  if constexpr (std::endian::native == std::endian::little)
    return word + 0x0000ffff + (word >= 0xfffe0000 ? 0x00010000 : 0);
  const auto checksum = static_cast<uint16_t>(~fold_sum32((~word & 0xffff) + kTtlDelta));
  return ((word - 0x01000000) & 0xffff0000) | checksum;
}

}  // namespace portico
