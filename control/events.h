// SPDX-License-Identifier: Apache-2.0
// What happened lately: backends that failed and returned, configurations, operators' commands, the
// dataplane. In memory and bounded: the newest push the oldest out, and a restart of control begins anew. The
// log has all of it, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

namespace portico {

inline constexpr size_t kMaxEvents = 1024;
// Of each text of an event: a server's answer may be long.
inline constexpr size_t kMaxEventText = 512;

struct Event {
  enum class Kind { control, configuration, operation, dataplane, health };
  enum class Level { info, warning, error };

  uint64_t id = 0;    // grows by 1; greater than any of a control before
  int64_t at_ms = 0;  // CLOCK_REALTIME
  Kind kind = Kind::control;
  Level level = Level::info;
  std::string pool, backend;  // what it is about; may be empty
  std::string text;           // "backend portals/portal-1 is down"
  std::string who, why;       // where there is somebody, or a reason
};

// "control", "configuration", "operator", "dataplane", "health".
const char* to_string(Event::Kind kind);
// "info", "warning", "error".
const char* to_string(Event::Level level);

class EventLog {
 public:
  // `now_ms`: CLOCK_REALTIME. Ids begin there, so that a reader who goes on after the last id that it has
  // seen misses nothing when control was restarted: there are fewer events than milliseconds.
  explicit EventLog(int64_t now_ms) : first_(static_cast<uint64_t>(now_ms)) {}

  // Gives it an id. Texts are cut at kMaxEventText, and what does not show of them is escaped.
  void add(Event event);

  // The id of the newest; before the first event one less than the first will have.
  uint64_t newest() const { return first_ + events_.size() - 1; }

  // Those with a greater id, oldest first, as a JSON array (docs/api.md). An id that no event has yet, of a
  // host whose clock was set back, counts as 0.
  std::string json_after(uint64_t id) const;

 private:
  uint64_t first_;  // the oldest's id
  std::deque<Event> events_;
};

}  // namespace portico
