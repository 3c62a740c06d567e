// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "control/checks/health.h"

namespace portico {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kRoom = 256;  // bytes of a record, more or less

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
  backend.flaps.penalty = object.value("penalty", 0.0);
  backend.flaps.at_ns = object.value("fell_realtime_ns", int64_t{0});
  backend.flaps.damped_until_ns = object.value("damped_until_realtime_ns", int64_t{0});
  return backend;
}

// As JSON has it. Most texts are names, which mean themselves.
std::string quoted(const std::string& text) {
  const auto is_plain = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
  if (std::ranges::all_of(text, is_plain)) return '"' + text + '"';
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

// A tree of JSON values, of thousands of checks, took eight times as long: bench/health_store.cc.
void append(std::string& out, const HealthSnapshot::Check& check) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"pool":{},"backend":{},"name":{},"address":"{}","port":{},"state":{},"consecutive":{},)"
                 R"("last_outcome":{},"last_reason":{}}},)",
                 quoted(check.pool), quoted(check.backend), quoted(check.name),
                 to_string(check.target.address), check.target.port,
                 static_cast<unsigned>(check.progress.state), check.progress.consecutive,
                 static_cast<unsigned>(check.last_outcome), quoted(check.last_reason));
}

void append(std::string& out, const HealthSnapshot::Backend& backend) {
  fmt::format_to(std::back_inserter(out),
                 R"({{"pool":{},"backend":{},"state":{},"since_realtime_ns":{},"penalty":{:.6f},)"
                 R"("fell_realtime_ns":{},"damped_until_realtime_ns":{}}},)",
                 quoted(backend.pool), quoted(backend.backend), static_cast<unsigned>(backend.state),
                 backend.since_realtime_ns, backend.flaps.penalty, backend.flaps.at_ns,
                 backend.flaps.damped_until_ns);
}

}  // namespace

std::string to_json_text(const HealthSnapshot& snapshot) {
  std::string out;
  out.reserve(256 + snapshot.checks.size() * kRoom + snapshot.backends.size() * kRoom);
  fmt::format_to(std::back_inserter(out), R"({{"format":{},"checks":[)", kFormat);
  for (const auto& check : snapshot.checks) append(out, check);
  if (!snapshot.checks.empty()) out.pop_back();
  out += R"(],"backends":[)";
  for (const auto& backend : snapshot.backends) append(out, backend);
  if (!snapshot.backends.empty()) out.pop_back();
  return out + "]}";
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
