// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "control/cli/json_fields.h"
#include "control/cli/views.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;

// A nested object or list; an empty one if it is missing.
json nested(const json& object, const char* key) {
  return object.value(key, json::object());
}

int64_t age_ms(const json& status, const json& object, const char* key) {
  return status.value("now_ms", int64_t{0}) - object.value(key, int64_t{0});
}

std::string table_words(const json& table) {
  const uint64_t published = whole(table, "published"), adopted = whole(table, "adopted");
  if (published == 0) return "no table";
  if (published == adopted) return fmt::format("table {} adopted", published);
  if (adopted == 0) return fmt::format("table {} not adopted", published);
  return fmt::format("table {} published, {} adopted", published, adopted);
}

std::string worker_words(const json& workers) {
  std::string words = fmt::format("workers {}:", workers.size());
  for (const json& worker : workers) words += " " + format_percent(real(worker, "busy"));
  return words;
}

// For an hour: who looks at the status after a restart wants to know.
std::string take_over_line(const json& status) {
  constexpr int64_t kShownMs = 3600 * 1000;
  const json dataplane = nested(status, "dataplane"), take_over = nested(dataplane, "take_over");
  const int64_t age = age_ms(status, dataplane, "started_ms");
  if (!dataplane.value("working", false) || real(take_over, "stop_ms") == 0 || age > kShownMs) return "";
  return fmt::format("restarted {} ago: {}\n", format_age(age), take_over_text(take_over));
}

std::string warning_line(const std::string& words, const Style& style) {
  return style.paint(Colour::warning, "! " + to_printable(words)) + "\n";
}

// What concerns the balancer as a whole.
std::string general_warnings(const json& status, const Style& style) {
  std::string out;
  const json dataplane = nested(status, "dataplane"), table = nested(status, "table");
  const std::string problem = text(dataplane, "text");
  if (!dataplane.value("working", false)) {
    out += style.paint(Colour::bad, "! the dataplane does not work: " +
                                        (problem.empty() ? text(dataplane, "state") : problem)) +
           "\n";
  }
  if (const uint64_t refused = whole(table, "refused"); refused > 0) {
    out += style.paint(Colour::bad,
                       fmt::format("! table {} was refused: {}", refused, text(table, "refused_text"))) +
           "\n";
  }
  for (const json& port : nested(dataplane, "ports")) {
    if (!port.value("link_up", true))
      out += warning_line(fmt::format("port {} has no link", text(port, "name")), style);
  }
  for (const json& warning : nested(status, "warnings")) {
    const std::string words = warning.get<std::string>();
    if (problem.empty() || words != problem) out += warning_line(words, style);
  }
  return out;
}

Colour colour_of_level(const std::string& level) {
  return level == "unserved" ? Colour::bad : level == "degraded" ? Colour::warning : Colour::none;
}

// "nat", new connections that limits refused, and what backends are told of the clients.
std::string mode_words(const json& service) {
  std::string words = text(service, "mode");
  const uint64_t limited = whole(service, "source_limited");
  if (limited != 0) words += fmt::format(", {} limited", format_count(limited));
  const std::string proxy = text(service, "proxy_protocol");
  if (proxy.empty() || proxy == "none") return words;
  words += fmt::format(", PROXY {}: {} sent", proxy, format_count(whole(service, "proxy_headers_sent")));
  for (const auto& [key, what] :
       {std::pair("proxy_headers_repeated", "repeated"), std::pair("proxy_headers_unwatched", "unwatched")}) {
    const uint64_t count = whole(service, key);
    if (count != 0) words += fmt::format(", {} {}", format_count(count), what);
  }
  return words;
}

std::string services_text(const json& services, const Style& style) {
  using enum Table::Align;
  Table table({left, left, left, right, right, right});
  table.add({{"SERVICE"}, {"LISTEN"}, {"MODE"}, {"FLOWS"}, {"NEW/s"}, {"BIT/s"}});
  for (const json& service : services) {
    bool first = true;
    for (const json& listen : nested(service, "listen")) {
      if (first) {
        table.add({{text(service, "name"), colour_of_level(text(service, "level"))},
                   {listen.get<std::string>()},
                   {mode_words(service)},
                   {format_count(whole(service, "flows"))},
                   {format_rate(real(service, "new_per_second"))},
                   {format_bits(real(service, "bits_per_second"))}});
      } else {
        table.add({{}, {listen.get<std::string>()}});
      }
      first = false;
    }
  }
  return table.print(style);
}

// "by alice: upgrade", as far as it is known.
std::string admin_words(const json& status, const json& backend) {
  std::string words = text(backend, "admin");
  if (backend.value("admin_since_ms", int64_t{0}) > 0)
    words += " " + format_age(age_ms(status, backend, "admin_since_ms"));
  if (const std::string who = text(backend, "admin_who"); !who.empty()) words += " by " + who;
  if (const std::string why = text(backend, "admin_why"); !why.empty()) words += ": " + why;
  return words;
}

// One fall alone is told by its reason.
constexpr double kShownPenalty = 1.5;

// What is not as configured, or passing, about a backend's weight; how restless it is.
std::string weight_words(const json& status, const json& backend) {
  std::string words;
  if (backend.value("weight_set", false)) {
    words +=
        fmt::format("   weight {} for {}", whole(backend, "weight"), whole(backend, "weight_configured"));
    if (const std::string who = text(backend, "weight_who"); !who.empty()) words += " by " + who;
    words += " " + format_age(age_ms(status, backend, "weight_since_ms")) + " ago";
    if (const std::string why = text(backend, "weight_why"); !why.empty()) words += ": " + why;
  } else if (whole(backend, "weight") == 0) {
    words += "   weight 0";
  }
  if (const double ramp = backend.value("ramp", 1.0); ramp < 1)
    words += "   slow start: " + format_percent(ramp) + " of its weight";
  if (backend.value("damped", false))
    words += fmt::format("   damped: falls too often (penalty {:.1f})", real(backend, "flap_penalty"));
  else if (real(backend, "flap_penalty") >= kShownPenalty)
    words += fmt::format("   flap penalty {:.1f}", real(backend, "flap_penalty"));
  return words;
}

