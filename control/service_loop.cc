// SPDX-License-Identifier: Apache-2.0
// What happens over time: heartbeats, the dataplane's feedback, neighbours, health.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "control/service_impl.h"
#include "control/status.h"
#include "control/tier_text.h"

namespace portico {
namespace {

using namespace std::chrono_literals;

constexpr auto kHeartbeat = 100ms;
constexpr auto kPoll = 20ms;
constexpr uint64_t kSecondNs = 1'000'000'000;
// Clients on a connected network that the dataplane asked for: this many are kept resolved, those that do not
// answer for this long after the last question. One that is forgotten costs its next packet, which asks
// again.
constexpr size_t kMaxAskedFor = 2048;
constexpr uint64_t kForgetAskedNs = 3600 * kSecondNs;
constexpr uint64_t kAskAgainNs = kSecondNs / 2;
// The host's addresses change in bursts, too. Who takes ours away again and again is not answered faster.
constexpr auto kHostPause = 200ms;

}  // namespace

Ticker::Ticker(boost::asio::io_context& io, std::chrono::milliseconds interval, std::function<void()> task)
    : timer_(io), interval_(interval), task_(std::move(task)) {}

void Ticker::start() {
  timer_.expires_after(interval_);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    task_();
    start();
  });
}

void Service::Impl::start_loop() {
  const auto every = [this](std::chrono::milliseconds interval, auto task) {
    tickers.push_back(std::make_unique<Ticker>(io, interval, task));
    tickers.back()->start();
  };
  every(kHeartbeat, [this] {
    tend_table();
    follow_isolation();
    const auto change = builder.next_change_ns();
    if (held_until_ns || (change && monotonic_ns() >= *change)) schedule_publish();
    look_at_silent();
  });
  every(kPoll, [this] { poll_dataplane(); });
  every(1000ms, [this] { each_second(); });
  every(kHistoryInterval,
        [this] { history.sample(view(), static_cast<int64_t>(realtime_ns() / 1'000'000)); });
  neighbours_fd.emplace(io, dup(neighbours->fd()));
  wait_for_neighbours();
  poll_dataplane();
}

// The heartbeat, and a table file made anew if somebody spoiled it.
void Service::Impl::tend_table() {
  try {
    if (const std::string mended = publisher->heartbeat(); !mended.empty())
      if (const auto more = table_log.admit(mended.substr(0, mended.find("; made anew")), monotonic_ns()))
        spdlog::error("{}{}", mended, *more);
    table_error.clear();
  } catch (const std::exception& e) {
    if (table_error != e.what()) spdlog::error("{}", e.what());
    table_error = e.what();
  }
}

void Service::Impl::on_health_change(const std::string& pool, const std::string& backend) {
  health_dirty = true;
  const auto status = health->status(pool, backend);
  if (status) {
    auto& logged = logged_health[{pool, backend}];
    health_state_changed |= logged != status->state;
    if (logged != status->state) {
      spdlog::info("backend {}/{} is {}{}", pool, backend, to_string(status->state),
                   status->reason.empty() ? "" : ": " + status->reason);
      note_health(pool, backend, *status);
    }
    logged = status->state;
  }
  changed_pools.insert(pool);
  schedule_publish();
}

void Service::Impl::note_health(const std::string& pool, const std::string& backend,
                                const BackendHealth& status) {
  const bool is_down = status.state == HealthState::down;
  events.add({.at_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
              .kind = Event::Kind::health,
              .level = is_down ? Event::Level::error : Event::Level::info,
              .pool = pool,
              .backend = backend,
              .text = "backend " + pool + "/" + backend + " is " + std::string(to_string(status.state)),
              .why = status.reason});
  if (is_down) history.note_down(pool, backend);
}

void Service::Impl::note_tiers() {
  for (const PoolConfig& pool : config.pools) {
    const uint16_t id = ids.pool(pool.name);
    const PoolDecision* decision = builder.decision(id);
    if (decision == nullptr || decision->state != PoolState::normal) continue;
    auto& logged = logged_tiers[pool.name];
    const std::pair now(decision->spills, decision->uses_backups);
    if (std::exchange(logged, now) == now) continue;
    const std::string why = tier_text(config, pool, *decision, builder.local_percent(id));
    const std::string text =
        "pool " + pool.name +
        (why.empty() ? ": its own zone's primary backends have enough again" : ": " + why);
    spdlog::info("{}", text);
    events.add({.at_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
                .kind = Event::Kind::health,
                .level = why.empty() ? Event::Level::info : Event::Level::warning,
                .pool = pool.name,
                .text = text});
  }
}

