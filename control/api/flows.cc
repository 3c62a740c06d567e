// SPDX-License-Identifier: Apache-2.0
#include "control/api/flows.h"

#include <fmt/format.h>

#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "control/api/api.h"
#include "control/api/telemetry_client.h"
#include "control/config_text.h"

namespace portico {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* kRemedy = "see docs/api.md";
constexpr uint64_t kUsualLimit = 100, kHighestLimit = 10'000;
constexpr auto kPatience = std::chrono::seconds(10);

// What the ids in the dataplane's answers are called; it may have flows of what the configuration has no
// more.
struct Names {
  std::map<uint16_t, std::string> services;
  std::map<uint16_t, std::pair<std::string, std::string>> backends;  // pool, name
};

Names names_of(const StatusView& view) {
  Names names;
  for (const ServiceConfig& service : view.config.services)
    names.services[view.ids.service(service)] = service.name;
  for (const PoolConfig& pool : view.config.pools)
    for (const BackendConfig& backend : pool.backends)
      names.backends[view.ids.backend(pool.name, backend)] = {pool.name, backend.name};
  return names;
}

struct Filter {
  uint16_t service = kNone, backend = kNone;
  std::string client = "-";
  uint64_t limit = kUsualLimit;  // 0: count
};

// NAME or POOL/NAME; kNone with a problem if there is none, or more than one.
uint16_t find_backend(const Names& names, const std::string& wanted, std::string& problem) {
  uint16_t found = kNone;
  for (const auto& [id, name] : names.backends) {
    if (wanted != name.second && wanted != name.first + "/" + name.second) continue;
    if (found != kNone) problem = "several pools have a backend `" + wanted + "`: write POOL/BACKEND";
    found = id;
  }
  if (found == kNone) problem = "there is no backend `" + wanted + "`";
  return found;
}

// What is asked for; else `problem` says what is wrong.
Filter parse_filter(const Names& names, const std::string& query, std::string& problem) {
  Filter filter;
  if (const auto service = query_value(query, "service")) {
    for (const auto& [id, name] : names.services)
      if (name == *service) filter.service = id;
    if (filter.service == kNone) problem = "there is no service `" + *service + "`";
  }
  if (const auto backend = query_value(query, "backend"))
    filter.backend = find_backend(names, *backend, problem);
  if (const auto client = query_value(query, "client")) {
    const auto prefix = Prefix::parse(*client);
    if (!prefix) problem = "`client` is no address and no prefix, or has bits beyond its length";
    if (prefix) filter.client = to_string(*prefix);
  }
  if (const auto limit = query_value(query, "limit")) {
    const auto number = parse_number(*limit);
    if (!number || *number > kHighestLimit)
      problem = fmt::format("`limit` is not in 0..{}", kHighestLimit);
    else
      filter.limit = *number;
  }
  return filter;
}

// Asks for page after page.
class Walk : public std::enable_shared_from_this<Walk> {
 public:
  Walk(boost::asio::io_context& io, std::string socket, Names names, Filter filter, ApiRespond respond)
      : io_(io),
        socket_(std::move(socket)),
        names_(std::move(names)),
        filter_(std::move(filter)),
        respond_(std::move(respond)) {}

  void ask() {
    const auto id = [](uint16_t value) { return value == kNone ? "-" : std::to_string(value); };
    const std::string command =
        fmt::format("/portico/flows,{},{},{},{},{}", id(filter_.service), id(filter_.backend), filter_.client,
                    filter_.limit - std::min(filter_.limit, flows_.size()), cursor_);
    ask_telemetry(io_, socket_, command, [self = shared_from_this()](const TelemetryAnswer& answer) {
      // A field of another type than expected is a dataplane of another version, not a reason to end.
      try {
        self->take(answer);
      } catch (const json::exception&) {
        self->respond_(api_error(503, "the dataplane's answer makes no sense", "are both of one version?"));
      }
    });
  }

 private:
  void take(const TelemetryAnswer& from) {
    if (from.error) return respond_(api_error(503, *from.error, "start the dataplane, or see its log"));
    const json whole = json::parse(from.json, nullptr, /*allow_exceptions=*/false);
    const json answer = whole.is_object() ? whole.value("/portico/flows", json()) : json();
    if (!answer.is_object())
      return respond_(api_error(503, "the dataplane does not know this command",
                                "it is starting, or an earlier version: restart it"));
    if (answer.contains("error")) return respond_(api_error(503, answer.value("error", ""), kRemedy));
    const json states = answer.value("states", json::object());
    for (const auto& [state, count] : states.items()) states_[state] += count.get<uint64_t>();
    for (uint32_t i = 0; answer.contains(std::to_string(i)); ++i) add(answer[std::to_string(i)]);
    const bool is_complete = !answer.contains("next");
    const bool is_enough = filter_.limit != 0 && flows_.size() >= filter_.limit;
    if (is_complete || is_enough || Clock::now() >= deadline_) return finish(is_complete);
    cursor_ = answer["next"].get<uint64_t>();
    ask();
  }

  void add(const json& flow) {
    const auto service = names_.services.find(flow.value("service_id", kNone));
    const auto backend = names_.backends.find(flow.value("backend_id", kNone));
    const bool is_known = backend != names_.backends.end();
    flows_.push_back({{"client", flow.value("client", "")},
                      {"listen", flow.value("vip", "")},
                      {"nat", flow.contains("nat") ? flow["nat"] : json()},
                      {"service", service == names_.services.end() ? json() : json(service->second)},
                      {"pool", is_known ? json(backend->second.first) : json()},
                      {"backend", is_known ? json(backend->second.second) : json()},
                      {"state", flow.value("state", "")},
                      {"probationary", flow.value("probationary", 0) != 0},
                      {"idle_ms", flow.value("idle_ms", uint64_t{0})},
                      {"worker", flow.value("worker", 0)}});
  }

  void finish(bool is_complete) {
    uint64_t count = 0;
    for (const auto& [state, n] : states_) count += n;
    respond_(json_response(
        200, {{"flows", flows_}, {"count", count}, {"states", states_}, {"complete", is_complete}}));
  }

  boost::asio::io_context& io_;
  const std::string socket_;
  const Names names_;
  const Filter filter_;
  const ApiRespond respond_;
  const Clock::time_point deadline_ = Clock::now() + kPatience;
  uint64_t cursor_ = 0;
  json::array_t flows_;
  std::map<std::string, uint64_t> states_;
};

}  // namespace

void answer_flows(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                  const std::string& query, const ApiRespond& respond) {
  Names names = names_of(view);
  std::string problem;
  Filter filter = parse_filter(names, query, problem);
  if (!problem.empty()) return respond(api_error(400, problem, kRemedy));
  std::make_shared<Walk>(io, find_telemetry_socket(run_dir), std::move(names), std::move(filter), respond)
      ->ask();
}

}  // namespace portico
