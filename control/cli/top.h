// SPDX-License-Identifier: Apache-2.0
// What `portico top` shows: a reading of the status, ordered, as a screen of lines. Pure functions.
#pragma once

#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "control/cli/format.h"

namespace portico::cli {

// By what backends are ordered: `pool` and then name, ascending; the worst state first; else the largest
// first.
inline constexpr std::array<std::string_view, 7> kTopOrders = {"pool", "state", "share", "flows",
                                                               "new",  "bits",  "check"};

struct TopState {
  std::string order = "pool";  // one of kTopOrders
  std::string selected;        // POOL/BACKEND; one that there is not: the first
  std::string head;            // the first line
  std::string prompt;          // in place of the keys, if not empty
};

// Of a status, what `portico top --json` prints: now_ms, instance, services, backends in this order.
nlohmann::json top_reading(const nlohmann::json& status, std::string_view order);

// A reading as at most `rows` lines of at most `columns` characters, with the selected backend among them.
// Sets `state.selected` to one that is there.
std::string top_screen(const nlohmann::json& reading, TopState& state, size_t rows, size_t columns,
                       const Style& style);

// The backend `by` places below the selected one, or the last or first; "" if there is none.
std::string top_neighbour(const nlohmann::json& reading, const std::string& selected, int by);

// The first `columns` characters of a line; colours do not count.
std::string cut_line(std::string_view line, size_t columns);

}  // namespace portico::cli
