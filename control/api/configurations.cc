// SPDX-License-Identifier: Apache-2.0
#include "control/api/configurations.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "contract/limits.h"
#include "control/api/api.h"
#include "control/config_text.h"
#include "control/status.h"

namespace portico {
namespace {

using nlohmann::json;

ApiResponse malformed(const char* remedy) {
  return api_error(400, "the body is malformed", remedy);
}

json messages_json(const ConfigResult& result) {
  json messages = json::array();
  for (const auto& m : result.messages)
    messages.push_back({{"is_error", m.is_error}, {"line", m.line}, {"column", m.column}, {"text", m.text}});
  return messages;
}

// A whole number that may be absent; false if it is something else.
bool read_number(const json& body, const char* key, std::optional<uint64_t>& out) {
  if (!body.contains(key)) return true;
  if (!body[key].is_number_unsigned()) return false;
  out = body[key].get<uint64_t>();
  return true;
}

json entry_json(const AppliedConfig& entry, uint64_t current) {
  return {{"version", entry.version},
          {"applied_ms", entry.applied_ms},
          {"who", entry.who},
          {"note", entry.note},
          {"digest", entry.digest},
          {"bytes", entry.bytes},
          {"current", entry.version == current}};
}

double rounded(double part) {
  return std::round(part * 1e6) / 1e6;
}

json pool_json(const PoolPlan& pool) {
  json backends = json::array();
  for (const BackendPlan& b : pool.backends)
    backends.push_back({{"name", b.name},
                        {"change", to_string(b.change)},
                        {"share_before", rounded(b.share_before)},
                        {"share_after", rounded(b.share_after)},
                        {"flows", b.flows},
                        {"flows_broken", b.flows_broken}});
  return {{"name", pool.name},
          {"change", to_string(pool.change)},
          {"moved", rounded(pool.moved)},
          {"most_broken", pool.most_broken},
          {"broken_exactly", pool.broken_exactly},
          {"backends", std::move(backends)}};
}

json plan_json(const Plan& plan) {
  json services = json::array(), pools = json::array();
  for (const ServicePlan& s : plan.services)
    services.push_back({{"name", s.name},
                        {"change", to_string(s.change)},
                        {"flows", s.flows},
                        {"flows_broken", s.flows_broken},
                        {"reason", s.reason}});
  for (const PoolPlan& pool : plan.pools) pools.push_back(pool_json(pool));
  return {{"services", std::move(services)},
          {"pools", std::move(pools)},
          {"flows", plan.flows},
          {"most_broken", plan.most_broken},
          {"broken_exactly", plan.broken_exactly},
          {"assumed_up", plan.assumed_up}};
}

ApiResponse plan_response(const PlanResult& result) {
  json body = result.plan ? plan_json(*result.plan) : json::object();
  body["messages"] = messages_json(result.read);
  if (result.plan) return json_response(200, body);
  const bool is_bad_file = result.failure.empty();
  body["error"] = is_bad_file ? "the configuration has errors" : result.failure;
  body["remedy"] = is_bad_file ? "mend the file" : "";
  return json_response(is_bad_file ? 422 : 409, body);
}

std::optional<WhatIf> parse_what_if(const std::string& text) {
  const json body = json::parse(text, nullptr, /*allow_exceptions=*/false);
  WhatIf changes;
  if (!body.is_object()) return std::nullopt;
  for (const auto& [key, value] : body.items()) {
    if (key == "remove" && value.is_array()) {
      for (const json& name : value) {
        if (!name.is_string()) return std::nullopt;
        changes.remove.push_back(name.get<std::string>());
      }
    } else if (key == "weights" && value.is_object()) {
      for (const auto& [name, weight] : value.items()) {
        if (!weight.is_number_unsigned() || weight.get<uint64_t>() > kMaxWeight) return std::nullopt;
        changes.weights[name] = weight.get<uint32_t>();
      }
    } else {
      return std::nullopt;
    }
  }
  return changes;
}

ApiResponse reload_response(const StatusView& view, const ReloadResult& result) {
  json body = {{"path", view.config_path}, {"messages", messages_json(result.read)}};
  if (result.read.config) {
    body["config_version"] = view.config_version;
    if (!result.waits_for.empty()) body["waits_for"] = result.waits_for;
    return json_response(200, body);
  }
  const bool is_bad_file = result.failure.empty();
  body["error"] = is_bad_file ? "the configuration has errors; nothing was changed"
                              : "the configuration is good, but was not applied: " + result.failure;
  body["remedy"] = is_bad_file ? "mend the file and reload again"
                               : "the one before stays in use; remove the cause and reload again";
  return json_response(is_bad_file ? 422 : 409, body);
}

}  // namespace

void answer_reload(Service& service, const ApiRequest& request, const std::string& who,
                   const ApiRespond& respond) {
  const bool is_rollback = request.path == "/v1/rollback";
  ReloadOrder order{.who = who, .version = {}, .most_broken = {}};
  const json body = request.body.empty() && !is_rollback
                        ? json::object()
                        : json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  if (!body.is_object() || !read_number(body, "version", order.version) ||
      !read_number(body, "max_broken", order.most_broken) || is_rollback != order.version.has_value())
    return respond(malformed(is_rollback ? R"(send {"version": 3, "max_broken": 0}; the second may be absent)"
                                         : R"(send nothing, or {"max_broken": 0})"));
  if (is_rollback && service.configs().find(*order.version) == nullptr)
    return respond(api_error(404, "configuration " + std::to_string(*order.version) + " is not kept",
                             "`portico history` lists those that are"));
  service.reload(std::move(order), [&service, respond](const ReloadResult& result) {
    respond(reload_response(service.view(), result));
  });
}

void answer_plan(Service& service, const ApiRequest& request, const ApiRespond& respond) {
  if (request.path == kFilePath)
    return service.plan(request.body,
                        [respond](const PlanResult& result) { respond(plan_response(result)); });
  const auto changes = parse_what_if(request.body);
  if (!changes) return respond(malformed(R"(send {"remove": ["portal-1"], "weights": {"portal-2": 50}})"));
  respond(plan_response(service.what_if(*changes)));
}

ApiResponse answer_history(const Service& service, const std::string& path) {
  const uint64_t current = service.view().config_version;
  if (path == "/v1/configs") {
    json configs = json::array();
    for (const AppliedConfig& entry : service.configs().entries())
      configs.push_back(entry_json(entry, current));
    return json_response(200, {{"configs", configs}});
  }
  const std::string name = path.substr(std::string_view("/v1/configs/").size());
  const auto version = parse_number(name);
  const AppliedConfig* entry = version ? service.configs().find(*version) : nullptr;
  if (entry == nullptr)
    return api_error(404, "configuration " + name + " is not kept", "`portico history` lists those that are");
  const auto text = service.configs().text(*version);
  if (!text) return api_error(500, "what is kept of configuration " + name + " is not what was stored", "");
  json body = entry_json(*entry, current);
  body["text"] = *text;
  return json_response(200, body);
}

}  // namespace portico
