// SPDX-License-Identifier: Apache-2.0
#include "control/api/explain.h"

#include <fmt/format.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "control/api/api.h"
#include "control/api/telemetry_client.h"
#include "control/tier_text.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr const char* kUsage = "explain?client=ADDRESS&service=NAME, and &port=PORT for one connection";

// A question that makes sense, or the complaint about it.
struct Question {
  Address client{};
  uint16_t client_port = 0;
  const ServiceConfig* service = nullptr;
  Endpoint listen;
  std::optional<ApiResponse> error;
};

std::optional<uint16_t> parse_port(const std::string& text) {
  if (text.empty() || text.size() > 5 || text.find_first_not_of("0123456789") != std::string::npos)
    return std::nullopt;
  const unsigned long port = std::stoul(text);
  return port >= 1 && port <= 65535 ? std::optional(static_cast<uint16_t>(port)) : std::nullopt;
}

Question failed(unsigned status, const std::string& error, const std::string& remedy = kUsage) {
  Question question;
  question.error = api_error(status, error, remedy);
  return question;
}

Question parse_question(const StatusView& view, const std::string& query) {
  Question question;
  const auto client = Address::parse(query_value(query, "client").value_or(""));
  if (!client) return failed(400, "`client` is no IPv4 or IPv6 address");
  question.client = *client;
  const std::string name = query_value(query, "service").value_or("");
  for (const auto& service : view.config.services)
    if (service.name == name) question.service = &service;
  if (!question.service)
    return failed(404, "there is no service `" + name + "`", "`portico status` lists the services");
  if (const auto text = query_value(query, "port")) {
    const auto port = parse_port(*text);
    if (!port) return failed(400, "`port` is not in 1..65535");
    question.client_port = *port;
  }
  const auto wanted = query_value(query, "listen");
  for (const Endpoint& endpoint : question.service->listen) {
    if (endpoint.address.family() != client->family()) continue;
    if (wanted && *wanted != endpoint_text(endpoint)) continue;
    question.listen = endpoint;
    return question;
  }
  return failed(404, "service `" + name + "` does not listen there for clients of that family",
                "`portico status` lists its listeners");
}

json hop_json(const json& answer, const char* name) {
  if (!answer.contains(name)) return nullptr;
  const json& hop = answer[name];
  return {{"address", hop.value("address", "")},
          {"mac", hop.value("mac", "")},
          {"port", hop.value("port", "")},
          {"vlan", hop.value("vlan", 0)},
          {"resolved", hop.value("resolved", 0) != 0}};
}

json flow_json(const json& answer) {
  if (answer.value("flow", 0) == 0) return nullptr;
  json nat = nullptr;
  if (answer.contains("nat_address"))
    if (const auto address = Address::parse(answer.value("nat_address", "")))
      nat = endpoint_text({*address, answer.value("nat_port", uint16_t{0})});
  return {{"state", answer.value("state", "")},
          {"probationary", answer.value("probationary", 0) != 0},
          {"idle_ms", answer.value("idle_ms", uint64_t{0})},
          {"worker", answer.value("worker", 0)},
          {"nat", nat}};
}

// A next hop as control has published it.
json published_hop(const StatusView& view, uint16_t index) {
  const TableContent& content = view.builder.content();
  if (index >= content.next_hops.size()) return nullptr;
  const NextHopRecord& hop = content.next_hops[index];
  std::string mac;
  for (const uint8_t byte : hop.mac) mac += fmt::format("{}{:02x}", mac.empty() ? "" : ":", byte);
  return {{"address", to_string(hop.address)},
          {"mac", hop.resolved ? mac : ""},
          {"port", hop.port < content.ports.size() ? std::string(name_of(content.ports[hop.port].name)) : ""},
          {"vlan", hop.vlan},
          {"resolved", hop.resolved != 0}};
}

json next_hop_of(const StatusView& view, uint16_t pool, uint16_t backend, bool is_v4) {
  for (const auto& built : view.builder.content().pools)
    if (built.record.id == pool)
      for (const BackendRecord& record : built.backends)
        if (record.id == backend) return published_hop(view, is_v4 ? record.next_hop_v4 : record.next_hop_v6);
  return nullptr;
}

