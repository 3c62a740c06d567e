// SPDX-License-Identifier: Apache-2.0
#include "dataplane/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

namespace portico {
namespace {

// The priority prefix of sd-daemon(3), which journald turns into the message's priority.
class JournalPriority : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const char digit = message.level >= spdlog::level::err    ? '3'
                       : message.level == spdlog::level::warn ? '4'
                       : message.level == spdlog::level::info ? '6'
                                                              : '7';
    const char prefix[] = {'<', digit, '>'};
    out.append(prefix, prefix + sizeof prefix);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JournalPriority>();
  }
};

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

bool parse_log_level(std::string_view text, LogLevel& level) {
  if (text == "debug")
    level = LogLevel::debug;
  else if (text == "info")
    level = LogLevel::info;
  else if (text == "warning")
    level = LogLevel::warning;
  else if (text == "error")
    level = LogLevel::error;
  else
    return false;
  return true;
}

void start_log(LogLevel least) {
  auto logger = spdlog::stderr_logger_mt("portico-dataplane");
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  // systemd sets JOURNAL_STREAM for a service whose stderr is the journal's (systemd.exec(5)).
  const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  formatter->add_flag<JournalPriority>('J').set_pattern(journal ? "%J%v" : "%Y-%m-%d %H:%M:%S.%e %n: %l: %v");
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog_level(least));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
}

void log_message(LogLevel level, const std::string& text) {
  spdlog::log(spdlog_level(level), "{}", text);
}

}  // namespace portico
