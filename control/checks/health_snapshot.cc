// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include "control/checks/health.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;

// An enumerator stored as a number of at most `last`; throws like the library's own access.
template <typename Enum>
Enum enumerator(const json& object, const char* key, Enum last) {
  const auto value = object.at(key).get<uint64_t>();
  if (value > static_cast<uint64_t>(last)) throw json::out_of_range::create(401, "no such state", &object);
  return static_cast<Enum>(value);
}

HealthSnapshot::Check parse_check(const json& object) {
  HealthSnapshot::Check check;
  object.at("pool").get_to(check.pool);
  object.at("backend").get_to(check.backend);
  object.at("name").get_to(check.name);
  const auto address = Address::parse(object.at("address").get<std::string>());
  if (!address) throw json::out_of_range::create(401, "no address", &object);
  check.target = {*address, object.at("port").get<uint16_t>()};
  check.progress.state = enumerator(object, "state", CheckState::recovering);
  object.at("consecutive").get_to(check.progress.consecutive);
  check.last_outcome = enumerator(object, "last_outcome", ProbeOutcome::inconclusive);
  object.at("last_reason").get_to(check.last_reason);
  return check;
}

HealthSnapshot::Backend parse_backend(const json& object) {
  HealthSnapshot::Backend backend;
  object.at("pool").get_to(backend.pool);
  object.at("backend").get_to(backend.backend);
  backend.state = enumerator(object, "state", HealthState::down);
  object.at("since_realtime_ns").get_to(backend.since_realtime_ns);
  return backend;
}

}  // namespace

std::string to_json_text(const HealthSnapshot& snapshot) {
  json checks = json::array(), backends = json::array();
  for (const auto& check : snapshot.checks)
    checks.push_back({{"pool", check.pool},
                      {"backend", check.backend},
                      {"name", check.name},
                      {"address", to_string(check.target.address)},
                      {"port", check.target.port},
                      {"state", check.progress.state},
                      {"consecutive", check.progress.consecutive},
                      {"last_outcome", check.last_outcome},
                      {"last_reason", check.last_reason}});
  for (const auto& backend : snapshot.backends)
    backends.push_back({{"pool", backend.pool},
                        {"backend", backend.backend},
                        {"state", backend.state},
                        {"since_realtime_ns", backend.since_realtime_ns}});
  const json all = {{"format", kFormat}, {"checks", checks}, {"backends", backends}};
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::optional<HealthSnapshot> parse_health_snapshot(std::string_view text) {
  try {
    const json all = json::parse(text);
    if (all.at("format") != kFormat) return std::nullopt;
    HealthSnapshot snapshot;
    for (const json& check : all.at("checks")) snapshot.checks.push_back(parse_check(check));
    for (const json& backend : all.at("backends")) snapshot.backends.push_back(parse_backend(backend));
    return snapshot;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

}  // namespace portico