// Where connections of the client may go, if each chooses for itself.
json choices_json(const StatusView& view, const Question& question) {
  json choices = json::array();
  const Family inner = question.client.family();
  const bool is_tunnel = portico::is_tunnel(question.service->mode);
  for (const PoolConfig& pool : view.config.pools) {
    if (pool.name != question.service->pool) continue;
    const uint16_t pool_id = view.ids.pool(pool.name);
    const PoolDecision* decision = view.builder.decision(pool_id);
    for (const BackendConfig& backend : pool.backends) {
      const uint16_t id = view.ids.backend(pool.name, backend);
      const auto health = view.health.status(pool.name, backend.name).value_or(BackendHealth{});
      const auto outer = outer_family(view.config.tunnel, backend, inner);
      const bool is_v4 = (is_tunnel ? outer.value_or(inner) : inner) == Family::v4;
      choices.push_back({{"name", backend.name},
                         {"share", view.builder.share(pool_id, id)},
                         {"health", std::string(to_string(health.state))},
                         {"zone", backend.zone},
                         {"standby", decision != nullptr && decision->standby.contains(id)},
                         {"admin", to_string(view.operators.state(pool.name, backend.name))},
                         {"next_hop", next_hop_of(view, pool_id, id, is_v4)}});
    }
  }
  return choices;
}

// By the hash, and among whom.
std::string why_normal(const StatusView& view, const std::string& pool, const PoolDecision* decision) {
  std::string by_hash = "a new connection goes by the hash to one of the healthy backends";
  const auto found = std::ranges::find(view.config.pools, pool, &PoolConfig::name);
  if (decision == nullptr || found == view.config.pools.end()) return by_hash;
  const std::string text =
      tier_text(view.config, *found, *decision, view.builder.local_percent(view.ids.pool(pool)));
  if (!text.empty()) return by_hash + "; " + text;
  if (decision->standby.empty()) return by_hash;
  const bool by_zone =
      !view.config.zone.empty() && std::ranges::any_of(found->backends, [&](const auto& backend) {
        return backend.zone == view.config.zone;
      });
  return by_hash + (by_zone ? " of zone " + view.config.zone : "") + "; the others are on standby";
}

// Why a new connection of the pool goes where it goes.
std::string why_by_pool(const StatusView& view, const std::string& pool) {
  const PoolDecision* decision = view.builder.decision(view.ids.pool(pool));
  switch (decision ? decision->state : PoolState::normal) {
    case PoolState::normal:
      return why_normal(view, pool, decision);
    case PoolState::panic:
      return "fewer than `min_healthy` backends are healthy: all that are not drained or held are used";
    case PoolState::untested:
      return "no check has a result yet: all backends that are not drained or held are used";
    case PoolState::kept_last:
      return "no backend is up: connections go where they went last (`all_down: keep-last`)";
    case PoolState::cut_off:
      return "nobody answers any check of this balancer: connections go where they went before";
    case PoolState::reset:
      return "no backend can be used: connections are reset";
    case PoolState::drop:
      return "no backend can be used: packets are dropped (`all_down: drop`)";
  }
  return "";
}

// The prefix that decides whether a service lets a client in: the longest of both lists that it is in. Null:
// in none.
json access_rule(const ServiceConfig& service, const Address& client) {
  const Prefix* longest = nullptr;
  const char* list = "";
  const auto look_at = [&](const char* name, const std::vector<Prefix>& prefixes) {
    for (const Prefix& prefix : prefixes) {
      if (!prefix.contains(client) || (longest != nullptr && longest->length >= prefix.length)) continue;
      longest = &prefix;
      list = name;
    }
  };
  look_at("allow", service.allow);
  look_at("deny", service.deny);
  if (longest == nullptr) return nullptr;
  return {{"list", list}, {"prefix", to_string(*longest)}};
}

