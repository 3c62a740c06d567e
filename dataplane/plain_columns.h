// SPDX-License-Identifier: Apache-2.0
// What classification finds out about the plain IPv4 packets of a burst, a column for each fact. Only of
// packets that take another way than the short one is a Packet filled in.
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/flow_index.h"
#include "dataplane/packet.h"
#include "dataplane/worker.h"

namespace portico {

struct PlainColumns {
  alignas(64) std::array<uint64_t, kBurstSize> hashes;                   // of the flows
  alignas(64) std::array<const FlowIndex::Bucket*, kBurstSize> buckets;  // where the flow is looked for first
  alignas(64) std::array<uint32_t, kBurstSize> tags;                     // and by which tag
  alignas(64) std::array<uint16_t, kBurstSize> services;                 // kNone: a reply
  std::array<uint32_t, kBurstSize> candidates;  // references of the likely entries; 0: none
  // By path, bit i: packet i goes that way. Those that are for nothing of this worker's are in none.
  std::array<uint64_t, kPaths> of;

  uint64_t& of_path(Path path) { return of[static_cast<uint32_t>(path)]; }
  uint64_t of_path(Path path) const { return of[static_cast<uint32_t>(path)]; }
  uint64_t in_dsr() const { return of_path(Path::dsr) | of_path(Path::tunnel); }
  uint64_t in_nat() const { return of_path(Path::nat_in) | of_path(Path::nat_out); }
  // For SYNs: where short ways open flows.
  uint64_t openable() const { return of_path(Path::dsr) | of_path(Path::nat_in); }
  uint64_t known() const { return in_dsr() | in_nat(); }
  Path path(uint32_t i) const {
    for (const Path p : {Path::dsr, Path::nat_in, Path::nat_out})
      if ((of_path(p) >> i) & 1) return p;
    return Path::tunnel;
  }
};

// What is worked out ahead for the plain IPv4 SYNs of a burst whose flows seem to be new. A place is where
// FlowIndex::place_of_new() says, or null: then it takes a look at the index. It holds until the index loses
// a key, or the place is taken: keys take a bucket's first free place.
struct OpeningColumns {
  static constexpr uint32_t kNoSlot = ~0u;

  std::array<uint32_t, kBurstSize> slots;     // of the pool's look-up table; kNoSlot: not known
  std::array<uint16_t, kBurstSize> backends;  // kNone: not known
  std::array<uint32_t*, kBurstSize> places;
  uint32_t dsr_erasures, nat_erasures;  // FlowIndex::erasures() as of the places
  // In nat also of the replies, as their headers will have it: addresses, and source port in the low half.
  alignas(64) std::array<uint32_t, kBurstSize> reply_sources, reply_destinations, reply_ports;
  alignas(64) std::array<uint64_t, kBurstSize> reply_hashes;
  alignas(64) std::array<const FlowIndex::Bucket*, kBurstSize> reply_buckets;
  alignas(64) std::array<uint32_t, kBurstSize> reply_tags;
  std::array<uint32_t*, kBurstSize> reply_places;
  std::array<uint16_t, kBurstSize> nat;  // the address's index
  uint64_t has_port;  // bit i: a port has been chosen for packet i's reply; it may be taken by now
};

// Calls f(i) for each bit i that is set.
template <typename Function>
[[gnu::always_inline]] inline void for_each_bit(uint64_t bits, const Function& f) {
  for (; bits != 0; bits &= bits - 1) f(static_cast<uint32_t>(std::countr_zero(bits)));
}

}  // namespace portico
