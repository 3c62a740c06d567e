// SPDX-License-Identifier: Apache-2.0
#include "control/rates.h"

#include <algorithm>
#include <cmath>

namespace portico {
namespace {

constexpr double kTimeConstantSeconds = 2;
// Of bytes, packets or cycles: 8 Tbit/s are more than any machine moves.
constexpr double kMostPerSecond = 1e12;

}  // namespace

void Rate::begin(uint64_t value, uint64_t now_ns) {
  *this = {};
  seen_ = true;
  value_ = value;
  at_ns_ = now_ns;
}

bool Rate::update(uint64_t value, uint64_t now_ns) {
  if (!seen_) {
    begin(value, now_ns);
    return true;
  }
  if (now_ns <= at_ns_) return true;
  const double seconds = static_cast<double>(now_ns - at_ns_) * 1e-9;
  const double current = static_cast<double>(value - value_) / seconds;
  if (value < value_ || current > kMostPerSecond) {
    begin(value, now_ns);
    return false;
  }
  // The first interval is all there is to know; later ones are weighed by their length.
  const double weight = warm_ ? 1 - std::exp(-seconds / kTimeConstantSeconds) : 1;
  rate_ += weight * (current - rate_);
  warm_ = true;
  value_ = value;
  at_ns_ = now_ns;
  return true;
}

bool Share::update(uint64_t part, uint64_t whole, uint64_t now_ns) {
  const bool is_part_well = part_.update(part, now_ns);
  const bool is_whole_well = whole_.update(whole, now_ns);
  if (is_part_well == is_whole_well) return is_part_well;
  *this = {};
  return false;
}

double Share::value() const {
  if (whole_.per_second() <= 0) return 0;
  return std::clamp(part_.per_second() / whole_.per_second(), 0.0, 1.0);
}

}  // namespace portico
