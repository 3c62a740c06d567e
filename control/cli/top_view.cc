// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

#include "control/cli/json_fields.h"
#include "control/cli/top.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;

constexpr const char* kKeys =
    "up/down: choose   s: order   d: drain   h: hold   r: resume   space: now   q: quit";
constexpr size_t kLeastServices = 3;

std::string full_name(const json& backend) {
  return backend.value("pool", "") + "/" + backend.value("name", "");
}

// DOWN first, then whatever is not plainly up.
constexpr std::array<std::string_view, 5> kStates = {"down", "held", "drained", "unknown", "up"};

std::string state_of(const json& backend) {
  const std::string admin = backend.value("admin", "active");
  return admin == "active" ? backend.value("health", "unknown") : admin;
}

// The longest that the last probe of a check took.
uint64_t check_us(const json& backend) {
  uint64_t longest = 0;
  for (const json& check : backend.value("checks", json::array()))
    longest = std::max(longest, whole(check, "latency_us"));
  return longest;
}

json row_of(const std::string& pool, const json& backend) {
  return {{"pool", pool},
          {"name", backend.value("name", "")},
          {"state", state_of(backend)},
          {"health", backend.value("health", "unknown")},
          {"admin", backend.value("admin", "active")},
          {"share", real(backend, "share")},
          {"flows", whole(backend, "flows")},
          {"new_per_second", real(backend, "new_per_second")},
          {"bits_per_second", real(backend, "bits_per_second")},
          {"check_us", check_us(backend)},
          {"reason", backend.value("reason", "")}};
}

// What stands before something else has the smaller one.
double rank(const json& row, std::string_view order) {
  if (order == "state")
    return static_cast<double>(std::ranges::find(kStates, row.value("state", "")) - kStates.begin());
  if (order == "share") return -real(row, "share");
  if (order == "flows") return -real(row, "flows");
  if (order == "new") return -real(row, "new_per_second");
  if (order == "bits") return -real(row, "bits_per_second");
  if (order == "check") return -real(row, "check_us");
  return 0;
}

Colour colour_of(const std::string& state) {
  return state == "up" ? Colour::good : state == "down" ? Colour::bad : Colour::warning;
}

