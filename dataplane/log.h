// SPDX-License-Identifier: Apache-2.0
// Messages for people, on stderr in the form journald reads ("<4>text" below systemd, "warning: text" on a
// terminal). The packet path never logs: it counts. Formatting happens in the caller, so that spdlog's
// headers stay out of the rest.
#pragma once

#include <string>
#include <string_view>

namespace portico {

enum class LogLevel { debug, info, warning, error };

// Parses "debug", "info", "warning" or "error"; false for anything else.
bool parse_log_level(std::string_view text, LogLevel& level);

// Sets up stderr. Call once, before the first message and before other threads exist.
void start_log(LogLevel least);

// Writes one message. Thread-safe; may block on stderr, so never from a worker.
void log_message(LogLevel level, const std::string& text);

inline void log_debug(const std::string& text) {
  log_message(LogLevel::debug, text);
}
inline void log_info(const std::string& text) {
  log_message(LogLevel::info, text);
}
inline void log_warning(const std::string& text) {
  log_message(LogLevel::warning, text);
}
inline void log_error(const std::string& text) {
  log_message(LogLevel::error, text);
}

}  // namespace portico
