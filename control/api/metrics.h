// SPDX-License-Identifier: Apache-2.0
// GET /metrics: every counter of the feedback and the state of control, in Prometheus' text format.
// docs/metrics.md lists them.
#pragma once

#include <string>

#include "control/status.h"

namespace portico {

inline constexpr const char* kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

// Counters of the dataplane are those of its last readable feedback. Never labels a flow or a client.
std::string metrics_text(const StatusView& view);

}  // namespace portico
