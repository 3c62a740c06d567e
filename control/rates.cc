// SPDX-License-Identifier: Apache-2.0
#include "control/rates.h"

#include <algorithm>
#include <cmath>

namespace portico {
namespace {

constexpr double kTimeConstantSeconds = 2;

}  // namespace

void Rate::update(uint64_t value, uint64_t now_ns) {
  if (!seen_) {
    *this = {};
    seen_ = true;
    value_ = value;
    at_ns_ = now_ns;
    return;
  }
  if (now_ns <= at_ns_) return;
  const double seconds = static_cast<double>(now_ns - at_ns_) * 1e-9;
  const uint64_t grown = value >= value_ ? value - value_ : value;
  const double current = static_cast<double>(grown) / seconds;
  // The first interval is all there is to know; later ones are weighed by their length.
  const double weight = warm_ ? 1 - std::exp(-seconds / kTimeConstantSeconds) : 1;
  rate_ += weight * (current - rate_);
  warm_ = true;
  value_ = value;
  at_ns_ = now_ns;
}

void Share::update(uint64_t part, uint64_t whole, uint64_t now_ns) {
  part_.update(part, now_ns);
  whole_.update(whole, now_ns);
}

double Share::value() const {
  if (whole_.per_second() <= 0) return 0;
  return std::clamp(part_.per_second() / whole_.per_second(), 0.0, 1.0);
}

}  // namespace portico