std::string upper(std::string word) {
  std::ranges::transform(word, word.begin(),
                         [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return word == "UNKNOWN" ? "WAIT" : word;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::vector<std::string> service_lines(const json& services, size_t most, const Style& style) {
  using enum Table::Align;
  Table table({left, right, right, right});
  table.add({{"SERVICE"}, {"FLOWS"}, {"NEW/s"}, {"BIT/s"}});
  size_t shown = 0;
  for (const json& service : services) {
    if (shown == most) break;
    ++shown;
    const std::string level = service.value("level", "ok");
    table.add({{text(service, "name"), level == "unserved"   ? Colour::bad
                                       : level == "degraded" ? Colour::warning
                                                             : Colour::none},
               {format_count(whole(service, "flows"))},
               {format_rate(real(service, "new_per_second"))},
               {format_bits(real(service, "bits_per_second"))}});
  }
  std::vector<std::string> lines = lines_of(table.print(style));
  if (shown < services.size()) lines.push_back(fmt::format("and {} more", services.size() - shown));
  return lines;
}

// Rows [first, last) with a heading.
std::string backend_table(const json& backends, size_t first, size_t last, const TopState& state,
                          const Style& style) {
  using enum Table::Align;
  Table table({left, left, left, right, right, right, right, right, left});
  const auto heading = [&](const char* name, std::string_view order) {
    return Table::Cell(name, state.order == order ? Colour::good : Colour::none);
  };
  table.add({{" "},
             heading("BACKEND", "pool"),
             heading("STATE", "state"),
             heading("SHARE", "share"),
             heading("FLOWS", "flows"),
             heading("NEW/s", "new"),
             heading("BIT/s", "bits"),
             heading("CHECK", "check"),
             {""}});
  for (size_t i = first; i < last; ++i) {
    const json& row = backends[i];
    const std::string is = row.value("state", "");
    const uint64_t us = whole(row, "check_us");
    table.add({{full_name(row) == state.selected ? ">" : " "},
               {full_name(row)},
               {upper(is), colour_of(is)},
               {format_percent(real(row, "share"))},
               {format_count(whole(row, "flows"))},
               {format_rate(real(row, "new_per_second"))},
               {format_bits(real(row, "bits_per_second"))},
               {us == 0 ? "" : fmt::format("{:.1f} ms", static_cast<double>(us) / 1000)},
               {text(row, "reason")}});
  }
  return table.print(style);
}

size_t place_of(const json& backends, const std::string& name) {
  for (size_t i = 0; i < backends.size(); ++i)
    if (full_name(backends[i]) == name) return i;
  return 0;
}

}  // namespace

std::string cut_line(std::string_view line, size_t columns) {
  std::string out;
  bool is_colour = false;
  size_t used = 0;
  for (const char c : line) {
    const bool continues = (static_cast<unsigned char>(c) & 0xC0) == 0x80;  // of a character in UTF-8
    is_colour = is_colour || c == '\x1b';
    if (!is_colour && !continues) ++used;
    if (is_colour || used <= columns) out += c;
    if (c == 'm') is_colour = false;
  }
  return out;
}

json top_reading(const json& status, std::string_view order) {
  json services = json::array();
  for (const json& service : status.value("services", json::array()))
    services.push_back({{"name", service.value("name", "")},
                        {"level", service.value("level", "ok")},
                        {"flows", whole(service, "flows")},
                        {"new_per_second", real(service, "new_per_second")},
                        {"bits_per_second", real(service, "bits_per_second")}});
  std::vector<json> rows;
  for (const json& pool : status.value("pools", json::array()))
    for (const json& backend : pool.value("backends", json::array()))
      rows.push_back(row_of(pool.value("name", ""), backend));
  std::ranges::sort(rows, {}, [&](const json& row) { return std::tuple(rank(row, order), full_name(row)); });
  return {{"now_ms", status.value("now_ms", int64_t{0})},
          {"instance", status.value("instance", "")},
          {"level", status.value("level", "")},
          {"services", services},
          {"backends", rows}};
}

std::string top_neighbour(const json& reading, const std::string& selected, int by) {
  const json& backends = reading.at("backends");
  if (backends.empty()) return "";
  const auto place = static_cast<int64_t>(place_of(backends, selected)) + by;
  return full_name(backends[std::clamp<int64_t>(place, 0, static_cast<int64_t>(backends.size()) - 1)]);
}

std::string top_screen(const json& reading, TopState& state, size_t rows, size_t columns,
                       const Style& style) {
  const json& backends = reading.at("backends");
  state.selected = top_neighbour(reading, state.selected, 0);
  std::vector<std::string> lines = lines_of(state.head);
  for (std::string& line : service_lines(reading.at("services"), std::max(kLeastServices, rows / 4), style))
    lines.push_back(std::move(line));
  lines.emplace_back();
  // The heading and the keys have a line each; the rest is the backends'.
  const size_t room = rows > lines.size() + 2 ? rows - lines.size() - 2 : 1;
  const size_t place = place_of(backends, state.selected);
  const size_t first = place < room ? 0 : place - room + 1;
  for (std::string& line :
       lines_of(backend_table(backends, first, std::min(first + room, backends.size()), state, style)))
    lines.push_back(std::move(line));
  if (lines.size() >= rows) lines.resize(rows - 1);
  lines.push_back(state.prompt.empty() ? style.paint(Colour::faint, kKeys) : to_printable(state.prompt));
  std::string out;
  for (const std::string& line : lines) out += cut_line(line, columns) + "\n";
  return out;
}

}  // namespace portico::cli
