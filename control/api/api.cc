// SPDX-License-Identifier: Apache-2.0
#include "control/api/api.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "contract/limits.h"
#include "contract/run_dir.h"
#include "control/api/capture.h"
#include "control/api/configurations.h"
#include "control/api/explain.h"
#include "control/api/flows.h"
#include "control/api/metrics.h"
#include "control/api/upgrade.h"
#include "control/config_text.h"
#include "control/printable.h"
#include "control/schema/schemas.h"
#include "control/status.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr const char* kUpgradePath = "/v1/dataplane/upgrade";
constexpr const char* kCapturePath = "/v1/capture";  // both GET and POST
constexpr size_t kMaxWhy = 256;                      // bytes of an operator's reason
constexpr uint64_t kLongestDeadlineMs = uint64_t{30} * 24 * 3600 * 1000;

bool may_change(const ApiRequest& request) {
  const auto& peer = request.peer;
  if (!request.who.empty()) return true;
  return peer && (peer->uid == 0 || peer->uid == geteuid() ||
                  std::find(peer->groups.begin(), peer->groups.end(), getegid()) != peer->groups.end());
}

// By /etc/passwd alone: getpwuid(3) may ask a directory server, and the checks would wait for its answer.
std::string name_of_user(uint32_t uid) {
  const auto close = [](FILE* file) { std::fclose(file); };
  const std::unique_ptr<FILE, decltype(close)> file(std::fopen("/etc/passwd", "re"), close);
  std::array<char, 4096> buffer;
  passwd entry{}, *found = nullptr;
  while (file && fgetpwent_r(file.get(), &entry, buffer.data(), buffer.size(), &found) == 0)
    if (entry.pw_uid == uid) return std::string(entry.pw_name) + " (uid " + std::to_string(uid) + ")";
  return "uid " + std::to_string(uid);
}

std::string who_asks(const ApiRequest& request) {
  return request.who.empty() ? name_of_user(request.peer->uid) : request.who;
}

bool is_get(const std::string& path) {
  return path == "/v1/status" || path == "/v1/ready" || path == "/v1/drops" ||
         path == "/v1/config/effective" || path == "/v1/explain" || path == "/v1/flows" ||
         path == "/v1/events" || path == "/v1/history" || path == "/v1/stream" || path == "/metrics" ||
         path == "/v1/schema.json" || path == "/v1/openapi.json" || path == "/v1/configs" ||
         path.starts_with("/v1/configs/");
}

// The `after` of a question for events: 0 if it is not there, nothing if it is no id.
std::optional<uint64_t> parse_after(const std::string& query) {
  const std::string text = query_value(query, "after").value_or("");
  return text.empty() ? 0 : parse_number(text);
}

bool is_post(const std::string& path) {
  return path == "/v1/reload" || path == "/v1/rollback" || path == kFilePath || path == "/v1/what-if" ||
         path == kUpgradePath;
}

// "/v1/backends/POOL/BACKEND/ACTION" in its parts; without ACTION, that is empty.
struct BackendPath {
  std::string pool, backend, action;
};
std::optional<BackendPath> parse_backend_path(const std::string& path) {
  constexpr std::string_view kPrefix = "/v1/backends/";
  if (!path.starts_with(kPrefix)) return std::nullopt;
  const std::string rest = path.substr(kPrefix.size());
  const size_t first = rest.find('/'), last = rest.rfind('/');
  if (first == std::string::npos) return std::nullopt;
  if (last == first) return BackendPath{rest.substr(0, first), rest.substr(first + 1), ""};
  if (rest.find('/', first + 1) != last) return std::nullopt;
  return BackendPath{rest.substr(0, first), rest.substr(first + 1, last - first - 1), rest.substr(last + 1)};
}

std::optional<Admin> admin_of(const std::string& action) {
  if (action == "drain") return Admin::drained;
  if (action == "hold") return Admin::held;
  if (action == "resume") return Admin::active;
  return std::nullopt;
}

