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

// Calls f(i) for each bit i that is set.
template <typename Function>
[[gnu::always_inline]] inline void for_each_bit(uint64_t bits, const Function& f) {
  for (; bits != 0; bits &= bits - 1) f(static_cast<uint32_t>(std::countr_zero(bits)));
}

}  // namespace portico
