// SPDX-License-Identifier: Apache-2.0
#include "control/events.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/printable.h"

namespace portico {
namespace {

using nlohmann::json;

// Cut by bytes: what is left of a character at the end shows as \xNN.
void bound(std::string& text) {
  if (text.size() > kMaxEventText) text = text.substr(0, kMaxEventText) + "...";
  text = to_printable(text);
}

}  // namespace

const char* to_string(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::control:
      return "control";
    case Event::Kind::configuration:
      return "configuration";
    case Event::Kind::operation:
      return "operator";
    case Event::Kind::dataplane:
      return "dataplane";
    case Event::Kind::health:
      return "health";
  }
  return "";
}

const char* to_string(Event::Level level) {
  if (level == Event::Level::info) return "info";
  return level == Event::Level::warning ? "warning" : "error";
}

void EventLog::add(Event event) {
  event.id = newest() + 1;
  for (std::string* text : {&event.text, &event.who, &event.why}) bound(*text);
  events_.push_back(std::move(event));
  if (events_.size() <= kMaxEvents) return;
  events_.pop_front();
  ++first_;
}

std::string EventLog::json_after(uint64_t id) const {
  json list = json::array();
  const uint64_t begin = id > newest() || id < first_ ? 0 : id - first_ + 1;
  for (uint64_t i = begin; i < events_.size(); ++i) {
    const Event& event = events_[i];
    list.push_back({{"id", event.id},
                    {"at_ms", event.at_ms},
                    {"kind", to_string(event.kind)},
                    {"level", to_string(event.level)},
                    {"pool", event.pool},
                    {"backend", event.backend},
                    {"text", event.text},
                    {"who", event.who},
                    {"why", event.why}});
  }
  return list.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace portico