std::string backend_remark(const json& status, const json& backend) {
  const std::string reason = text(backend, "reason");
  std::string remark = reason.empty() ? fmt::format("{}/{} checks", whole(backend, "checks_passed"),
                                                    whole(backend, "checks_total"))
                                      : reason;
  const std::string admin = text(backend, "admin");
  if (!admin.empty() && admin != "active") remark += "   " + admin_words(status, backend);
  if (const int64_t deadline = backend.value("admin_deadline_ms", int64_t{0}); deadline > 0) {
    const int64_t left = deadline - status.value("now_ms", int64_t{0});
    remark += left > 0 ? "   resets what is left in " + format_age(left) : "   past its deadline";
  }
  if (const std::string standby = text(backend, "standby"); !standby.empty())
    remark += "   standby: " + standby;
  else if (const std::string zone = text(backend, "zone"); !zone.empty())
    remark += "   zone " + zone + (backend.value("backup", false) ? ", backup" : "");
  else if (backend.value("backup", false))
    remark += "   backup";
  remark += weight_words(status, backend);
  if (const json signals = nested(backend, "signals"); whole(signals, "probes") > 0)
    remark += fmt::format(
        "   probes for SYNs {}: {} unanswered, {} repeated, {} refused",
        format_count(whole(signals, "probes")), format_count(whole(signals, "syns_unanswered")),
        format_count(whole(signals, "syns_repeated")), format_count(whole(signals, "syns_refused")));
  return remark;
}

std::string backends_text(const json& status, const json& backends, const Style& style) {
  using enum Table::Align;
  size_t widest = 5;
  for (const json& backend : backends)
    widest = std::max(widest, format_count(whole(backend, "flows")).size());
  Table table({left, left, left, left, left}, "   ");
  for (const json& backend : backends) {
    const std::string health = text(backend, "health");
    const bool up = health == "up", down = health == "down";
    std::string state = up ? "UP  " : down ? "DOWN" : "WAIT";
    if (backend.value("since_ms", int64_t{0}) > 0)
      state += " " + format_age(age_ms(status, backend, "since_ms"));
    table.add({{text(backend, "name")},
               {state, up     ? Colour::good
                       : down ? Colour::bad
                              : Colour::warning},
               {"share " + fmt::format("{:>4}", format_percent(real(backend, "share")))},
               {fmt::format("flows {:>{}}", format_count(whole(backend, "flows")), widest)},
               {backend_remark(status, backend)}});
  }
  return table.print(style, "  ");
}

std::string pool_text(const json& status, const json& pool, const Style& style) {
  std::string line = fmt::format("{} {}/{} up", text(pool, "name"), whole(pool, "up"), whole(pool, "total"));
  for (const json& warning : nested(pool, "warnings")) {
    line += "   " + style.paint(colour_of_level(text(pool, "level")),
                                "! " + to_printable(warning.get<std::string>()));
  }
  return line + "\n" + backends_text(status, nested(pool, "backends"), style);
}

}  // namespace

std::string status_head(const json& status, const Style& style) {
  const json dataplane = nested(status, "dataplane"), drops = nested(status, "drops");
  const bool working = dataplane.value("working", false);
  std::string line = text(status, "instance") + "  ";
  line += working ? "up " + format_age(age_ms(status, dataplane, "started_ms"))
                  : style.paint(Colour::bad, "DATAPLANE DOWN");
  line += fmt::format("   config {}   {}", whole(nested(status, "config"), "version"),
                      table_words(nested(status, "table")));
  if (!working) return line + "\n";
  line += "   " + worker_words(nested(dataplane, "workers"));
  if (const uint64_t ports = whole(dataplane, "nat_ports_total"); ports > 0) {
    const double used = static_cast<double>(whole(dataplane, "nat_ports_used")) / static_cast<double>(ports);
    line += "   NAT ports " + format_percent(used);
  }
  line += fmt::format("   drops {}/s", format_rate(real(drops, "per_second")));
  const std::string top = text(drops, "top");
  return line + (top.empty() ? "\n" : fmt::format(" ({})\n", top));
}

std::string take_over_text(const json& take_over) {
  uint64_t lost = 0;
  std::string reasons;
  const json by_reason = nested(take_over, "flows_lost");
  for (const auto& [reason, count] : by_reason.items()) {
    if (!count.is_number_unsigned() || count == 0) continue;
    lost += count.get<uint64_t>();
    reasons += (reasons.empty() ? " (" : ", ") + to_printable(reason) + " " + format_count(count);
  }
  return fmt::format("{} connections went on, {} did not{}; nothing was forwarded for {:.0f} ms",
                     format_count(whole(take_over, "flows_kept")), format_count(lost),
                     reasons.empty() ? "" : reasons + ")", real(take_over, "stop_ms"));
}

std::string status_text(const json& status, const Style& style) {
  std::string out = status_head(status, style) + take_over_line(status) + general_warnings(status, style);
  out += services_text(nested(status, "services"), style);
  for (const json& pool : nested(status, "pools")) out += pool_text(status, pool, style);
  return out;
}

}  // namespace portico::cli
