// SPDX-License-Identifier: Apache-2.0
// What the stages of the last burst took, for bench/: TSC cycles. A worker that has nobody to tell pays for
// one comparison per stage and burst.
#pragma once

#include <rte_cycles.h>

#include <array>
#include <cstdint>

namespace portico {

// In the order of worker.cc.
enum class Stage : uint8_t {
  open,        // mbufs, and their headers fetched
  look,        // headers checked, sixteen at a time where the CPU can
  classify,    // service, hash, the index line fetched
  slots,       // of SYNs: may they enter, and their slot
  candidates,  // the tag's place in the index line, the entry fetched
  openings,    // of SYNs: backend, NAT port, the replies' index line fetched
  forward,     // key, state, counters, rewriting, output
};
inline constexpr uint32_t kStages = 7;

struct StageCycles {
  std::array<uint64_t, kStages> cycles{};
  uint64_t last = 0;  // when the stage under way began

  void begin() { last = rte_rdtsc_precise(); }
  void end(Stage stage) {
    const uint64_t now = rte_rdtsc_precise();
    cycles[static_cast<uint32_t>(stage)] = now - last;
    last = now;
  }
};

}  // namespace portico