// The optional body of a backend's command.
struct CommandBody {
  std::string why;
  bool force = false;
  std::optional<uint64_t> deadline_ms;  // from now
  std::optional<uint32_t> weight;       // absent: the configuration's
};
std::optional<CommandBody> parse_command_body(const std::string& text) {
  CommandBody body;
  if (text.empty()) return body;
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return std::nullopt;
  for (const auto& [key, value] : parsed.items()) {
    if (key == "why" && value.is_string())
      body.why = value.get<std::string>();
    else if (key == "force" && value.is_boolean())
      body.force = value.get<bool>();
    else if (key == "deadline_ms" && value.is_number_unsigned() &&
             value.get<uint64_t>() <= kLongestDeadlineMs)
      body.deadline_ms = value.get<uint64_t>();
    else if (key == "weight" && value.is_number_unsigned() && value.get<uint64_t>() <= kMaxWeight)
      body.weight = value.get<uint32_t>();
    else if (key == "weight" && value.is_null())
      body.weight.reset();
    else
      return std::nullopt;
  }
  return body;
}

uint64_t flows_of(const StatusView& view, const std::string& pool, const std::string& backend) {
  for (const auto& p : view.config.pools)
    for (const auto& b : p.backends)
      if (p.name == pool && b.name == backend)
        return view.watch.settled().backends[view.ids.backend(pool, b)].flows;
  return 0;
}

uint32_t weight_now(const StatusView& view, const std::string& pool, const std::string& backend) {
  for (const auto& p : view.config.pools)
    for (const auto& b : p.backends)
      if (p.name == pool && b.name == backend) return weight_of(view.operators, pool, b);
  return 0;
}

ApiResponse command_error(const CommandResult& result) {
  switch (result.kind) {
    case CommandResult::Kind::unknown_backend:
      return api_error(404, result.text, result.remedy);
    case CommandResult::Kind::ambiguous:
    case CommandResult::Kind::refused:
      return api_error(409, result.text, result.remedy);
    default:
      return api_error(500, result.text, result.remedy);
  }
}

}  // namespace

ApiResponse json_response(unsigned status, const json& body) {
  return {status, "application/json", body.dump(2, ' ', false, json::error_handler_t::replace) + "\n"};
}

ApiResponse api_error(unsigned status, const std::string& error, const std::string& remedy) {
  return json_response(status, {{"error", error}, {"remedy", remedy}});
}

void Api::handle(const ApiRequest& request, const ApiRespond& respond) {
  const auto backend = parse_backend_path(request.path);
  const bool is_capture = request.path == kCapturePath;
  const bool get_path =
      is_get(request.path) || (backend && backend->action.empty()) || (is_capture && request.method == "GET");
  const bool post_path = !get_path && (is_post(request.path) || backend || is_capture);
  if (!get_path && !post_path)
    return respond(api_error(404, "there is no endpoint " + request.path, "see docs/api.md"));
  if (request.method != (get_path ? "GET" : "POST"))
    return respond(api_error(405, request.path + " is for " + (get_path ? "GET" : "POST")));
  if (request.path == "/v1/explain")
    return answer_explain(io_, service_.view(), service_.run_dir(), request.query, respond);
  if (request.path == "/v1/flows")
    return answer_flows(io_, service_.view(), service_.run_dir(), request.query, respond);
  if (is_capture && get_path) return answer_capture_status(io_, service_.run_dir(), respond);
  if (get_path) return respond(get(request));
  if (!may_change(request))
    return respond(
        api_error(403, "not allowed", "run it as root, or as the user or group of portico-control"));
  if (is_capture) return answer_capture(io_, service_.view(), service_.run_dir(), request.body, respond);
  if (request.path == kUpgradePath) return answer_upgrade(io_, service_.run_dir(), respond);
  if (request.path == "/v1/reload" || request.path == "/v1/rollback")
    return answer_reload(service_, request, who_asks(request), respond);
  if (request.path == kFilePath || request.path == "/v1/what-if")
    return answer_plan(service_, request, respond);
  respond(post_backend(request));
}

void Api::handle_metrics(const ApiRequest& request, const ApiRespond& respond) {
  if (request.path == "/metrics") return handle(request, respond);
  respond(api_error(404, "only /metrics is served here", "use the Unix socket control.sock, or --http"));
}

