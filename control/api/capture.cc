// SPDX-License-Identifier: Apache-2.0
#include "control/api/capture.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "contract/limits.h"
#include "control/api/api.h"
#include "control/api/telemetry_client.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr const char* kRemedy = "see docs/api.md";

// A number of the body; `fallback` if it is not there. Throws json::exception on another type.
uint64_t number(const json& body, const char* key, uint64_t fallback) {
  return body.value(key, fallback);
}

// What the dataplane is told; the dataplane judges the numbers. Throws json::exception on wrong types.
std::optional<std::string> command_of(const json& body, const StatusView& view, std::string& problem) {
  uint16_t service_id = kNone;
  const std::string service = body.value("service", ""), client = body.value("client", ""),
                    token = body.value("token", "");
  for (const auto& one : view.config.services)
    if (one.name == service) service_id = view.ids.service(one);
  if (!service.empty() && service_id == kNone) problem = "there is no service `" + service + "`";
  if (!client.empty() && !Address::parse(client)) problem = "`client` is no IPv4 or IPv6 address";
  if (service.empty() && client.empty()) problem = "neither `service` nor `client` is there";
  // It becomes a part of a command and of a file's name.
  if (token.size() != 16 || token.find_first_not_of("0123456789abcdef") != std::string::npos)
    problem = "`token` is not 16 hexadecimal digits";
  if (!problem.empty()) return std::nullopt;
  return fmt::format("/portico/capture,{},{},{},{},{},{},{},{}", token, service_id,
                     client.empty() ? "-" : to_string(*Address::parse(client)), number(body, "port", 0),
                     number(body, "seconds", 60), number(body, "packets", 100'000),
                     number(body, "bytes", 64 << 20), number(body, "snap", 2048));
}

ApiResponse to_response(const TelemetryAnswer& from, const char* command) {
  if (from.error) return api_error(503, *from.error, "start the dataplane, or see its log");
  const json whole = json::parse(from.json, nullptr, /*allow_exceptions=*/false);
  const json answer = whole.is_object() ? whole.value(command, json()) : json();
  if (!answer.is_object())
    return api_error(503, "the dataplane does not know this command", "it is an earlier version: restart it");
  if (answer.contains("error"))
    return api_error(409, answer.value("error", ""), "wait for it, or mend what it says");
  json out = answer;
  if (out.contains("running")) out["running"] = answer.value("running", 0) != 0;
  return json_response(200, out);
}

void ask(boost::asio::io_context& io, const std::string& run_dir, const std::string& command,
         const char* name, const ApiRespond& respond) {
  ask_telemetry(io, find_telemetry_socket(run_dir), command, [respond, name](const TelemetryAnswer& answer) {
    try {
      respond(to_response(answer, name));
    } catch (const json::exception&) {
      respond(api_error(503, "the dataplane's answer makes no sense", "are both of one version?"));
    }
  });
}

}  // namespace

void answer_capture(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                    const std::string& body, const ApiRespond& respond) {
  std::string problem;
  try {
    const json parsed = json::parse(body);
    const auto command = command_of(parsed, view, problem);
    if (command) return ask(io, run_dir, *command, "/portico/capture", respond);
  } catch (const json::exception&) {
    problem = "the body is malformed";
  }
  respond(api_error(400, problem, kRemedy));
}

void answer_capture_status(boost::asio::io_context& io, const std::string& run_dir,
                           const ApiRespond& respond) {
  ask(io, run_dir, "/portico/capture_status", "/portico/capture_status", respond);
}

}  // namespace portico
