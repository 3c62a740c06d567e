// SPDX-License-Identifier: Apache-2.0
#include "control/checks/health.h"

#include "control/checks/coroutines.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>

#include "control/checks/check_plan.h"
#include "control/checks/probe.h"

namespace portico {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

int64_t realtime_ns() {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::nanoseconds>(system_clock::now().time_since_epoch()).count();
}

int64_t ns_of(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

int64_t monotonic_ns() {
  return ns_of(Clock::now());
}

// A check while it runs. Its coroutine and its backend own it; the coroutine ends soon after `stopped`.
struct Check {
  Check(asio::io_context& io, const PlannedCheck& plan)
      : target(plan.target), own_address(plan.own_address), timer(io), prober(io) {
    configure(*plan.check);
  }

  void configure(const CheckConfig& with) {
    config = with;
    request = make_request(config, target);
  }

  CheckConfig config;
  Endpoint target;
  bool own_address;
  ProbeRequest request;
  std::string pool, backend;
  double spread = 0;  // [0, 1), fixed by the check's name: keeps many checks from running in step

  CheckProgress progress;
  ProbeOutcome last_outcome = ProbeOutcome::inconclusive;
  Hearing hearing;
  bool is_unheard = false;     // the last probe was not answered, or could not be sent
  std::string last_reason;     // of the last result
  std::string failure_reason;  // of the last result that was no success
  uint32_t last_latency_us = 0;
  int64_t certificate_expires_s = 0;

  asio::steady_timer timer;
  Prober prober;
  Clock::time_point next_probe;
  bool first_settled_interval = true;
  bool stopped = false;

  uint32_t connect_us = 0;      // the longest lately that the target took to take a connection; 0: never did
  bool hasty = false;           // probed since there are signs; until one is answered, or it is down
  bool unconfirmed = false;     // down by such probes; until another probe has a result
  bool at_once = false;         // the next probe follows at once
  Clock::time_point signalled;  // when the last signs were there

  // How long a target may take to answer the connection attempt of a probe in haste. Without experience: as
  // long as ever.
  Milliseconds haste() const {
    if (connect_us == 0) return config.timeout;
    const Milliseconds usual{uint64_t{connect_us} * HealthMonitor::kHasteFactor / 1000};
    return std::min(std::max(usual, HealthMonitor::kLeastHaste), config.timeout);
  }
  void note_result(const ProbeResult& result, Clock::time_point began);

  bool is_down() const {
    return progress.state == CheckState::down || progress.state == CheckState::recovering;
  }
  bool refused() const { return progress.state == CheckState::down && last_outcome == ProbeOutcome::refused; }
  bool unreachable() const { return progress.state == CheckState::down && is_silence(last_outcome); }
  bool silent() const { return unreachable() && last_outcome == ProbeOutcome::timeout; }
  bool is_same(const PlannedCheck& plan) const {
    return config.name == plan.check->name && config.kind == plan.check->kind && target == plan.target;
  }
  void stop() {
    stopped = true;
    timer.cancel();
    prober.cancel();
  }
};

// What the result of a probe, which `progress` has taken in, says about haste.
void Check::note_result(const ProbeResult& result, Clock::time_point began) {
  if (result.outcome == ProbeOutcome::inconclusive) {
    hasty = false;
    return;
  }
  // An eighth less with each result: one slow answer is remembered for a while.
  if (result.connect_us != 0) connect_us = std::max(result.connect_us, connect_us - connect_us / 8);
  // What was under way when the signs came says little of the time since.
  const bool is_old_news = began < signalled && result.outcome == ProbeOutcome::success;
  unconfirmed = hasty && result.unanswered && progress.state == CheckState::down;
  hasty = hasty && passes(progress.state) && (result.unanswered || is_old_news);
  at_once = hasty || unconfirmed;
}

struct Backend {
  std::optional<Address> v4, v6;
  std::vector<std::shared_ptr<Check>> checks;
  bool decided = false;  // all checks had a result once: those without one do not count any more
  BackendHealth health;  // as last told; `checks` in it stays empty
  FlapRule flap_rule;
  FlapState flaps;  // by CLOCK_REALTIME
};

// As BackendHealth says.
Hearing hearing_of(const Backend& backend) {
  Hearing all;
  bool has_spoken = false;  // a check that is down for what the target said
  for (const auto& check : backend.checks) {
    const Hearing& heard = check->hearing;
    // Another machine is heard by another way.
    if (check->own_address && heard.answered_ns > all.answered_ns) {
      all.answered_since_ns = heard.answered_since_ns;
      all.answered_ns = heard.answered_ns;
    }
    if (!check->is_down()) continue;
    has_spoken = has_spoken || heard.silent_ns == 0;
    all.silent_ns = std::max(all.silent_ns, heard.silent_ns);
  }
  if (has_spoken) all.silent_ns = 0;
  return all;
}

// What the backend's checks amount to now, but for `since`.
BackendHealth summarize(const Backend& backend) {
  BackendHealth sum;
  sum.checks_total = static_cast<uint32_t>(backend.checks.size());
  bool any_down = false, any_unknown = false;
  uint32_t own = 0, own_unreachable = 0, own_silent = 0;
  for (const auto& check : backend.checks) {
    if (passes(check->progress.state)) ++sum.checks_passed;
    if (check->progress.state == CheckState::unknown) any_unknown = true;
    if (check->is_down() && !any_down) {
      any_down = true;
      sum.reason = fmt::format("{}: {}", check->config.name, check->failure_reason);
    }
    if (!check->own_address) continue;
    ++own;
    if (check->unreachable()) ++own_unreachable;
    if (check->silent()) ++own_silent;
    if (check->refused()) sum.refused_ports.push_back(check->target.port);
  }
  std::sort(sum.refused_ports.begin(), sum.refused_ports.end());
  sum.refused_ports.erase(std::unique(sum.refused_ports.begin(), sum.refused_ports.end()),
                          sum.refused_ports.end());
  sum.unreachable = own > 0 && own_unreachable == own;
  sum.silent = sum.unreachable && own_silent == own;
  sum.unconfirmed = any_down && std::ranges::all_of(backend.checks, [](const auto& check) {
                      return !check->is_down() || check->unconfirmed;
                    });
  if (any_down) {
    sum.state = HealthState::down;
  } else if (any_unknown && !backend.decided) {
    sum.state = HealthState::unknown;
    sum.reason = "no result of all checks yet";
  } else {
    sum.state = HealthState::up;
  }
  sum.healthy = sum.state == HealthState::up;
  return sum;
}

// Brings backend.health up to date; true if something changed that is told of.
bool refresh(Backend& backend) {
  backend.decided =
      backend.decided || std::none_of(backend.checks.begin(), backend.checks.end(), [](const auto& check) {
        return check->progress.state == CheckState::unknown;
      });
  BackendHealth now = summarize(backend);
  BackendHealth& told = backend.health;
  const bool first = told.since_realtime_ns == 0;
  const bool changed = first || now.state != told.state || now.reason != told.reason ||
                       now.refused_ports != told.refused_ports || now.unreachable != told.unreachable ||
                       now.silent != told.silent || now.unconfirmed != told.unconfirmed;
  if (!first && now.state == told.state) {
    now.since_realtime_ns = told.since_realtime_ns;
    now.since_monotonic_ns = told.since_monotonic_ns;
  } else {
    now.since_realtime_ns = realtime_ns();
    now.since_monotonic_ns = monotonic_ns();
    if (told.state == HealthState::up && now.state == HealthState::down)
      backend.flaps = after_fall(backend.flaps, backend.flap_rule, now.since_realtime_ns);
  }
  told = std::move(now);
  return changed;
}

CheckStatus status_of(const Check& check) {
  CheckStatus status;
  status.name = check.config.name;
  status.kind = check.config.kind;
  status.target = check.target;
  status.state = check.progress.state;
  status.last_reason = check.last_reason;
  status.last_latency_us = check.last_latency_us;
  status.consecutive = check.progress.consecutive;
  status.refused = check.refused();
  status.unreachable = check.unreachable();
  status.certificate_expires_s = check.certificate_expires_s;
  status.certificate_days = check.config.tls.certificate_days;
  return status;
}

// Time from the start of one probe to the start of the next. The first settled interval is shortened by the
// check's spread, never lengthened, so that detection times hold.
Clock::duration interval_after_probe(Check& check) {
  if (std::exchange(check.at_once, false)) return Clock::duration{0};
  if (is_changing(check.progress.state)) return std::min(check.config.fast_interval, check.config.interval);
  if (!std::exchange(check.first_settled_interval, false)) return check.config.interval;
  return std::chrono::duration_cast<Clock::duration>(check.config.interval * (1 - check.spread));
}

}  // namespace

struct HealthMonitor::Impl : std::enable_shared_from_this<Impl> {
  Impl(asio::io_context& context, OnChange callback, Ears own)
      : io(context), on_change(std::move(callback)), ears(std::move(own)) {}

