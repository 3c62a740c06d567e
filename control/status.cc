// SPDX-License-Identifier: Apache-2.0
#include "control/status.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "contract/drop_reasons.h"
#include "contract/run_dir.h"
#include "control/config_names.h"
#include "control/nat_use.h"
#include "control/printable.h"
#include "control/tier_text.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr double kBitsPerByte = 8;

std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

// Whole days until the certificate expires, rounded down; negative once it has.
int64_t days_left(const CheckStatus& check) {
  constexpr double kDaySeconds = 86400;
  const auto now_s = static_cast<int64_t>(realtime_ns() / 1'000'000'000);
  return static_cast<int64_t>(
      std::floor(static_cast<double>(check.certificate_expires_s - now_s) / kDaySeconds));
}

// Of the backend's checks, those that a person must see to before long.
void add_certificate_warnings(const std::string& backend, const BackendHealth& health,
                              std::vector<std::string>& warnings) {
  for (const auto& check : health.checks) {
    if (check.certificate_expires_s == 0 || days_left(check) >= int64_t{check.certificate_days}) continue;
    const int64_t days = days_left(check);
    warnings.push_back("the certificate of " + backend + " (check " + check.name + ") " +
                       (days < 0 ? "has expired" : "expires in " + std::to_string(days) + " days"));
  }
}

double rounded(double value) {
  return std::round(value * 100) / 100;
}

json table_json(const StatusView& view) {
  const FeedbackHeader& header = view.watch.feedback().header;
  const bool refused = view.watch.refused() != 0;
  return {{"published", view.published},
          {"adopted", view.watch.adopted()},
          {"refused", view.watch.refused()},
          {"refused_text",
           refused ? to_printable({header.refused_text, strnlen(header.refused_text, kTextSize)}) : ""}};
}

json workers_json(const StatusView& view) {
  json workers = json::array();
  const Feedback& feedback = view.watch.settled();
  for (uint32_t i = 0; i < view.watch.feedback().header.worker_count; ++i) {
    const WorkerFeedback& worker = feedback.workers[i];
    workers.push_back({{"cpu", worker.cpu},
                       {"busy", rounded(view.watch.busy(i).value())},
                       {"generation", worker.acked_generation},
                       {"flows", worker.flows},
                       {"flow_capacity", worker.flow_capacity},
                       {"flows_uninserted", worker.flows_uninserted},
                       {"evictions", worker.evictions},
                       {"nat_fullest_used", worker.nat_fullest_used},
                       {"nat_fullest_ports", worker.nat_fullest_ports}});
  }
  return workers;
}

json take_over_json(const TakeOverFeedback& take_over) {
  json lost = json::object();
  for (uint32_t i = 0; i < kFlowLossCount; ++i)
    lost[std::string(kFlowLossNames[i])] = take_over.flows_lost[i];
  return {{"stop_ms", rounded(static_cast<double>(take_over.stop_ns) * 1e-6)},
          {"flows_kept", take_over.flows_kept},
          {"flows_lost", lost}};
}

json dataplane_json(const StatusView& view) {
  const Feedback& feedback = view.watch.settled();
  const FeedbackHeader& header = view.watch.feedback().header;
  const bool working = view.watch.is_working();
  json ports = json::array();
  for (const auto& port : std::span(feedback.ports).first(header.port_count))
    ports.push_back({{"name", to_printable(name_of(port.name))},
                     {"link_up", port.link_up != 0},
                     {"queues", port.queues},
                     {"rx_missed", port.rx_missed}});
  const NatUse nat = nat_use(view.config, view.ids, feedback);
  const auto wrong = view.watch.warnings();
  const bool there = view.watch.result().ok() && view.watch.result().writer_alive;
  return {{"state", there ? to_string(DataplaneState{header.state}) : "absent"},
          {"working", working},
          {"text", working || wrong.empty() ? "" : wrong.front()},
          {"pid", view.watch.result().pid},
          {"version", to_printable(name_of(header.version))},
          {"started_ms", header.start_realtime_ns / 1'000'000},
          {"epoch", std::to_string(header.epoch)},
          // Written once, before the new dataplane runs: no reading of it is in between.
          {"take_over", take_over_json(view.watch.feedback().take_over)},
          {"workers", workers_json(view)},
          {"nat_ports_used", nat.used},
          {"nat_ports_total", nat.total},
          {"nat_fullest", nat.backend},
          {"ports", ports}};
}

// All reasons together, and the one that drops most at present.
json drops_summary(const StatusView& view) {
  double total = 0, most = 0;
  std::string top;
  for (uint32_t i = 0; i < kDropReasonCount; ++i) {
    const double rate = view.watch.drop_rate(i).per_second();
    total += rate;
    if (rate <= most) continue;
    most = rate;
    top = kDropReasonNames[i];
  }
  return {{"per_second", rounded(total)}, {"top", top}};
}

double bits(const Rate& in, const Rate& out) {
  return rounded((in.per_second() + out.per_second()) * kBitsPerByte);
}

// By name of the pool: many services may use one.
using Conditions = std::map<std::string, PoolCondition>;

StatusLevel level_of(const StatusView& view, const Conditions& conditions, const std::string& pool) {
  const auto condition = conditions.find(pool);
  if (!why_not_ready(view).empty() || condition == conditions.end()) return StatusLevel::unserved;
  return condition->second.level;
}

json service_json(const StatusView& view, const Conditions& conditions, const ServiceConfig& service) {
  const uint16_t id = view.ids.service(service);
  json listen = json::array();
  for (const Endpoint& endpoint : service.listen) listen.push_back(endpoint_text(endpoint));
  const ServiceFeedback& feedback = view.watch.settled().services[id];
  const ServiceRates& rates = view.watch.service_rates(id);
  return {{"name", service.name},
          {"listen", listen},
          {"mode", mode_name(service.mode)},
          {"proxy_protocol", to_word(service.proxy_protocol)},
          {"proxy_headers_sent", feedback.headers_sent},
          {"proxy_headers_repeated", feedback.headers_repeated},
          {"proxy_headers_unwatched", feedback.headers_unwatched},
          {"source_limited", feedback.source_limited},
          {"pool", service.pool},
          {"level", to_string(level_of(view, conditions, service.pool))},
          {"flows", feedback.flows},
          {"new_per_second", rounded(rates.new_flows.per_second())},
          {"bits_per_second", bits(rates.bytes_in, rates.bytes_out)},
          {"missed_per_second", rounded(rates.missed.per_second())}};
}

json checks_json(const BackendHealth& health) {
  json checks = json::array();
  for (const auto& check : health.checks) {
    checks.push_back({{"name", check.name},
                      {"kind", to_word(check.kind)},
                      {"target", endpoint_text(check.target)},
                      {"state", std::string(to_string(check.state))},
                      {"reason", check.last_reason},
                      {"latency_us", check.last_latency_us}});
    if (check.certificate_expires_s == 0) continue;
    checks.back()["certificate_expires_ms"] = check.certificate_expires_s * 1000;
    checks.back()["certificate_days"] = days_left(check);
  }
  return checks;
}

// Whether a backend that is up falls too often to be used.
bool is_damped(const BackendHealth& health) {
  return health.damped_until_monotonic_ns > static_cast<int64_t>(monotonic_ns());
}

// The state of docs/health.md's table.
const char* state_of(const BackendHealth& health, Admin admin) {
  const auto any = [&](CheckState state) {
    return std::any_of(health.checks.begin(), health.checks.end(),
                       [&](const CheckStatus& check) { return check.state == state; });
  };
  if (admin == Admin::held) return "held";
  if (admin == Admin::drained) return "draining";
  switch (health.state) {
    case HealthState::unknown:
      return "unknown";
    case HealthState::down:
      return any(CheckState::recovering) && !any(CheckState::down) ? "recovering" : "down";
    case HealthState::up:
      break;
  }
  if (is_damped(health)) return "damped";
  return any(CheckState::failing) ? "failing" : "up";
}

// What operators and time make of the configured weight.
void add_weight(const StatusView& view, const PoolConfig& pool, const BackendConfig& backend, json& out) {
  const WeightEntry* entry = view.operators.find_weight(pool.name, backend.name);
  const WeightEntry by = entry ? *entry : WeightEntry{};
  out["weight"] = weight_of(view.operators, pool.name, backend);
  out["weight_configured"] = backend.weight;
  out["weight_set"] = entry != nullptr;
  out["weight_since_ms"] = by.since_ms;
  out["weight_who"] = by.who;
  out["weight_why"] = by.why;
  out["ramp"] = view.builder.ramp(view.ids.pool(pool.name), view.ids.backend(pool.name, backend));
}

json backend_json(const StatusView& view, const PoolConfig& pool, const BackendConfig& backend) {
  const uint16_t id = view.ids.backend(pool.name, backend);
  const auto health = view.health.status(pool.name, backend.name).value_or(BackendHealth{});
  const AdminEntry* found = view.operators.find(pool.name, backend.name);
  const AdminEntry admin = found ? *found : AdminEntry{};
  const BackendFeedback& feedback = view.watch.settled().backends[id];
  const BackendRates& rates = view.watch.backend_rates(id);
  json addresses = json::array();
  for (const auto& address : {backend.v4, backend.v6})
    if (address) addresses.push_back(to_string(*address));
  json out = {{"name", backend.name},
              {"addresses", std::move(addresses)},
              {"state", state_of(health, admin.state)},
              {"flap_penalty", rounded(health.flap_penalty)},
              {"damped", is_damped(health)},
              {"health", std::string(to_string(health.state))},
              {"since_ms", health.since_realtime_ns / 1'000'000},
              {"reason", health.reason},
              {"admin", to_string(admin.state)},
              {"admin_since_ms", admin.since_ms},
              {"admin_who", admin.who},
              {"admin_why", admin.why},
              {"admin_deadline_ms", admin.deadline_ms},
              {"share", view.builder.share(view.ids.pool(pool.name), id)},
              {"flows", feedback.flows},
              {"new_per_second", rounded(rates.new_flows.per_second())},
              {"bits_per_second", bits(rates.bytes_in, rates.bytes_out)},
              {"signals",
               {{"syns_unanswered", feedback.syns_unanswered},
                {"syns_repeated", feedback.syn_repeats},
                {"syns_refused", feedback.syns_refused},
                {"probes", view.passive.probes(id)}}},
              {"checks_passed", health.checks_passed},
              {"checks_total", health.checks_total},
              {"checks", checks_json(health)}};
  add_weight(view, pool, backend, out);
  const PoolDecision* decision = view.builder.decision(view.ids.pool(pool.name));
  out["zone"] = backend.zone;
  out["backup"] = backend.backup;
  out["standby"] = decision ? standby_text(view.config, backend, *decision, id) : "";
  return out;
}

json pool_json(const StatusView& view, const PoolConfig& pool, const PoolCondition& condition) {
  const PoolDecision* decision = view.builder.decision(view.ids.pool(pool.name));
  json backends = json::array();
  for (const auto& backend : pool.backends) backends.push_back(backend_json(view, pool, backend));
  return {{"name", pool.name},
          {"spills", decision != nullptr && decision->spills},
          {"uses_backups", decision != nullptr && decision->uses_backups},
          {"local_percent", view.builder.local_percent(view.ids.pool(pool.name))},
          {"state", decision ? to_string(decision->state) : "unknown"},
          {"level", to_string(condition.level)},
          {"up", condition.up},
          {"total", pool.backends.size()},
          {"warnings", condition.warnings},
          {"backends", std::move(backends)}};
}

}  // namespace

