// SPDX-License-Identifier: Apache-2.0
// When to write state that is written whole at each change, and changes in bursts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portico {

// At once while a write takes next to nothing; else once in an interval, so that an outage of thousands of
// backends leaves control's only thread to their checks and tables. Times are CLOCK_MONOTONIC.
class StorePace {
 public:
  // Of about a thousand backends, which take 2 ms. Not the time that the last write took: that is the
  // machine's mood.
  static constexpr size_t kCheapBytes = 400'000;
  static constexpr uint64_t kIntervalNs = 250'000'000;

  // The earliest time of the next write. What changes before is written then: the most that kill -9 loses.
  uint64_t next_ns() const { return bytes_ <= kCheapBytes ? 0 : ended_ns_ + kIntervalNs; }

  void stored(size_t bytes, uint64_t ended_ns) {
    bytes_ = bytes;
    ended_ns_ = ended_ns;
  }

 private:
  size_t bytes_ = 0;  // of the last write
  uint64_t ended_ns_ = 0;
};

}  // namespace portico
