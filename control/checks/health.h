// SPDX-License-Identifier: Apache-2.0
// Watches the health of every backend: runs the configured checks, keeps their states, tells of changes.
// docs/health.md says what the checks do and when a backend counts as healthy.
//
// Lives on the thread that runs the io_context; no method may be called from another one.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/checks/check_state.h"
#include "control/checks/flap_damping.h"
#include "control/config.h"

namespace boost::asio {
class io_context;
}

namespace portico {

enum class HealthState : uint8_t {
  unknown,  // a new backend, not all of whose checks have a result yet: not healthy
  up,       // all checks pass
  down,     // a check does not pass
};

// "unknown", "up", "down".
std::string_view to_string(HealthState state);

struct CheckStatus {
  std::string name;  // as configured
  CheckKind kind = CheckKind::tcp;
  Endpoint target;
  CheckState state = CheckState::unknown;
  std::string last_reason;            // of the last result, why it is not a success; empty after a success
  uint32_t last_latency_us = 0;       // from the start of the last probe to its verdict
  uint32_t consecutive = 0;           // results in a row of the same kind
  bool refused = false;               // down, and the target's port answers with RST
  bool unreachable = false;           // down, and nothing comes from the target at all, or ICMP unreachable
  int64_t certificate_expires_s = 0;  // Unix time: of the server's, as last seen; 0: none
  uint32_t certificate_days = 0;      // fewer left are worth a warning; 0: never
};

struct BackendHealth {
  HealthState state = HealthState::unknown;
  bool healthy = false;            // state == up: may get new flows
  std::string reason;              // of the first check that does not pass: `mysql: "Too many connections"`
  int64_t since_realtime_ns = 0;   // when `state` began, CLOCK_REALTIME
  int64_t since_monotonic_ns = 0;  // the same, CLOCK_MONOTONIC
  uint32_t checks_passed = 0, checks_total = 0;
  // What `on_backend_down: auto` distinguishes. Ports of the backend itself that refuse; a check that goes to
  // another address (check_address) says nothing about them.
  std::vector<uint16_t> refused_ports;
  bool unreachable = false;  // down, and every check of the backend is unreachable
  bool silent = false;       // unreachable by timeouts alone: the host may as well be too busy to answer
  // Down for probes in haste alone (probe_now): no connection attempt has had all its time yet.
  bool unconfirmed = false;
  // What pool_rules.h needs to tell a silent backend from a host that hears nothing: `silent_ns` of its
  // checks that do not pass, if nothing but silence speaks against them, else 0; and a row of answers
  // from its own addresses.
  Hearing hearing;
  double flap_penalty = 0;  // flap_damping.h; now
  int64_t damped_until_monotonic_ns = 0;
  std::vector<CheckStatus> checks;  // in the order of configuration, IPv4 before IPv6
};

// What a restarted control needs to continue.
struct HealthSnapshot {
  struct Check {
    std::string pool, backend, name;
    Endpoint target;
    CheckProgress progress;
    ProbeOutcome last_outcome = ProbeOutcome::inconclusive;
    std::string last_reason;
  };
  struct Backend {
    std::string pool, backend;
    HealthState state = HealthState::unknown;
    int64_t since_realtime_ns = 0;
    FlapState flaps;  // by CLOCK_REALTIME
  };
  std::vector<Check> checks;
  std::vector<Backend> backends;
};

// The snapshot as one line of JSON, and back; nothing if `text` is not one.
std::string to_json_text(const HealthSnapshot& snapshot);
std::optional<HealthSnapshot> parse_health_snapshot(std::string_view text);

class HealthMonitor {
 public:
  // `on_change` is called from the io_context whenever a backend's state, reason, refused ports or
  // reachability has changed; never from within a method of this class.
  using OnChange = std::function<void(const std::string& pool, const std::string& backend)>;

  // What this host can hear at all; either may be empty. `began`: the beginning of a probe.
  struct Ears {
    // Why no answer to a probe of the pool can have been heard; empty: it can. Asked when there was none:
    // with a reason the probe's result is `inconclusive`.
    std::function<std::string(const std::string& pool, std::chrono::steady_clock::time_point began)>
        why_unheard;
    // A backend of the pool has answered from its own address.
    std::function<void(const std::string& pool, std::chrono::steady_clock::time_point began)> note_answer;
  };

  HealthMonitor(boost::asio::io_context& io, OnChange on_change, Ears ears = {});
  ~HealthMonitor();  // as stop()
  HealthMonitor(const HealthMonitor&) = delete;
  HealthMonitor& operator=(const HealthMonitor&) = delete;

  // Takes a configuration over as a difference: checks whose backend, name, kind and target are unchanged
  // keep their state and timers and get their new thresholds; new ones start, others end. A check added to a
  // backend that already has a state does not count before its first result.
  void apply(const Config& config);

  // Nothing for a backend that is not configured.
  std::optional<BackendHealth> status(std::string_view pool, std::string_view backend) const;

  // There are signs that the backend is gone: probes at once what passes of its checks, in haste. A target
  // that is silent gets kHasteFactor times what it took at most lately to take a connection, but at
  // least kLeastHaste, and no more than `timeout`; after that the next probe follows at once, until one is
  // answered or `fall` of them were not. Then an ordinary probe follows at once. Only probes change states.
  // Returns how many checks that concerns.
  uint32_t probe_now(std::string_view pool, std::string_view backend);
  static constexpr Milliseconds kLeastHaste{25};
  static constexpr uint32_t kHasteFactor = 4;

  // Whether there are checks, and the last probe of each was not answered, or could not be sent.
  bool hears_nobody() const;

  HealthSnapshot export_state() const;

  // Gives configured checks the state they had in an earlier process; what is not configured any more is
  // left out. To be called after the first apply(), before the io_context runs.
  void import_state(const HealthSnapshot& snapshot);

  // Ends all checks. Their coroutines finish within the io_context soon after; on_change is not called any
  // more.
  void stop();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace portico
