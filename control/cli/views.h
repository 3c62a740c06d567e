// SPDX-License-Identifier: Apache-2.0
// The API's answers (docs/api.md) as text for people. Pure functions; a field that is missing counts as
// empty, one of another type throws nlohmann::json::exception.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "control/cli/format.h"

namespace portico::cli {

std::string status_text(const nlohmann::json& status, const Style& style);
// Its first line.
std::string status_head(const nlohmann::json& status, const Style& style);
// What a dataplane took over from the one before: `take_over` of the status.
std::string take_over_text(const nlohmann::json& take_over);
// `all`: also the reasons without packets.
std::string drops_text(const nlohmann::json& drops, bool all, const Style& style);
// `events` as GET /v1/events lists them: a line or two for each.
std::string events_text(const nlohmann::json& events, const Style& style);
std::string explain_text(const nlohmann::json& explanation, const Style& style);
// `flows` as GET /v1/flows has them. `only_count`: how many, by state.
std::string flows_text(const nlohmann::json& flows, bool only_count, const Style& style);

}  // namespace portico::cli
