// SPDX-License-Identifier: Apache-2.0
// A pool's backend as the pool's rules see it (pool_rules.h, pool_tiers.h).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "contract/layout.h"
#include "control/checks/check_state.h"
#include "control/operator_state.h"

namespace portico {

// A backend's health at one moment, as far as the rules care.
struct BackendView {
  bool healthy = false;      // all checks pass
  bool known = false;        // false: not all checks have a result yet; then nothing is done to flows
  bool unreachable = false;  // nothing comes from the backend's host at all
  bool unconfirmed = false;  // down by probes in haste alone
  std::vector<uint16_t> refused_ports;  // ports of the backend that answer with RST
  uint64_t down_since_ns = 0;           // CLOCK_MONOTONIC; of the change to down
  Hearing hearing;
  uint64_t damped_until_ns = 0;  // CLOCK_MONOTONIC: falls too often to be trusted until then
};

// A backend as the rules see it.
struct Candidate {
  uint16_t id = kNone;
  uint32_t weight = 0;
  Admin admin = Admin::active;
  BackendView health;
  bool damped = false;  // now
  bool is_backup = false;
  bool is_local = true;                 // of the balancer's zone, or that has none
  std::optional<uint64_t> reset_at_ns;  // CLOCK_MONOTONIC: drained or held, and its flows end then
};

// Whether operators and weight allow new flows, whatever the health is.
inline bool may_serve(const Candidate& b) {
  return b.admin == Admin::active && b.weight > 0;
}

// Whether it can take new flows.
inline bool is_usable(const Candidate& b) {
  return may_serve(b) && b.health.healthy && !b.damped;
}

}  // namespace portico