std::string why_denied(const json& rule) {
  if (!rule.is_object()) return "the client is in no prefix of the service's `allow`";
  return "the service's `" + rule.value("list", "") + "` has " + rule.value("prefix", "");
}

std::string why(const json& answer, const json& rule, const std::string& by_pool) {
  if (answer.value("flow", 0) != 0) return "the connection is in the flow table; it stays with its backend";
  return answer.value("access", "") == "denied" ? why_denied(rule) : by_pool;
}

std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

ApiResponse to_response(const TelemetryAnswer& from, json out, const std::string& by_pool) {
  const char* remedy = "start the dataplane (systemctl start portico-dataplane), or see its log";
  if (from.error) return api_error(503, *from.error, remedy);
  const json whole = json::parse(from.json, nullptr, /*allow_exceptions=*/false);
  const json answer = whole.is_object() ? whole.value("/portico/explain", json()) : json();
  // What DPDK says to a command that nobody has registered yet.
  if (whole.is_object() && answer.is_null())
    return api_error(503, "the dataplane is starting", "try again in a moment, or see its log");
  if (!answer.is_object())
    return api_error(503, "the dataplane's answer makes no sense", "are both of one version?");
  if (answer.contains("error")) return api_error(503, answer.value("error", ""), remedy);
  const bool allowed = answer.value("access", "allowed") != "denied";
  out["allowed"] = allowed;
  // The dataplane may use another generation than the configuration's: then the rule is not the reason.
  if (out["access_rule"].is_object() && (out["access_rule"].value("list", "") == "allow") != allowed)
    out["access_rule"] = nullptr;
  out["return_hop"] = hop_json(answer, "return_hop");
  // The dataplane was asked for port 0: what depends on the port says nothing.
  const bool needs_port = out.contains("choices");
  for (const char* key : {"flow", "backend", "slot", "next_hop", "tunnel"}) out[key] = nullptr;
  out["why"] =
      why(needs_port ? json{{"access", answer.value("access", "")}} : answer, out["access_rule"], by_pool);
  if (needs_port) return {200, "application/json", dump(out)};
  out["flow"] = flow_json(answer);
  out["backend"] = answer.contains("backend") ? answer["backend"] : json();
  out["slot"] = answer.contains("slot") ? answer["slot"] : json();
  out["next_hop"] = hop_json(answer, "next_hop");
  if (answer.contains("tunnel_source"))
    out["tunnel"] = {{"source", answer.value("tunnel_source", "")},
                     {"destination", answer.value("tunnel_destination", "")}};
  return {200, "application/json", dump(out)};
}

}  // namespace

void answer_explain(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                    const std::string& query, const ApiRespond& respond) {
  const Question question = parse_question(view, query);
  if (question.error) return respond(*question.error);
  const ServiceConfig& service = *question.service;
  json about = {{"service", service.name},
                {"listen", endpoint_text(question.listen)},
                {"pool", service.pool},
                {"mode", mode_name(service.mode)},
                {"affinity", service.affinity == Affinity::client ? "client" : "connection"},
                {"client", to_string(question.client)},
                {"client_port", question.client_port},
                {"access_rule", access_rule(service, question.client)}};
  const std::string command = "/portico/explain," + to_string(question.client) + "," +
                              std::to_string(question.client_port) + "," +
                              to_string(question.listen.address) + "," + std::to_string(question.listen.port);
  std::string by_pool = why_by_pool(view, service.pool);
  if (question.client_port == 0 && service.affinity == Affinity::connection) {
    about["choices"] = choices_json(view, question);
    by_pool = "each connection chooses by its port; " + by_pool;
  }
  ask_telemetry(
      io, find_telemetry_socket(run_dir), command, [respond, about, by_pool](const TelemetryAnswer& answer) {
        // A field of another type than expected is a dataplane of another version, not a reason to end.
        try {
          respond(to_response(answer, about, by_pool));
        } catch (const json::exception&) {
          respond(api_error(503, "the dataplane's answer makes no sense", "are both of one version?"));
        }
      });
}

}  // namespace portico