void Service::Impl::wait_for_neighbours() {
  neighbours_fd->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                            [this](const boost::system::error_code& error) {
                              if (error) return;
                              neighbours->process();
                              if (neighbours->version() != seen_neighbours) schedule_publish();
                              if (neighbours->addresses_version() != seen_addresses) schedule_keep_host();
                              wait_for_neighbours();
                            });
}

void Service::Impl::schedule_keep_host() {
  if (keep_host_scheduled) return;
  keep_host_scheduled = true;
  keep_host_timer.expires_after(kHostPause);
  keep_host_timer.async_wait([this](const boost::system::error_code& error) {
    if (!error) keep_host();
  });
}

// Somebody may have flushed the rules or taken an address away, and networks move between interfaces.
void Service::Impl::keep_host() {
  keep_host_scheduled = false;
  seen_addresses = neighbours->addresses_version();
  const auto error = install(config, nullptr);
  if (error && host_warning != *error) spdlog::error("{}", *error);
  host_warning = error.value_or("");
}

void Service::Impl::poll_dataplane() {
  watch.poll(publisher->epoch(), publisher->generation(), monotonic_ns());
  own_side->note_forwarding(watch.is_forwarding());
  if (ids.release(watch.service_flows(), watch.backend_flows())) {
    all_changed = true;
    follow_addresses();
    schedule_publish();
  }
  if (!watch.is_working()) return;
  resolve_requested();
  passive.look(watch.feedback(), monotonic_ns(),
               [this](const PassiveSignal& signal) { return probe_for(signal); });
}

uint32_t Service::Impl::probe_for(const PassiveSignal& signal) {
  const uint32_t checks = health->probe_now(signal.pool, signal.backend);
  if (checks == 0 || !signal.is_news) return checks;
  const std::string text = "backend " + signal.pool + "/" + signal.backend +
                           (signal.refused > 0 ? ": refused SYNs: probed" : ": unanswered SYNs: probed");
  spdlog::info("{} ({})", text, signal.text());
  events.add({.at_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
              .kind = Event::Kind::health,
              .level = Event::Level::warning,
              .pool = signal.pool,
              .backend = signal.backend,
              .text = text,
              .why = signal.text()});
  return checks;
}

bool Service::Impl::is_resolved(const Address& address) const {
  const auto hop = neighbours->next_hop(address);
  return hop && hop->resolved;
}

// What the dataplane has packets for and no MAC address.
void Service::Impl::resolve_requested() {
  const uint64_t now = monotonic_ns();
  bool is_new = false;
  for (const ResolveRequest& request : watch.feedback().resolve) {
    if (request.requested_ns == 0 || request.address.is_none()) continue;
    const auto known = asked_for.find(request.address);
    if (known != asked_for.end() && request.requested_ns < known->second + kAskAgainNs) continue;
    if (now > request.requested_ns + kForgetAskedNs) continue;
    is_new |= known == asked_for.end();
    asked_for[request.address] = request.requested_ns;
    if (const auto hop = neighbours->next_hop(request.address))
      neighbours->probe(hop->neighbour, hop->ifindex);
  }
  while (asked_for.size() > kMaxAskedFor)
    asked_for.erase(
        std::min_element(asked_for.begin(), asked_for.end(), [this](const auto& a, const auto& b) {
          return std::pair(is_resolved(a.first), a.second) < std::pair(is_resolved(b.first), b.second);
        }));
  if (!is_new) return;
  follow_addresses();
  schedule_publish();
}

void Service::Impl::each_second() {
  neighbours->tick();
  if (neighbours->version() != seen_neighbours) schedule_publish();
  const uint64_t now = monotonic_ns();
  // One that is resolved asks no more: it may be in the middle of a download.
  const auto is_old = [&](const auto& asked) {
    return now > asked.second + kForgetAskedNs && !is_resolved(asked.first);
  };
  if (std::erase_if(asked_for, is_old) > 0) follow_addresses();
  if (health_dirty) store_health();
  if (!publish_error.empty()) schedule_publish();
  if (!keep_host_scheduled) keep_host();
}

}  // namespace portico
