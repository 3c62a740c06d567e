// SPDX-License-Identifier: Apache-2.0
// The state of everything as JSON (docs/api.md) and as metrics (docs/metrics.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "control/builder.h"
#include "control/checks/health.h"
#include "control/config.h"
#include "control/dataplane_watch.h"
#include "control/ids.h"
#include "control/isolation.h"
#include "control/operator_state.h"
#include "control/passive_signals.h"

namespace portico {

// What there is to show. The references belong to Service and live until its loop runs on.
struct StatusView {
  const Config& config;
  const std::string& config_path;
  uint64_t config_version;
  int64_t loaded_ms;   // CLOCK_REALTIME of the last applied configuration
  int64_t started_ms;  // CLOCK_REALTIME of control's start
  uint64_t published;  // generation
  const Ids& ids;
  const Builder& builder;
  const OperatorState& operators;
  const HealthMonitor& health;
  const DataplaneWatch& watch;
  const PassiveSignals& passive;
  const IsolationWatch& isolation;
  int64_t isolation_since_ms;         // CLOCK_REALTIME; 0: since control started
  std::string waits_for;              // why there is no table yet; empty: there is
  std::vector<std::string> warnings;  // of control's own: configuration, routing, storage
};

enum class StatusLevel { ok = 0, degraded = 1, unserved = 2 };
// "ok", "degraded", "unserved".
const char* to_string(StatusLevel level);

// JSON of GET /v1/status.
std::string status_json(const StatusView& view);
// JSON of GET /v1/backends/POOL/BACKEND: the backend as in the status, and its pool; nullopt: there is none.
std::optional<std::string> backend_status_json(const StatusView& view, const std::string& pool,
                                               const std::string& backend);
// Why this balancer should get no traffic, for whoever announces it; empty: it should. That backends are down
// is no reason: they are for other balancers, too.
std::string why_not_ready(const StatusView& view);
// JSON of GET /v1/ready.
std::string ready_json(const StatusView& view);
// JSON of GET /v1/drops.
std::string drops_json(const StatusView& view);

// A pool's condition for a person and for the exit status of `portico status`.
struct PoolCondition {
  StatusLevel level = StatusLevel::ok;
  uint32_t up = 0;
  std::vector<std::string> warnings;
};
PoolCondition pool_condition(const StatusView& view, const PoolConfig& pool);

// "198.18.0.1:443" or "[2001:db8::1]:443".
std::string endpoint_text(const Endpoint& endpoint);

}  // namespace portico
