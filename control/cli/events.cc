// SPDX-License-Identifier: Apache-2.0
// `portico events`.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <ostream>
#include <thread>

#include "control/cli/answer.h"
#include "control/cli/views.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

using nlohmann::json;

constexpr auto kFollowPause = std::chrono::milliseconds(250);

std::string text(const json& object, const char* key) {
  return to_printable(object.value(key, ""));
}

Colour colour_of(const json& event) {
  const std::string level = text(event, "level");
  return level == "error" ? Colour::bad : level == "warning" ? Colour::warning : Colour::none;
}

// The events after one; null if control cannot be asked or gives no answer that is understood.
json events_after(const ApiReply& reply) {
  const json answer = json::parse(reply.body, nullptr, false);
  const bool is_good = reply.ok() && answer.is_object() && answer.contains("events");
  return is_good && answer["events"].is_array() ? answer["events"] : json();
}

void print(const Context& context, const json& events, bool by_line) {
  if (!context.json)
    context.out << events_text(events, context.style);
  else if (!by_line)
    context.out << dump({{"events", events}});
  else
    for (const json& event : events)
      context.out << event.dump(-1, ' ', true, json::error_handler_t::replace) << '\n';
  context.out.flush();
}

}  // namespace

std::string events_text(const json& events, const Style& style) {
  std::string out;
  for (const json& event : events) {
    const int64_t at_ms = event.value("at_ms", int64_t{0});
    out += fmt::format("{}.{:03}  {:<13}  {}", format_time(at_ms), at_ms % 1000, text(event, "kind"),
                       style.paint(colour_of(event), text(event, "text")));
    if (const std::string who = text(event, "who"); !who.empty()) out += " by " + who;
    if (const std::string why = text(event, "why"); !why.empty()) out += ": " + why;
    out += "\n";
  }
  return out;
}

int show_events(const Context& context, bool follow) {
  const ApiClient client(context.run_dir);
  uint64_t after = 0;
  bool was_reached = false, is_told = false;
  for (;;) {
    const ApiReply reply = client.get(fmt::format("/v1/events?after={}", after));
    const json events = events_after(reply);
    if (events.is_null() && !was_reached)
      return fail(context, reply.reached() ? kExitFailed : kExitNoControl,
                  reply.reached() ? "control's answer is not understood" : reply.problem,
                  reply.reached() ? "install the same version of portico and portico-control" : reply.remedy);
    // Who follows wants to know of its return, too.
    if (events.is_null() && !is_told) context.err << "portico: " << reply.problem << "; waiting for it\n";
    is_told = events.is_null();
    was_reached = true;
    if (!events.empty()) after = events.back().value("id", after);
    if (!events.empty() || !follow) print(context, events, follow);
    if (!follow || !context.out) return kExitWell;
    std::this_thread::sleep_for(kFollowPause);
  }
}

}  // namespace portico::cli
