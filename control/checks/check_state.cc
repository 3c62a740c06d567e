// SPDX-License-Identifier: Apache-2.0
#include "control/checks/check_state.h"

#include <algorithm>
#include <array>
#include <limits>

namespace portico {
namespace {

enum class Threshold : uint8_t { none, fall, rise };

// Where a result leads: to `before` until the threshold is met by results in a row, then to `after`.
struct Transition {
  CheckState before, after;
  Threshold threshold;
};

struct Row {
  Transition on_success, on_failure;
  bool last_was_success;  // what the results counted so far were
};

using enum CheckState;

// Indexed by CheckState.
constexpr std::array<Row, 5> kTable = {{
    /* unknown    */ {{up, up, Threshold::none}, {down, down, Threshold::none}, false},
    /* up         */ {{up, up, Threshold::none}, {failing, down, Threshold::fall}, true},
    /* failing    */ {{up, up, Threshold::none}, {failing, down, Threshold::fall}, false},
    /* down       */ {{recovering, up, Threshold::rise}, {down, down, Threshold::none}, false},
    /* recovering */ {{recovering, up, Threshold::rise}, {down, down, Threshold::none}, true},
}};

uint32_t value(Threshold threshold, CheckThresholds thresholds) {
  switch (threshold) {
    case Threshold::none:
      return 0;
    case Threshold::fall:
      return thresholds.fall;
    case Threshold::rise:
      return thresholds.rise;
  }
  return 0;
}

}  // namespace

CheckProgress advance(CheckProgress before, ProbeOutcome outcome, CheckThresholds thresholds) {
  if (outcome == ProbeOutcome::inconclusive) return before;
  const Row& row = kTable[static_cast<size_t>(before.state)];
  const bool success = outcome == ProbeOutcome::success;
  const bool same_kind = before.state != unknown && row.last_was_success == success;
  const Transition& to = success ? row.on_success : row.on_failure;
  CheckProgress after;
  const bool saturated = before.consecutive == std::numeric_limits<uint32_t>::max();
  after.consecutive = same_kind ? before.consecutive + (saturated ? 0 : 1) : 1;
  after.state = after.consecutive >= value(to.threshold, thresholds) ? to.after : to.before;
  return after;
}

bool is_silence(ProbeOutcome outcome) {
  return outcome == ProbeOutcome::timeout || outcome == ProbeOutcome::unreachable;
}

void Hearing::note(ProbeOutcome outcome, bool unanswered, CheckState before, CheckState after,
                   int64_t began_ns) {
  if (outcome == ProbeOutcome::inconclusive) return;
  if (unanswered) {
    answered_since_ns = answered_ns = 0;
    if (before != down || silent_ns == 0) silent_ns = began_ns;
    return;
  }
  if (answered_since_ns == 0) answered_since_ns = began_ns;
  answered_ns = began_ns;
  // An answer that is no success says what is wrong with the target.
  if (outcome != ProbeOutcome::success || passes(after)) silent_ns = 0;
}

bool passes(CheckState state) {
  return state == up || state == failing;
}

bool is_changing(CheckState state) {
  return state == unknown || state == failing || state == recovering;
}

std::string_view to_string(CheckState state) {
  static constexpr std::array<std::string_view, 5> kNames = {"unknown", "up", "failing", "down",
                                                             "recovering"};
  return kNames[static_cast<size_t>(state)];
}

}  // namespace portico