const char* to_string(StatusLevel level) {
  if (level == StatusLevel::ok) return "ok";
  return level == StatusLevel::degraded ? "degraded" : "unserved";
}

std::string endpoint_text(const Endpoint& endpoint) {
  const std::string address = to_string(endpoint.address);
  return (endpoint.address.is_v4() ? address : "[" + address + "]") + ":" + std::to_string(endpoint.port);
}

// To connections of a pool without a backend that is up; null: nothing was decided yet.
static const char* what_happens(const PoolDecision* decision) {
  if (decision == nullptr) return "no table is published yet";
  if (decision->state == PoolState::untested)
    return "no check has a result yet, connections go to all of them";
  if (decision->state == PoolState::drop) return "connections are dropped";
  return decision->disposition() == PoolDisposition::serve ? "connections go where they went last"
                                                           : "connections are reset";
}

PoolCondition pool_condition(const StatusView& view, const PoolConfig& pool) {
  PoolCondition condition;
  std::vector<std::string> certificates;
  uint32_t expected = 0, taking = 0;
  for (const auto& backend : pool.backends) {
    const auto health = view.health.status(pool.name, backend.name);
    const bool up = health && health->healthy;
    condition.up += up ? 1 : 0;
    if (health) add_certificate_warnings(backend.name, *health, certificates);
    if (weight_of(view.operators, pool.name, backend) == 0) continue;
    ++expected;
    taking +=
        up && !is_damped(*health) && view.operators.state(pool.name, backend.name) == Admin::active ? 1 : 0;
  }
  if (taking < expected || !certificates.empty()) condition.level = StatusLevel::degraded;
  const PoolDecision* decision = view.builder.decision(view.ids.pool(pool.name));
  if (decision != nullptr && decision->state == PoolState::panic)
    condition.warnings.push_back(
        "panic: fewer than `min_healthy` are up, so all that are not drained or held are used");
  if (decision != nullptr)
    if (auto text =
            tier_text(view.config, pool, *decision, view.builder.local_percent(view.ids.pool(pool.name)));
        !text.empty()) {
      condition.level = StatusLevel::degraded;
      condition.warnings.push_back(std::move(text));
    }
  if (taking == 1) condition.warnings.push_back("no redundancy");
  if (taking == 0) {
    condition.level = StatusLevel::unserved;
    condition.warnings.push_back(std::string("no backend is up; ") + what_happens(decision));
  }
  condition.warnings.insert(condition.warnings.end(), certificates.begin(), certificates.end());
  return condition;
}

