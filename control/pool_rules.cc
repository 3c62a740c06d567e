// SPDX-License-Identifier: Apache-2.0
#include "control/pool_rules.h"

#include <algorithm>
#include <chrono>
#include <limits>

namespace portico {
namespace {

// Answers that end a doubt change no backend's state: nobody tells of them.
constexpr uint64_t kLookAgainNs = 100'000'000;

// The ids of the backends that a predicate names.
template <typename Predicate>
std::set<uint16_t> ids_where(const std::vector<Candidate>& backends, Predicate predicate) {
  std::set<uint16_t> ids;
  for (const auto& backend : backends)
    if (predicate(backend)) ids.insert(backend.id);
  return ids;
}

// Of the primary ones, if there are any; of these those of the own zone, if there are any.
std::set<uint16_t> preferred(const std::vector<Candidate>& backends) {
  auto ids =
      ids_where(backends, [](const Candidate& b) { return may_serve(b) && !b.is_backup && b.is_local; });
  if (ids.empty()) ids = ids_where(backends, [](const Candidate& b) { return may_serve(b) && !b.is_backup; });
  if (ids.empty()) ids = ids_where(backends, may_serve);
  return ids;
}

// Held backends, those of weight 0, backups and those of which nothing is known count neither as missing nor
// as there.
bool panics(const PoolConfig& pool, const std::vector<Candidate>& backends) {
  const auto counted = [](const Candidate& b) {
    return b.admin != Admin::held && b.weight > 0 && b.health.known && !b.is_backup;
  };
  const auto total = std::count_if(backends.begin(), backends.end(), counted);
  const auto healthy = std::count_if(backends.begin(), backends.end(),
                                     [&](const Candidate& b) { return counted(b) && b.health.healthy; });
  return healthy * 100 < static_cast<int64_t>(pool.min_healthy_percent) * total;
}

// Nothing tells which of the backends serve: they are new, all of them.
bool is_untested(const std::vector<Candidate>& backends, const std::set<uint16_t>& last_usable) {
  const auto is_known = [&](const Candidate& b) { return b.health.known || last_usable.contains(b.id); };
  return std::any_of(backends.begin(), backends.end(), may_serve) &&
         std::none_of(backends.begin(), backends.end(),
                      [&](const Candidate& b) { return may_serve(b) && is_known(b); });
}

std::set<uint16_t> last_resort(const std::vector<Candidate>& backends,
                               const std::set<uint16_t>& last_usable) {
  auto ids =
      ids_where(backends, [&](const Candidate& b) { return may_serve(b) && last_usable.contains(b.id); });
  if (ids.empty()) ids = ids_where(backends, [](const Candidate& b) { return may_serve(b) && !b.is_backup; });
  if (ids.empty()) ids = ids_where(backends, may_serve);
  if (ids.empty())
    ids = ids_where(backends, [](const Candidate& b) { return b.admin == Admin::drained && b.weight > 0; });
  return ids;
}

// The rules of `on_backend_down: auto` for a backend that is down.
FlowDecision decide_auto(const PoolConfig& pool, const BackendView& health,
                         const std::set<uint16_t>& service_ports, uint64_t now_ns) {
  std::set<uint16_t> refused;
  for (const uint16_t port : health.refused_ports)
    if (service_ports.contains(port)) refused.insert(port);
  const uint64_t deadline =
      health.down_since_ns + static_cast<uint64_t>(pool.reset_after.count()) * uint64_t{1'000'000};
  if (health.unreachable || refused.size() > kMaxResetPorts || now_ns >= deadline)
    return {.disposition = BackendDisposition::reset, .reset_ports = {}, .next_change_ns = {}};
  return {.disposition = BackendDisposition::finish,
          .reset_ports = {refused.begin(), refused.end()},
          .next_change_ns = deadline};
}

}  // namespace

const char* to_string(PoolState state) {
  switch (state) {
    case PoolState::normal:
      return "normal";
    case PoolState::panic:
      return "panic";
    case PoolState::untested:
      return "untested";
    case PoolState::kept_last:
      return "kept_last";
    case PoolState::cut_off:
      return "cut_off";
    case PoolState::reset:
      return "reset";
    case PoolState::drop:
      return "drop";
  }
  return "unknown";
}

PoolDisposition PoolDecision::disposition() const {
  if (state == PoolState::reset) return PoolDisposition::reset;
  if (state == PoolState::drop) return PoolDisposition::drop;
  return PoolDisposition::serve;
}

uint64_t keep_last_window_ns(const PoolConfig& pool) {
  std::chrono::nanoseconds window{0};
  for (const CheckConfig& check : pool.checks)
    window = std::max<std::chrono::nanoseconds>(window, 2 * (check.interval * check.fall + check.timeout));
  return static_cast<uint64_t>(window.count());
}

void LastUsable::recover(std::set<uint16_t> ids, const std::set<uint16_t>& spared, uint64_t now_ns) {
  current_ = std::move(ids);
  for (const uint16_t id : spared) left_[id] = now_ns;
}

void LastUsable::note(const std::set<uint16_t>& usable, uint64_t now_ns, uint64_t window_ns) {
  if (usable.empty()) {
    if (current_.empty()) return;
    kept_ = kept(now_ns, window_ns);
    for (const uint16_t id : current_) lost_[id] = left_[id] = now_ns;
    current_.clear();
    return;
  }
  for (const uint16_t id : current_) lost_[id] = left_[id] = now_ns;
  if (current_.empty())
    for (const uint16_t id : kept_) {
      left_[id] = now_ns;
      if (late_.insert(id).second) lost_[id] = now_ns;
    }
  const auto is_past = [&](const auto& entry) {
    return usable.contains(entry.first) || entry.second + window_ns < now_ns;
  };
  std::erase_if(lost_, is_past);
  std::erase_if(left_, is_past);
  for (const uint16_t id : usable) late_.erase(id);
  current_ = usable;
}

std::set<uint16_t> LastUsable::kept(uint64_t now_ns, uint64_t window_ns) const {
  if (current_.empty()) return kept_;
  std::set<uint16_t> ids = current_;
  for (const auto& [id, until_ns] : lost_)
    if (until_ns + window_ns >= now_ns) ids.insert(id);
  return ids;
}

std::optional<uint64_t> LastUsable::left_ns(uint16_t id) const {
  const auto left = left_.find(id);
  return left == left_.end() ? std::nullopt : std::optional(left->second);
}

PoolDecision decide_pool(const PoolConfig& pool, const std::vector<Candidate>& backends,
                         const std::set<uint16_t>& last_usable, const TierChoice& tiers) {
  if (pool.min_healthy_percent > 0 && !tiers.uses_backups && panics(pool, backends)) {
    auto all = ids_where(backends,
                         [](const Candidate& b) { return may_serve(b) && b.health.known && !b.is_backup; });
    if (!all.empty()) return {.state = PoolState::panic, .usable = std::move(all)};
  }
  if (!tiers.chosen.empty())
    return {.usable = tiers.chosen,
            .standby = tiers.standby,
            .spills = tiers.spills,
            .uses_backups = tiers.uses_backups};
  // A restless backend is better than none.
  auto restless = ids_where(
      backends, [](const Candidate& b) { return may_serve(b) && b.health.healthy && !b.is_backup; });
  if (restless.empty())
    restless = ids_where(backends, [](const Candidate& b) { return may_serve(b) && b.health.healthy; });
  if (!restless.empty()) return {.usable = std::move(restless)};
  if (is_untested(backends, last_usable))
    return {.state = PoolState::untested, .usable = preferred(backends)};
  if (pool.all_down == AllDown::drop) return {.state = PoolState::drop};
  if (pool.all_down == AllDown::reset) return {.state = PoolState::reset};
  auto kept = last_resort(backends, last_usable);
  // Nothing is left but held backends: a refusal tells clients at once what silence would tell them late.
  if (kept.empty()) return {.state = PoolState::reset};
  return {.state = PoolState::kept_last, .usable = std::move(kept)};
}

PoolDecision decide_cut_off(const std::vector<Candidate>& backends, const std::set<uint16_t>& last_usable) {
  auto kept = last_resort(backends, last_usable);
  if (kept.empty()) return {.state = PoolState::reset};
  return {.state = PoolState::cut_off, .usable = std::move(kept)};
}

Answers::Answers(const std::vector<Candidate>& backends) {
  for (const Candidate& backend : backends)
    if (const Hearing& heard = backend.health.hearing; heard.answered_since_ns != 0)
      rows_.emplace_back(heard.answered_since_ns, heard.answered_ns);
  std::sort(rows_.begin(), rows_.end());
  for (size_t i = 1; i < rows_.size(); ++i) rows_[i].second = std::max(rows_[i].second, rows_[i - 1].second);
}

bool Answers::surround(int64_t time_ns) const {
  constexpr int64_t kEver = std::numeric_limits<int64_t>::max();
  const auto later = std::upper_bound(rows_.begin(), rows_.end(), std::pair(time_ns, kEver));
  return later != rows_.begin() && std::prev(later)->second >= time_ns;
}

bool is_in_doubt(const Candidate& backend, const Answers& answers) {
  const int64_t silent_ns = backend.health.hearing.silent_ns;
  return silent_ns != 0 && !answers.surround(silent_ns);
}

FlowDecision decide_flows(const PoolConfig& pool, const Candidate& backend, const PoolDecision& decision,
                          const std::set<uint16_t>& service_ports, uint64_t now_ns,
                          std::optional<uint64_t> doubt_until_ns) {
  const bool takes_flows = decision.usable.contains(backend.id);
  if (backend.admin != Admin::active && backend.reset_at_ns && !takes_flows) {
    if (now_ns >= *backend.reset_at_ns)
      return {.disposition = BackendDisposition::reset, .reset_ports = {}, .next_change_ns = {}};
    return {
        .disposition = BackendDisposition::forward, .reset_ports = {}, .next_change_ns = backend.reset_at_ns};
  }
  const bool set_aside = backend.admin != Admin::active || backend.weight == 0;
  if (takes_flows || set_aside || backend.health.healthy || !backend.health.known) return {};
  // Who is late for once gets no new flows, but keeps those it has.
  if (backend.health.unconfirmed) return {};
  if (doubt_until_ns == kUntilConnected) return {};
  if (doubt_until_ns && now_ns < *doubt_until_ns)
    return {.disposition = BackendDisposition::forward,
            .reset_ports = {},
            .next_change_ns = std::min(*doubt_until_ns, now_ns + kLookAgainNs)};
  switch (pool.on_backend_down) {
    case OnBackendDown::keep:
      return {};
    case OnBackendDown::reset:
      return {.disposition = BackendDisposition::reset, .reset_ports = {}, .next_change_ns = {}};
    case OnBackendDown::automatic:
      break;
  }
  return decide_auto(pool, backend.health, service_ports, now_ns);
}

}  // namespace portico
