// SPDX-License-Identifier: Apache-2.0
// `idle: adaptive`: how long a worker sleeps when nothing arrives. The longer the silence, the longer the
// sleep, up to what a first packet after a pause may wait.
#pragma once

#include <algorithm>
#include <cstdint>

namespace portico {

class IdleBackoff {
 public:
  static constexpr uint32_t kPauseTurns = 1000;   // turns without packets that only pause the CPU
  static constexpr uint32_t kTurnsPerStep = 8;    // sleeps of one length before it doubles
  static constexpr uint32_t kShortestNs = 5'000;  // about what going to sleep and waking up costs
  // The latency that an idle dataplane adds at most, to the first packet after 10 ms of silence. Waking up
  // costs 6 to 20 us, so a worker with nothing to do takes one or two percent of its core.
  static constexpr uint32_t kLongestNs = 1'000'000;

  // Packets came.
  void reset() { turns_ = 0; }

  // Nothing came: nanoseconds to sleep now; 0: do not sleep.
  uint32_t next_sleep_ns() {
    if (turns_ < kSettled) ++turns_;
    if (turns_ <= kPauseTurns) return 0;
    const uint32_t step = (turns_ - kPauseTurns - 1) / kTurnsPerStep;
    return std::min(kLongestNs, kShortestNs << step);
  }

 private:
  static constexpr uint32_t kSteps = 8;
  static constexpr uint32_t kSettled = kPauseTurns + kSteps * kTurnsPerStep + 1;
  static_assert((kShortestNs << kSteps) >= kLongestNs);

  uint32_t turns_ = 0;
};

}  // namespace portico