ApiResponse Api::get(const ApiRequest& request) {
  if (request.path == "/v1/history") return {200, "application/json", service_.history().json() + "\n"};
  if (request.path == "/v1/stream" || request.path == "/v1/events") return stream(request);
  if (request.path == "/v1/status") return {200, "application/json", status_json(service_.view())};
  if (request.path == "/v1/ready") {
    const StatusView view = service_.view();
    return {why_not_ready(view).empty() ? 200U : 503U, "application/json", ready_json(view)};
  }
  if (request.path == "/v1/drops") return {200, "application/json", drops_json(service_.view())};
  if (request.path == "/v1/schema.json")
    return {200, "application/schema+json", std::string(config_schema())};
  if (request.path == "/v1/openapi.json") return {200, "application/json", std::string(openapi_document())};
  if (request.path == "/v1/config/effective") return {200, "text/yaml", service_.effective()};
  if (request.path.starts_with("/v1/configs")) return answer_history(service_, request.path);
  if (const auto backend = parse_backend_path(request.path)) {
    const auto text = backend_status_json(service_.view(), backend->pool, backend->backend);
    if (text) return {200, "application/json", *text};
    return api_error(404, "there is no backend `" + backend->backend + "` in pool `" + backend->pool + "`",
                     "`portico status` lists the backends");
  }
  return {200, kMetricsContentType, metrics_text(service_.view())};
}

ApiResponse Api::stream(const ApiRequest& request) {
  const auto after = parse_after(request.query);
  if (!after) return api_error(400, "`after` is no id of an event", "leave it out, or take the last event's");
  if (request.path == "/v1/events")
    return {200, "application/json", "{\"events\": " + service_.events().json_after(*after) + "}\n"};
  ApiResponse response{200, "text/event-stream", ""};
  response.stream = feed_.open(*after);
  return response;
}

ApiResponse Api::post_backend(const ApiRequest& request) {
  const auto path = parse_backend_path(request.path);
  const auto admin = admin_of(path->action);
  const bool is_weight = path->action == "weight";
  if (!admin && !is_weight)
    return api_error(404, "there is no action " + path->action, "drain, hold, resume or weight");
  const auto body = parse_command_body(request.body);
  if (!body)
    return api_error(400, "the body is malformed, or a number in it is too large",
                     R"(send nothing, or {"why": "text", "force": false, "deadline_ms": 600000} of at most )"
                     R"(30 days; for a weight {"weight": 50}, 0 to 1000)");
  // It stands in the log and on terminals.
  if (body->why.size() > kMaxWhy || !is_printable(body->why))
    return api_error(400, "`why` is too long, or has control characters or others that do not show",
                     "write one line of at most 256 bytes");
  const std::string pool = path->pool == "-" ? "" : path->pool, who = who_asks(request);
  const auto now_ms = static_cast<int64_t>(realtime_ns() / 1'000'000);
  CommandResult result;
  if (is_weight) {
    result = service_.set_weight(pool, path->backend, body->weight,
                                 {.who = who, .since_ms = now_ms, .why = body->why}, body->force);
  } else {
    AdminEntry entry{.state = *admin, .who = who, .since_ms = now_ms, .why = body->why};
    if (body->deadline_ms) entry.deadline_ms = now_ms + static_cast<int64_t>(*body->deadline_ms);
    result = service_.set_admin(pool, path->backend, std::move(entry), body->force);
  }
  if (result.kind != CommandResult::Kind::done) return command_error(result);
  const StatusView view = service_.view();
  json answer = {{"pool", result.pool},
                 {"backend", path->backend},
                 {"admin", to_string(view.operators.state(result.pool, path->backend))},
                 {"flows", flows_of(view, result.pool, path->backend)}};
  if (is_weight) {
    answer["weight"] = weight_now(view, result.pool, path->backend);
    answer["weight_set"] = view.operators.find_weight(result.pool, path->backend) != nullptr;
  }
  if (!result.waits_for.empty()) answer["waits_for"] = result.waits_for;
  return json_response(200, answer);
}

}  // namespace portico
