// SPDX-License-Identifier: Apache-2.0
#include "control/api/upgrade.h"

#include <nlohmann/json.hpp>

#include "control/api/api.h"
#include "control/api/telemetry_client.h"

namespace portico {
namespace {

using nlohmann::json;

// Longer than the dataplane waits for the new program.
constexpr auto kPatience = std::chrono::seconds(12);

ApiResponse to_response(const TelemetryAnswer& from) {
  constexpr const char* kRemedy = "see the dataplane's log, or restart it";
  if (from.error) return api_error(503, *from.error, kRemedy);
  const json whole = json::parse(from.json, nullptr, /*allow_exceptions=*/false);
  const json answer = whole.is_object() ? whole.value("/portico/upgrade", json()) : json();
  if (!answer.is_object())
    return api_error(503, "the dataplane does not know this command", "it is an earlier version: restart it");
  if (answer.contains("error"))
    return api_error(409, answer.value("error", ""), "nothing was changed; mend it and try again");
  return {200, "application/json", json{{"program", answer.value("program", "")}}.dump(2) + "\n"};
}

}  // namespace

void answer_upgrade(boost::asio::io_context& io, const std::string& run_dir, const ApiRespond& respond) {
  ask_telemetry(
      io, find_telemetry_socket(run_dir), "/portico/upgrade",
      [respond](const TelemetryAnswer& answer) {
        // A field of another type than expected is a dataplane of another version, not a reason to end.
        try {
          respond(to_response(answer));
        } catch (const json::exception&) {
          respond(api_error(503, "the dataplane's answer makes no sense", "are both of one version?"));
        }
      },
      kPatience);
}

}  // namespace portico
