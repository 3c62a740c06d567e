// SPDX-License-Identifier: Apache-2.0
// Health and traffic of every backend over the last hour, sampled; in memory, within a budget.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

namespace portico {

struct StatusView;

inline constexpr auto kHistoryInterval = std::chrono::seconds(4);
inline constexpr size_t kHistorySamples = 900;  // of each backend: an hour
// Of all backends together, 4 MiB: with more than about 220 of them the hour becomes shorter.
inline constexpr size_t kHistoryBudget = 200'000;

class History {
 public:
  // Takes a sample of each backend; forgets those that are not configured any more.
  void sample(const StatusView& view, int64_t now_ms);
  // A backend was down, if only for a moment: its next sample says so.
  void note_down(const std::string& pool, const std::string& backend);
  // JSON of GET /v1/history.
  std::string json() const;

 private:
  struct Sample {
    char state = '?';  // 'u' up, 'd' down, '?' unknown, 'n' drained, 'h' held; down goes before the others
    float flows = 0, new_per_second = 0, bits_per_second = 0;
  };
  struct Track {
    std::deque<Sample> samples;  // the last ones belong to the last of times_ms_
    bool was_down = false;
    bool is_configured = false;
  };
  size_t length() const;

  std::deque<int64_t> times_ms_;
  std::map<std::pair<std::string, std::string>, Track> tracks_;  // by pool and backend
};

}  // namespace portico
