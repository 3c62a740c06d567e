// SPDX-License-Identifier: Apache-2.0
// The state machine of one check: pure, without clock or socket. docs/health.md shows its table.
#pragma once

#include <cstdint>
#include <string_view>

namespace portico {

enum class CheckState : uint8_t {
  unknown,     // no result yet; the first one decides
  up,          // passes
  failing,     // was up; fewer than `fall` failures in a row so far: still passes
  down,        // does not pass
  recovering,  // was down; fewer than `rise` successes in a row so far: does not pass yet
};

// What one probe found.
enum class ProbeOutcome : uint8_t {
  success,
  failure,       // the server answered wrongly, or closed
  refused,       // the port answered with RST to the connection attempt
  unreachable,   // ICMP unreachable, or no route
  timeout,       // nothing came in time to the connection attempt
  inconclusive,  // this host could not probe (no descriptors, no memory, no free port)
};

// Results in a row that change a settled state; both at least 1.
struct CheckThresholds {
  uint32_t fall = 2, rise = 2;
};

struct CheckProgress {
  CheckState state = CheckState::unknown;
  uint32_t consecutive = 0;  // results in a row of the same kind (success or not), saturating

  bool operator==(const CheckProgress&) const = default;
};

// The state after one more result. A refused or unreachable target counts as one failure like any other: it
// is known sooner, and `fall` still protects against a single one. An inconclusive result changes nothing.
CheckProgress advance(CheckProgress before, ProbeOutcome outcome, CheckThresholds thresholds);

// When probes began that were answered, whatever the answer, and that were not: steady-clock times in ns; 0:
// none. It takes both to know whether a target is silent or this host hears nothing at all.
struct Hearing {
  int64_t answered_since_ns = 0, answered_ns = 0;  // the first and the last of a row of answers
  int64_t silent_ns = 0;  // the last unanswered one that counted towards down, until the check passes again

  // Takes the result of a probe that began at `began_ns` and led from `before` to `after`. `unanswered`: as
  // ProbeResult says.
  void note(ProbeOutcome outcome, bool unanswered, CheckState before, CheckState after, int64_t began_ns);

  bool operator==(const Hearing&) const = default;
};

// Nothing came from the target: no answer, or ICMP unreachable.
bool is_silence(ProbeOutcome outcome);

// True for `up` and `failing`.
bool passes(CheckState state);

// True if the next probe comes after the fast interval: the state is not settled.
bool is_changing(CheckState state);

// "unknown", "up", "failing", "down", "recovering".
std::string_view to_string(CheckState state);

}  // namespace portico
