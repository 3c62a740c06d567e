// SPDX-License-Identifier: Apache-2.0
// Time in the packet path: TSC cycles become ticks of 16 ms, of which 28 bits stand in a flow entry. They
// wrap after 49.7 days, as much as a timeout in 32 bits of milliseconds can ask for.
#pragma once

#include <algorithm>
#include <cstdint>

namespace portico {

inline constexpr uint32_t kTickMs = 16;
inline constexpr uint32_t kTickMask = (1u << 28) - 1;

// Ticks from `then` to `now`, both 28 bits.
inline uint32_t ticks_since(uint32_t now, uint32_t then) {
  return (now - then) & kTickMask;
}

// Milliseconds as ticks, rounded up, at least 1 and below the wrap.
inline uint32_t ticks_of_ms(uint32_t ms) {
  return std::clamp((ms / kTickMs) + (ms % kTickMs != 0), 1u, kTickMask);
}

class Clock {
 public:
  // `hz`: cycles per second, at least 1000. `offset` is added to every tick: so a clock goes on where another
  // process's ended.
  explicit Clock(uint64_t hz, uint32_t offset = 0)
      : per_tick_(std::max<uint64_t>(hz * kTickMs / 1000, 2)), offset_(offset) {
    inverse_ = ~uint64_t{0} / per_tick_;
  }

  uint32_t tick(uint64_t cycles) const {
    __extension__ using u128 = unsigned __int128;
    return (static_cast<uint32_t>((static_cast<u128>(cycles) * inverse_) >> 64) + offset_) & kTickMask;
  }
  uint64_t cycles_per_tick() const { return per_tick_; }

 private:
  uint64_t per_tick_;
  uint64_t inverse_;
  uint32_t offset_;
};

// How long a flow may be silent before and at its end.
struct Timeouts {
  uint32_t syn, half_closed, closing;  // ticks
};

// So many per second, with `most` saved up at most; 0: a tenth of a second's worth.
class TokenBucket {
 public:
  explicit TokenBucket(uint64_t hz, uint32_t most = 0) : hz_(static_cast<double>(hz)), most_(most) {}

  // Takes one at `now` (cycles; of one burst all the same) and `rate` per second. False: none is left.
  bool take(uint64_t now, uint32_t rate) {
    if (now != last_ || !started_) refill(now, rate);
    if (tokens_ < 1.0) return false;
    tokens_ -= 1.0;
    return true;
  }
  // Whether take() would.
  bool has_any(uint64_t now, uint32_t rate) {
    if (now != last_ || !started_) refill(now, rate);
    return tokens_ >= 1.0;
  }
  // Gives back what the last call took: as if it had not been made, to the last bit.
  void give_back() { tokens_ += 1.0; }

 private:
  void refill(uint64_t now, uint32_t rate) {
    const double most = rate == 0 ? 0.0 : most_ != 0 ? most_ : std::max(1.0, rate / 10.0);
    const double earned = started_ ? static_cast<double>(now - last_) / hz_ * rate : most;
    tokens_ = std::min(most, tokens_ + earned);
    last_ = now;
    started_ = true;
  }

  double hz_;
  uint32_t most_;
  double tokens_ = 0;
  uint64_t last_ = 0;
  bool started_ = false;
};

}  // namespace portico
