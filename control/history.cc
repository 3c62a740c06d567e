// SPDX-License-Identifier: Apache-2.0
#include "control/history.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/status.h"

namespace portico {
namespace {

constexpr double kBitsPerByte = 8;

char state_of(const StatusView& view, const std::string& pool, const std::string& backend, bool was_down) {
  const auto health = view.health.status(pool, backend);
  const HealthState state = health ? health->state : HealthState::unknown;
  const bool is_up = health && health->healthy;
  if (was_down || (!is_up && state != HealthState::unknown)) return 'd';
  const Admin admin = view.operators.state(pool, backend);
  if (admin == Admin::held) return 'h';
  if (admin == Admin::drained) return 'n';
  return is_up ? 'u' : '?';
}

}  // namespace

size_t History::length() const {
  return std::clamp<size_t>(kHistoryBudget / std::max<size_t>(tracks_.size(), 1), 1, kHistorySamples);
}

void History::sample(const StatusView& view, int64_t now_ms) {
  for (auto& [name, track] : tracks_) track.is_configured = false;
  for (const auto& pool : view.config.pools)
    for (const auto& backend : pool.backends) {
      Track& track = tracks_[{pool.name, backend.name}];
      const uint16_t id = view.ids.backend(pool.name, backend);
      const BackendRates& rates = view.watch.backend_rates(id);
      const double bytes = rates.bytes_in.per_second() + rates.bytes_out.per_second();
      track.samples.push_back({.state = state_of(view, pool.name, backend.name, track.was_down),
                               .flows = static_cast<float>(view.watch.settled().backends[id].flows),
                               .new_per_second = static_cast<float>(rates.new_flows.per_second()),
                               .bits_per_second = static_cast<float>(bytes * kBitsPerByte)});
      track.was_down = false;
      track.is_configured = true;
    }
  std::erase_if(tracks_, [](const auto& entry) { return !entry.second.is_configured; });
  times_ms_.push_back(now_ms);
  const size_t most = length();
  while (times_ms_.size() > most) times_ms_.pop_front();
  for (auto& [name, track] : tracks_)
    while (track.samples.size() > most) track.samples.pop_front();
}

void History::note_down(const std::string& pool, const std::string& backend) {
  if (const auto found = tracks_.find({pool, backend}); found != tracks_.end()) found->second.was_down = true;
}

std::string History::json() const {
  nlohmann::json backends = nlohmann::json::array();
  for (const auto& [name, track] : tracks_) {
    std::string states;
    nlohmann::json flows = nlohmann::json::array(), begun = flows, bits = flows;
    for (const Sample& sample : track.samples) {
      states += sample.state;
      flows.push_back(std::llround(sample.flows));
      begun.push_back(std::round(sample.new_per_second * 10.0) / 10);
      bits.push_back(std::llround(sample.bits_per_second));
    }
    backends.push_back({{"pool", name.first},
                        {"backend", name.second},
                        {"states", states},
                        {"flows", std::move(flows)},
                        {"new_per_second", std::move(begun)},
                        {"bits_per_second", std::move(bits)}});
  }
  return nlohmann::json{{"interval_ms", std::chrono::milliseconds(kHistoryInterval).count()},
                        {"times_ms", times_ms_},
                        {"backends", std::move(backends)}}
      .dump();
}

}  // namespace portico
