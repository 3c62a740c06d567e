// SPDX-License-Identifier: Apache-2.0
// Rates out of counters that another process writes: exponentially weighted moving averages over a few
// seconds.
#pragma once

#include <cstdint>

namespace portico {

// One counter's rate.
class Rate {
 public:
  // The counter's value at a time. False if no counter does that: it went back, or grew by more than any
  // machine can do in the time since. The rate then begins anew.
  bool update(uint64_t value, uint64_t now_ns);
  // Per second; 0 before the second update.
  double per_second() const { return rate_; }

 private:
  void begin(uint64_t value, uint64_t now_ns);

  bool seen_ = false, warm_ = false;
  uint64_t value_ = 0, at_ns_ = 0;
  double rate_ = 0;
};

// A share of two counters that grow together (busy of total cycles), smoothed alike, 0..1.
class Share {
 public:
  // False as Rate::update, of either.
  bool update(uint64_t part, uint64_t whole, uint64_t now_ns);
  double value() const;

 private:
  Rate part_, whole_;
};

}  // namespace portico