  asio::io_context& io;
  OnChange on_change;
  Ears ears;
  std::map<std::string, std::map<std::string, Backend, std::less<>>, std::less<>> pools;

  static asio::awaitable<void> watch(std::weak_ptr<Impl> owner, std::shared_ptr<Check> check);
  void take_result(Check& check, ProbeResult result, Clock::time_point began);
  std::shared_ptr<Check> start_check(const PlannedCheck& plan, const std::string& pool,
                                     const std::string& backend);
  Backend make_backend(const Config& config, const PoolConfig& pool, const BackendConfig& wanted,
                       Backend* old);
  Backend* find(std::string_view pool, std::string_view backend);
  void stop();
};

// A check's life: sleep, probe, tell.
asio::awaitable<void> HealthMonitor::Impl::watch(std::weak_ptr<Impl> owner, std::shared_ptr<Check> check) {
  while (!check->stopped) {
    while (!check->stopped && Clock::now() < check->next_probe) {
      boost::system::error_code woken;
      check->timer.expires_at(check->next_probe);
      co_await check->timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    }
    if (check->stopped) break;
    const Clock::time_point started = Clock::now();
    ProbeRequest request = check->request;
    if (check->hasty) request.connect_limit = check->haste();
    ProbeResult result = co_await check->prober.probe(std::move(request));
    const std::shared_ptr<Impl> self = owner.lock();
    if (check->stopped || !self) break;
    self->take_result(*check, std::move(result), started);
    check->next_probe = started + interval_after_probe(*check);
  }
}

// Called from a check's coroutine only, so that on_change never runs within a method of the class. It may
// itself change everything here: nothing is touched after it.
void HealthMonitor::Impl::take_result(Check& check, ProbeResult result, Clock::time_point began) {
  check.is_unheard = result.unanswered || result.outcome == ProbeOutcome::inconclusive;
  if (result.unanswered && ears.why_unheard) {
    if (const std::string why = ears.why_unheard(check.pool, began); !why.empty()) {
      result = {ProbeOutcome::inconclusive, "cannot probe: " + why, result.latency_us};
      check.prober.cancel();  // a login that hangs would fail the next probes, too
    }
  }
  const bool is_answer = !result.unanswered && result.outcome != ProbeOutcome::inconclusive;
  if (is_answer && check.own_address && ears.note_answer) ears.note_answer(check.pool, began);
  const CheckThresholds thresholds{check.config.fall, check.config.rise};
  const CheckState before = check.progress.state;
  check.progress = advance(check.progress, result.outcome, thresholds);
  check.note_result(result, began);
  check.hearing.note(result.outcome, result.unanswered, before, check.progress.state, ns_of(began));
  check.last_latency_us = result.latency_us;
  if (result.certificate_expires_s != 0) check.certificate_expires_s = result.certificate_expires_s;
  check.last_reason = std::move(result.reason);
  if (result.outcome != ProbeOutcome::inconclusive) {
    check.last_outcome = result.outcome;
    if (result.outcome != ProbeOutcome::success) check.failure_reason = check.last_reason;
  }
  Backend* const backend = find(check.pool, check.backend);
  if (backend == nullptr || !refresh(*backend) || !on_change) return;
  const std::string pool_name = check.pool, backend_name = check.backend;
  const OnChange callback = on_change;
  callback(pool_name, backend_name);
}

std::shared_ptr<Check> HealthMonitor::Impl::start_check(const PlannedCheck& plan, const std::string& pool,
                                                        const std::string& backend) {
  auto check = std::make_shared<Check>(io, plan);
  check->pool = pool;
  check->backend = backend;
  const std::string identity = fmt::format("{}/{}/{}/{}/{}", pool, backend, plan.check->name,
                                           to_string(plan.target.address), plan.target.port);
  check->spread = static_cast<double>(XXH3_64bits(identity.data(), identity.size()) >> 11) * 0x1p-53;
  const auto delay = std::min(check->config.fast_interval, check->config.interval) * check->spread;
  check->next_probe = Clock::now() + std::chrono::duration_cast<Clock::duration>(delay);
  asio::co_spawn(
      io, [owner = weak_from_this(), check] { return watch(owner, check); }, asio::detached);
  return check;
}

// Takes over from `old` (null: none) the checks that stay.
Backend HealthMonitor::Impl::make_backend(const Config& config, const PoolConfig& pool,
                                          const BackendConfig& wanted, Backend* old) {
  Backend backend;
  backend.v4 = wanted.v4;
  backend.v6 = wanted.v6;
  backend.flap_rule = {pool.flap_limit, std::chrono::nanoseconds(pool.flap_half_life).count()};
  const bool same_machine = old != nullptr && old->v4 == wanted.v4 && old->v6 == wanted.v6;
  if (same_machine) {
    backend.flaps = old->flaps;
    backend.decided = old->decided;
    backend.health = old->health;
  }
  for (const PlannedCheck& plan : plan_checks(config, pool, wanted)) {
    std::shared_ptr<Check> kept;
    if (old != nullptr) {
      const auto same = std::find_if(old->checks.begin(), old->checks.end(),
                                     [&](const auto& check) { return check && check->is_same(plan); });
      if (same != old->checks.end()) kept = std::exchange(*same, nullptr);
    }
    if (!kept) {
      backend.checks.push_back(start_check(plan, pool.name, wanted.name));
      continue;
    }
    kept->configure(*plan.check);
    kept->own_address = plan.own_address;
    // A shorter interval takes effect now; a longer one after the probe that is due.
    kept->next_probe = std::min(kept->next_probe, Clock::now() + kept->config.interval);
    kept->timer.cancel();
    backend.checks.push_back(std::move(kept));
  }
  refresh(backend);
  return backend;
}

Backend* HealthMonitor::Impl::find(std::string_view pool, std::string_view backend) {
  const auto in_pool = pools.find(pool);
  if (in_pool == pools.end()) return nullptr;
  const auto found = in_pool->second.find(backend);
  return found == in_pool->second.end() ? nullptr : &found->second;
}

void HealthMonitor::Impl::stop() {
  for (auto& [pool_name, backends] : pools)
    for (auto& [name, backend] : backends)
      for (const auto& check : backend.checks)
        if (check) check->stop();
  pools.clear();
}

HealthMonitor::HealthMonitor(asio::io_context& io, OnChange on_change, Ears ears)
    : impl_(std::make_shared<Impl>(io, std::move(on_change), std::move(ears))) {}

HealthMonitor::~HealthMonitor() {
  stop();
}

void HealthMonitor::stop() {
  impl_->stop();
}

void HealthMonitor::apply(const Config& config) {
  decltype(impl_->pools) next;
  for (const PoolConfig& pool : config.pools)
    for (const BackendConfig& wanted : pool.backends)
      next[pool.name].emplace(wanted.name,
                              impl_->make_backend(config, pool, wanted, impl_->find(pool.name, wanted.name)));
  impl_->stop();  // what was not taken over
  impl_->pools = std::move(next);
}

std::optional<BackendHealth> HealthMonitor::status(std::string_view pool, std::string_view backend) const {
  const Backend* const found = impl_->find(pool, backend);
  if (found == nullptr) return std::nullopt;
  BackendHealth health = found->health;
  for (const auto& check : found->checks) health.checks.push_back(status_of(*check));
  // Counts and times move on without a change that is told of.
  health.checks_passed = summarize(*found).checks_passed;
  health.hearing = hearing_of(*found);
  const int64_t now = realtime_ns();
  health.flap_penalty = penalty_at(found->flaps, found->flap_rule, now);
  if (found->flaps.damped_until_ns > now && found->flap_rule.limit != 0)
    health.damped_until_monotonic_ns = monotonic_ns() + found->flaps.damped_until_ns - now;
  return health;
}

uint32_t HealthMonitor::probe_now(std::string_view pool, std::string_view backend) {
  Backend* const found = impl_->find(pool, backend);
  if (found == nullptr) return 0;
  uint32_t probed = 0;
  for (const auto& check : found->checks) {
    if (!passes(check->progress.state)) continue;
    ++probed;
    check->hasty = true;
    check->signalled = check->next_probe = Clock::now();
    check->timer.cancel();
    check->prober.hurry(check->haste());
  }
  return probed;
}

bool HealthMonitor::hears_nobody() const {
  bool has_checks = false;
  for (const auto& [pool, backends] : impl_->pools)
    for (const auto& [name, backend] : backends)
      for (const auto& check : backend.checks) {
        if (!check->is_unheard) return false;
        has_checks = true;
      }
  return has_checks;
}

HealthSnapshot HealthMonitor::export_state() const {
  HealthSnapshot snapshot;
  for (const auto& [pool, backends] : impl_->pools)
    for (const auto& [name, backend] : backends) {
      snapshot.backends.push_back(
          {pool, name, backend.health.state, backend.health.since_realtime_ns, backend.flaps});
      for (const auto& check : backend.checks)
        snapshot.checks.push_back({pool, name, check->config.name, check->target, check->progress,
                                   check->last_outcome, check->failure_reason});
    }
  return snapshot;
}

void HealthMonitor::import_state(const HealthSnapshot& snapshot) {
  for (const auto& saved : snapshot.checks) {
    Backend* const backend = impl_->find(saved.pool, saved.backend);
    if (backend == nullptr) continue;
    for (const auto& check : backend->checks) {
      if (check->config.name != saved.name || check->target != saved.target) continue;
      check->progress = saved.progress;
      check->last_outcome = saved.last_outcome;
      check->failure_reason = saved.last_reason;
      if (check->is_down() && is_silence(saved.last_outcome)) check->hearing.silent_ns = monotonic_ns();
      if (saved.last_outcome != ProbeOutcome::success) check->last_reason = saved.last_reason;
    }
  }
  for (const auto& saved : snapshot.backends) {
    Backend* const backend = impl_->find(saved.pool, saved.backend);
    if (backend == nullptr) continue;
    refresh(*backend);
    backend->flaps = saved.flaps;
    if (backend->health.state != saved.state) continue;
    const int64_t age_ns = std::max<int64_t>(0, realtime_ns() - saved.since_realtime_ns);
    backend->health.since_realtime_ns = realtime_ns() - age_ns;
    backend->health.since_monotonic_ns = monotonic_ns() - age_ns;
  }
}

std::string_view to_string(HealthState state) {
  static constexpr std::array<std::string_view, 3> kNames = {"unknown", "up", "down"};
  return kNames[static_cast<size_t>(state)];
}

}  // namespace portico
