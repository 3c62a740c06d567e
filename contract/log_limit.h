// SPDX-License-Identifier: Apache-2.0
// Keeps what others cause as often as they like from filling a log.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace portico {

// One kind of message. Within an interval each text is logged once, and few texts are.
class LogLimit {
 public:
  static constexpr uint64_t kIntervalNs = 10'000'000'000;
  static constexpr size_t kTexts = 4;

  // What to add to the message with this text if it is to be logged: "", or how many were left out before it;
  // nothing if it is not. `text`: what makes it another message, so without numbers that count up. `now_ns`:
  // CLOCK_MONOTONIC.
  std::optional<std::string> admit(const std::string& text, uint64_t now_ns) {
    if (began_ns_ == 0 || now_ns >= began_ns_ + kIntervalNs) {
      began_ns_ = now_ns;
      texts_.clear();
    }
    if (texts_.size() >= kTexts || std::ranges::find(texts_, text) != texts_.end()) {
      ++left_out_;
      return std::nullopt;
    }
    texts_.push_back(text);
    const uint64_t left_out = left_out_;
    left_out_ = 0;
    return left_out == 0 ? "" : " (" + std::to_string(left_out) + " more like it were not logged)";
  }

 private:
  std::vector<std::string> texts_;  // logged in this interval
  uint64_t began_ns_ = 0, left_out_ = 0;
};

}  // namespace portico
