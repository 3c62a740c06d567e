// SPDX-License-Identifier: Apache-2.0
// The first look at a whole burst: which packets are plain IPv4, that is, an untagged frame with a whole TCP
// segment behind an IP header without options, right in all that parse_frame() checks, and whose flags are no
// more than ACK or no more than SYN (PSH, URG and those of ECN aside). Sixteen packets at a time where the
// CPU has AVX-512, one by one elsewhere: both find the same.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/worker.h"

namespace portico {

inline constexpr uint32_t kPlainL2Size = 14;
// Bytes of the shortest frame that may be plain: Ethernet, IPv4 and TCP header.
inline constexpr uint32_t kLeastPlainFrame = 54;

// Packets that are looked at at a time with AVX-512.
inline constexpr uint32_t kLanes = 16;

struct FirstLook {
  // In: the frames' first bytes, of which kLeastPlainFrame may be read, and what the first segments hold.
  std::array<uint8_t*, kBurstSize> frames;
  alignas(64) std::array<uint16_t, kBurstSize> sizes;
  // Out: bytes of the IP packets, of the plain ones only, and bit i: packet i is plain, and has ACK or SYN.
  alignas(64) std::array<uint16_t, kBurstSize> lengths;
  uint64_t acks, syns;
  // Out, of whole sixteens that were looked at with AVX-512: addresses, and ports as they stand in TCP's
  // header.
  alignas(64) std::array<uint32_t, kBurstSize> sources, destinations, port_pairs;
};

// Fills in what depends on the mbufs and prefetches the headers. A frame too short to be plain counts as one
// of zeros, so that all may be read alike.
void open_frames(FirstLook& look, rte_mbuf* const* mbufs, uint32_t n);

// Fills in the rest, of the first n packets.
void look_portably(FirstLook& look, uint32_t n);
// The same, on CPUs with AVX-512 only (has_avx512).
void look_with_avx512(FirstLook& look, uint32_t n);

// Whether this CPU and the kernel can do AVX-512 F, BW, DQ and VL, BMI and BMI2.
bool has_avx512();

}  // namespace portico
