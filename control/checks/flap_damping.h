// SPDX-License-Identifier: Apache-2.0
// How restless a backend is, after RFC 2439 (BGP route flap damping): each fall adds 1 to a penalty that
// halves every half-life. Pure, without clock.
#pragma once

#include <cstdint>

namespace portico {

struct FlapRule {
  uint32_t limit = 0;  // falls: at this penalty the backend is damped; 0: never
  int64_t half_life_ns = 300'000'000'000;
};

struct FlapState {
  double penalty = 0;           // at `at_ns`
  int64_t at_ns = 0;            // of the last fall; any clock, the same for all calls
  int64_t damped_until_ns = 0;  // 0: was not damped by the last fall

  bool operator==(const FlapState&) const = default;
};

// The penalty at `now_ns`.
double penalty_at(const FlapState& state, const FlapRule& rule, int64_t now_ns);

// After one more fall. At the limit the backend is damped until the penalty is half the limit, which takes at
// most two half-lives: the penalty grows to twice the limit and no further.
FlapState after_fall(const FlapState& before, const FlapRule& rule, int64_t now_ns);

}  // namespace portico
