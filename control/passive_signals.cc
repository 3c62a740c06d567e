// SPDX-License-Identifier: Apache-2.0
#include "control/passive_signals.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace portico {
namespace {

void append(std::string& text, uint64_t count, const char* what) {
  if (count == 0) return;
  text += fmt::format("{}{} SYN{} {}", text.empty() ? "" : ", ", count, count == 1 ? "" : "s", what);
}

uint64_t pause_of(const PoolConfig& pool) {
  std::chrono::nanoseconds pause{PassiveSignals::kPauseNs};
  for (const CheckConfig& check : pool.checks)
    pause = std::max<std::chrono::nanoseconds>(pause, std::min(check.fast_interval, check.interval));
  return static_cast<uint64_t>(pause.count());
}

// What a counter has grown by; one that went back began anew.
uint64_t growth(uint64_t& seen, uint64_t now) {
  const uint64_t before = std::exchange(seen, now);
  return now >= before ? now - before : 0;
}

}  // namespace

std::string PassiveSignal::text() const {
  std::string text;
  append(text, unanswered, "without answer");
  append(text, repeated, "sent again");
  append(text, refused, "refused");
  return text;
}

void PassiveSignals::follow(const Config& config, const Ids& ids) {
  watched_.clear();
  for (const PoolConfig& pool : config.pools) {
    if (!pool.passive_probe) continue;
    for (const BackendConfig& backend : pool.backends)
      if (const uint16_t id = ids.backend(pool.name, backend); id != kNone)
        watched_.push_back({id, pause_of(pool), pool.name, backend.name});
  }
}

// What another dataplane counts begins at 0; before the first one's reading nothing was seen.
void PassiveSignals::note_epoch(const Feedback& feedback) {
  if (feedback.header.epoch == epoch_) return;
  const bool is_first = std::exchange(epoch_, feedback.header.epoch) == 0;
  for (size_t id = 0; id < seen_.size(); ++id) {
    const BackendFeedback now = is_first ? feedback.backends[id] : BackendFeedback{};
    seen_[id].unanswered = now.syns_unanswered;
    seen_[id].repeated = now.syn_repeats;
    seen_[id].refused = now.syns_refused;
  }
}

bool PassiveSignals::take_token(uint64_t now_ns) {
  const auto elapsed_ns = static_cast<double>(now_ns - std::exchange(filled_ns_, now_ns));
  tokens_ = std::min<double>(kBurst, tokens_ + elapsed_ns * 1e-9 * kPerSecond);
  return tokens_ >= 1;
}

void PassiveSignals::look(const Feedback& feedback, uint64_t now_ns, const Probe& probe) {
  note_epoch(feedback);
  for (size_t i = 0; i < watched_.size(); ++i) {
    const Watched& of = watched_[(first_ + i) % watched_.size()];
    const BackendFeedback& now = feedback.backends[of.id];
    Seen& seen = seen_[of.id];
    const bool is_same = seen.unanswered == now.syns_unanswered && seen.repeated == now.syn_repeats &&
                         seen.refused == now.syns_refused;
    if (is_same || now_ns < seen.next_ns) continue;
    if (!take_token(now_ns)) {
      first_ = (first_ + i) % watched_.size();
      return;
    }
    const PassiveSignal signal{.pool = of.pool,
                               .backend = of.backend,
                               .unanswered = growth(seen.unanswered, now.syns_unanswered),
                               .repeated = growth(seen.repeated, now.syn_repeats),
                               .refused = growth(seen.refused, now.syns_refused),
                               .is_news = seen.told_ns == 0 || now_ns >= seen.told_ns + kTellAgainNs};
    if (signal.text().empty() || probe(signal) == 0) continue;
    tokens_ -= 1;
    ++seen.probes;
    seen.next_ns = now_ns + of.pause_ns;
    if (signal.is_news) seen.told_ns = now_ns;
  }
}

}  // namespace portico
