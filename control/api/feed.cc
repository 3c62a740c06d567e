// SPDX-License-Identifier: Apache-2.0
#include "control/api/feed.h"

#include <algorithm>

#include "contract/run_dir.h"
#include "control/status.h"

namespace portico {
namespace {

constexpr uint64_t kRefreshNs = 1'000'000'000;
constexpr uint64_t kSoonestNs = 100'000'000;  // after an event
constexpr uint64_t kCostFactor = 20;

std::string message(const char* name, const std::string& data) {
  return std::string("event: ") + name + "\ndata: " + data + "\n\n";
}

}  // namespace

std::string on_one_line(const std::string& json) {
  std::string line;
  line.reserve(json.size());
  for (size_t i = 0; i < json.size(); ++i) {
    if (json[i] != '\n')
      line += json[i];
    else
      while (i + 1 < json.size() && json[i + 1] == ' ') ++i;
  }
  return line;
}

bool Feed::is_due(uint64_t now_ns) const {
  if (!snapshot_) return true;
  const bool is_news = service_.events().newest() != made_events_;
  return now_ns - made_ns_ >= std::max(is_news ? kSoonestNs : kRefreshNs, kCostFactor * cost_ns_);
}

const std::shared_ptr<const std::string>& Feed::snapshot() {
  const uint64_t now = monotonic_ns();
  if (!is_due(now)) return snapshot_;
  const StatusView view = service_.view();
  snapshot_ = std::make_shared<const std::string>(message("status", on_one_line(status_json(view))) +
                                                  message("drops", on_one_line(drops_json(view))));
  made_ns_ = now;
  cost_ns_ = monotonic_ns() - now;
  made_events_ = service_.events().newest();
  return snapshot_;
}

ApiStream Feed::open(uint64_t after) {
  return [this, after, sent = std::shared_ptr<const std::string>()]() mutable {
    auto piece = snapshot();
    if (piece == sent) piece = nullptr;
    if (piece) sent = piece;
    const uint64_t newest = service_.events().newest();
    if (after != newest) {
      const std::string events = message("events", service_.events().json_after(after));
      after = newest;
      piece = std::make_shared<const std::string>((piece ? *piece : "") + events);
    }
    return piece;
  };
}

}  // namespace portico
