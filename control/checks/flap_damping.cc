// SPDX-License-Identifier: Apache-2.0
#include "control/checks/flap_damping.h"

#include <algorithm>
#include <cmath>

namespace portico {

double penalty_at(const FlapState& state, const FlapRule& rule, int64_t now_ns) {
  const auto age = static_cast<double>(std::max<int64_t>(now_ns - state.at_ns, 0));
  return state.penalty * std::exp2(-age / static_cast<double>(rule.half_life_ns));
}

FlapState after_fall(const FlapState& before, const FlapRule& rule, int64_t now_ns) {
  // What nobody limits is still shown: to a tenth of a fall in ten half-lives.
  constexpr double kMost = 100;
  const double limit = rule.limit;
  FlapState after;
  after.at_ns = now_ns;
  after.penalty = std::min(penalty_at(before, rule, now_ns) + 1, rule.limit == 0 ? kMost : 2 * limit);
  // Rounded: so many falls in a row are a little less than that by the time of the last.
  if (rule.limit == 0 || std::round(after.penalty) < limit) {
    after.damped_until_ns = before.damped_until_ns > now_ns ? before.damped_until_ns : 0;
    return after;
  }
  const double half_lives = std::log2(after.penalty / (limit / 2));
  after.damped_until_ns = now_ns + static_cast<int64_t>(half_lives * static_cast<double>(rule.half_life_ns));
  return after;
}

}  // namespace portico
