// SPDX-License-Identifier: Apache-2.0
// The rules of a pool, as pure functions: which backends take new flows, and what happens to the flows of
// those that do not. Order of the rules: healthy active backends; below `min_healthy` all active ones
// (panic); with none of these, `all_down`.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "contract/layout.h"
#include "control/config.h"
#include "control/operator_state.h"

namespace portico {

// A backend's health at one moment, as far as the rules care.
struct BackendView {
  bool healthy = false;      // all checks pass
  bool known = false;        // false: not all checks have a result yet; then nothing is done to flows
  bool unreachable = false;  // nothing comes from the backend's host at all
  std::vector<uint16_t> refused_ports;  // ports of the backend that answer with RST
  uint64_t down_since_ns = 0;           // CLOCK_MONOTONIC; of the change to down
};

// A backend as the rules see it.
struct Candidate {
  uint16_t id = kNone;
  uint32_t weight = 0;
  Admin admin = Admin::active;
  BackendView health;
};

enum class PoolState : uint8_t {
  normal,     // healthy backends take the flows
  panic,      // too few are healthy: all active ones do
  kept_last,  // none is usable: the last ones that were, do
  reset,      // none is usable: clients get RST
  drop,       // none is usable: packets are dropped
};

// "normal", "panic", "kept_last", "reset" or "drop".
const char* to_string(PoolState state);

struct PoolDecision {
  PoolState state = PoolState::normal;
  std::set<uint16_t> usable;  // backends that get slots

  PoolDisposition disposition() const;
};

// `last_usable`: the ids that held slots when the pool was last `normal`. If none of them may be used any
// more (they were removed, weighed 0, drained or held), keep-last falls back to every active backend, then to
// drained ones: a guess is better than a refusal. Held backends are never used.
PoolDecision decide_pool(const PoolConfig& pool, const std::vector<Candidate>& backends,
                         const std::set<uint16_t>& last_usable);

struct FlowDecision {
  BackendDisposition disposition = BackendDisposition::forward;
  std::vector<uint16_t> reset_ports;       // ascending, at most kMaxResetPorts
  std::optional<uint64_t> next_change_ns;  // CLOCK_MONOTONIC: when the decision changes by itself
};

// What happens to a backend's existing flows. `service_ports`: backend ports of the pool's services. A
// refused port resets its own flows, an unreachable host all of them; a failure of something else lets them
// finish for `reset_after`.
FlowDecision decide_flows(const PoolConfig& pool, const Candidate& backend, const PoolDecision& decision,
                          const std::set<uint16_t>& service_ports, uint64_t now_ns);

}  // namespace portico