std::string why_not_ready(const StatusView& view) {
  if (!view.watch.is_forwarding()) return "no dataplane forwards by a table of this control";
  if (!view.waits_for.empty()) return view.waits_for;
  return view.isolation.is_cut_off() ? "cut off: " + view.isolation.why() : "";
}

static json isolation_json(const StatusView& view) {
  return {{"state", to_string(view.isolation.state())},
          {"why", view.isolation.is_cut_off() ? view.isolation.why() : ""},
          {"since_ms", view.isolation_since_ms}};
}

std::string ready_json(const StatusView& view) {
  const std::string why = why_not_ready(view);
  return dump({{"ready", why.empty()}, {"why", why}, {"isolation", isolation_json(view)}});
}

std::string status_json(const StatusView& view) {
  json services = json::array(), pools = json::array(), warnings = view.warnings;
  const std::string not_ready = why_not_ready(view);
  StatusLevel level = not_ready.empty() ? StatusLevel::ok : StatusLevel::unserved;
  Conditions conditions;
  for (const auto& pool : view.config.pools) {
    const PoolCondition& condition = conditions[pool.name] = pool_condition(view, pool);
    level = std::max(level, condition.level);
    pools.push_back(pool_json(view, pool, condition));
  }
  for (const auto& service : view.config.services)
    services.push_back(service_json(view, conditions, service));
  for (const auto& text : view.watch.warnings()) warnings.push_back(text);
  if (view.watch.refused() != 0) level = std::max(level, StatusLevel::degraded);
  return dump(
      {{"instance", view.config.instance},
       {"zone", view.config.zone},
       {"version", PORTICO_VERSION},
       {"level", to_string(level)},
       {"ready", not_ready.empty()},
       {"isolation", isolation_json(view)},
       {"now_ms", realtime_ns() / 1'000'000},
       {"control", {{"pid", getpid()}, {"started_ms", view.started_ms}}},
       {"config",
        {{"path", view.config_path}, {"version", view.config_version}, {"loaded_ms", view.loaded_ms}}},
       {"table", table_json(view)},
       {"dataplane", dataplane_json(view)},
       {"drops", drops_summary(view)},
       {"services", std::move(services)},
       {"pools", std::move(pools)},
       {"warnings", std::move(warnings)}});
}

