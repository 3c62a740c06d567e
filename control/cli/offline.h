// SPDX-License-Identifier: Apache-2.0
// What the run directory's files say without control: is the dataplane alive, which table does it use, how
// many connections does it carry.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "control/cli/format.h"

namespace portico::cli {

// {"dataplane": {state, working, alive, pid, started_ms, text, adopted, flows, workers, drops},
//  "table": {generation, control_alive, control_pid, text}, "services": [{name, listen, flows}],
//  "backends": [{pool, name, flows}], "now_ms"}. Services and backends are absent if no table is readable.
nlohmann::json read_offline(const std::string& run_dir);

std::string offline_text(const nlohmann::json& offline, const Style& style);

}  // namespace portico::cli
