// SPDX-License-Identifier: Apache-2.0
// The start plan for people and for programs: `portico-dataplane --dry-run`, `portico topology`.
#pragma once

#include <string>

#include "dataplane/start_plan.h"

namespace portico {

// Lines of text: machine, ports, workers with reasons, memory by node, DPDK's arguments; what is wrong last,
// behind "!".
std::string plan_text(const StartPlan& plan);

// One JSON object; docs/cli.md names its fields.
std::string plan_json(const StartPlan& plan);

}  // namespace portico