std::optional<std::string> backend_status_json(const StatusView& view, const std::string& pool,
                                               const std::string& backend) {
  for (const auto& p : view.config.pools)
    for (const auto& b : p.backends) {
      if (p.name != pool || b.name != backend) continue;
      json out = backend_json(view, p, b);
      out["pool"] = pool;
      out["now_ms"] = realtime_ns() / 1'000'000;
      return dump(out);
    }
  return std::nullopt;
}

std::string drops_json(const StatusView& view) {
  json drops = json::array();
  for (uint32_t i = 0; i < kDropReasonCount; ++i)
    drops.push_back({{"name", std::string(kDropReasonNames[i])},
                     {"packets", view.watch.settled().drops[i]},
                     {"per_second", rounded(view.watch.drop_rate(i).per_second())},
                     {"text", std::string(kDropReasonTexts[i])}});
  return dump({{"working", view.watch.is_working()},
               {"to_kernel", view.watch.settled().to_kernel},
               {"answered", view.watch.settled().answered},
               {"forwarded", view.watch.settled().forwarded},
               {"originated", view.watch.settled().originated},
               {"reassembled", view.watch.settled().reassembled},
               {"fragments_joined", view.watch.settled().fragments_joined},
               {"fragments_held", view.watch.settled().fragments_held},
               {"fragmented", view.watch.settled().fragmented},
               {"fragments_sent", view.watch.settled().fragments_sent},
               {"steered_to_dataplane", view.watch.settled().steered_to_dataplane},
               {"steered_to_kernel", view.watch.settled().steered_to_kernel},
               {"steered_no_socket", view.watch.settled().steered_no_socket},
               {"kernel_taken", view.watch.settled().kernel_taken},
               {"from_kernel", view.watch.settled().from_kernel},
               {"kernel_waits", view.watch.settled().kernel_waits},
               {"drops", drops}});
}

}  // namespace portico
