// SPDX-License-Identifier: Apache-2.0
#include "control/cli/answer.h"

#include "control/config.h"

namespace portico::cli {

using nlohmann::json;

std::string dump(const json& value) {
  return value.dump(2, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace) + "\n";
}

std::string messages_text(const json& answer) {
  ConfigResult result;
  for (const json& m : answer.value("messages", json::array())) {
    result.messages.push_back(
        {m.value("is_error", true), m.value("line", 0), m.value("column", 0), m.value("text", "")});
  }
  return format_messages(result, answer.value("path", "configuration"));
}

std::string waits_text(const json& answer) {
  const std::string waits_for = answer.value("waits_for", "");
  return waits_for.empty() ? "" : "! not in force yet: " + waits_for + "\n";
}

}  // namespace portico::cli
