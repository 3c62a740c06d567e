// SPDX-License-Identifier: Apache-2.0
// What changes between two configurations, before the second one is used: shares, slots, live connections.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract/feedback.h"
#include "control/builder.h"
#include "control/config.h"
#include "control/ids.h"

namespace portico {

// A configuration with the table that was built of it.
struct PlanSide {
  const Config& config;
  const Ids& ids;
  const Builder& builder;
};

enum class Change : uint8_t { same, added, removed, changed };
// "same", "added", "removed" or "changed".
const char* to_string(Change change);

struct BackendPlan {
  std::string name;
  Change change = Change::same;
  double share_before = 0, share_after = 0;  // of the pool's slots, 0..1
  uint64_t flows = 0;                        // now
  uint64_t flows_broken = 0;                 // of those: the backend is not there any more
};

struct PoolPlan {
  std::string name;
  Change change = Change::same;
  double moved = 0;  // slots whose backend changes, 0..1: of new connections, and of clients with affinity
  // Live connections that break, at most: those of backends that are gone, and of services that are. One may
  // be both; `broken_exactly`: none is.
  uint64_t most_broken = 0;
  bool broken_exactly = true;
  std::vector<BackendPlan> backends;  // those of the first configuration, then new ones
};

struct ServicePlan {
  std::string name;
  Change change = Change::same;
  uint64_t flows = 0, flows_broken = 0;
  std::string reason;  // why they break; empty: they do not
};

struct Plan {
  std::vector<ServicePlan> services;
  std::vector<PoolPlan> pools;
  uint64_t flows = 0;        // live connections
  uint64_t most_broken = 0;  // of those, sums of the pools'
  bool broken_exactly = true;
  std::vector<std::string> assumed_up;  // POOL/BACKEND: new ones that no check has seen
};

// Compares what is with what would be. Connections in the flow table stay with their backend and break only
// if that, their service, or their NAT address is gone.
Plan make_plan(const PlanSide& before, const PlanSide& after, const Feedback& feedback);

}  // namespace portico
