// SPDX-License-Identifier: Apache-2.0
// The rules of a pool, as pure functions: which backends take new flows, and what happens to the flows of
// those that do not. Order of the rules: a balancer that is cut off (isolation.h) goes on as it did; healthy
// active backends; below `min_healthy` all active ones (panic), where a damped one counts as healthy only if
// no other is; with none of these, `all_down`, which is not said of backends that no check has a result of.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "contract/layout.h"
#include "control/config.h"
#include "control/pool_candidate.h"
#include "control/pool_tiers.h"

namespace portico {

enum class PoolState : uint8_t {
  normal,     // healthy backends take the flows
  panic,      // too few are healthy: all active ones do
  untested,   // no check has a result yet and nothing is known from before: all do
  kept_last,  // none is usable: the last ones that were, do
  cut_off,    // nothing is known of any: the last ones that were usable, do
  reset,      // none is usable: clients get RST
  drop,       // none is usable: packets are dropped
};

// "normal", "panic", "untested", "kept_last", "cut_off", "reset" or "drop".
const char* to_string(PoolState state);

struct PoolDecision {
  PoolState state = PoolState::normal;
  std::set<uint16_t> usable;                  // backends that get slots
  std::set<uint16_t> standby;                 // that could, and wait for zones and primary ones to fail
  bool spills = false, uses_backups = false;  // state normal: as TierChoice says

  PoolDisposition disposition() const;
};

// For how long before a pool's last failure a backend must have been without slots to be left out by
// keep-last, in ns: twice what the pool's slowest check may take to see a failure. Backends that fail by one
// cause are seen to fail this far apart, and to return, too.
uint64_t keep_last_window_ns(const PoolConfig& pool);

// What keep-last keeps: the backends that were usable shortly before a pool lost the last one. Which of
// several that fail together falls last is an accident, and must not send everything there.
class LastUsable {
 public:
  // Takes over from an earlier control at `now_ns` (CLOCK_MONOTONIC): the ids that hold slots, and those that
  // hold none, but whose flows nothing happens to.
  void recover(std::set<uint16_t> ids, const std::set<uint16_t>& spared, uint64_t now_ns);

  // From `now_ns` (never less than before) on, `usable` takes the flows; empty: the pool is not normal.
  void note(const std::set<uint16_t>& usable, uint64_t now_ns, uint64_t window_ns);

  // While the pool is normal: what would be kept if it lost all at `now_ns`. Else what is kept, as it was
  // when that happened.
  std::set<uint16_t> kept(uint64_t now_ns, uint64_t window_ns) const;

  // When a backend last took new flows, usable or kept, before it took no more; nullopt: longer than
  // `window_ns` before the last note().
  std::optional<uint64_t> left_ns(uint16_t id) const;

 private:
  std::set<uint16_t> current_;         // empty: not normal
  std::set<uint16_t> kept_;            // while not normal
  std::map<uint16_t, uint64_t> lost_;  // who was usable before, and until when, as far as keep-last cares
  std::map<uint16_t, uint64_t> left_;  // who took flows before, and until when
  // Who was kept, and did not return with the others: once it counts as lost then, not again and again.
  std::set<uint16_t> late_;
};

// `last_usable`: what keep-last keeps, as LastUsable says. If none of them may be used any
// more (they were removed, weighed 0, drained or held), keep-last falls back to every active backend, then to
// drained ones: a guess is better than a refusal. Held backends are never used. One whose checks have no
// result yet gets no flows beside others, and does not count for `min_healthy`.
// `tiers`: what choose_tiers() chose of them. Usable backups go before panic.
PoolDecision decide_pool(const PoolConfig& pool, const std::vector<Candidate>& backends,
                         const std::set<uint16_t>& last_usable, const TierChoice& tiers);

// The same for a balancer that is cut off: whatever `all_down` and `min_healthy` say. `last_usable`: what
// keep-last would have kept when it began.
PoolDecision decide_cut_off(const std::vector<Candidate>& backends, const std::set<uint16_t>& last_usable);

struct FlowDecision {
  BackendDisposition disposition = BackendDisposition::forward;
  std::vector<uint16_t> reset_ports;       // ascending, at most kMaxResetPorts
  std::optional<uint64_t> next_change_ns;  // CLOCK_MONOTONIC: when the decision changes by itself
};

// The rows of answers that a pool's backends gave.
class Answers {
 public:
  explicit Answers(const std::vector<Candidate>& backends);

  // Whether some probe is known to have been answered both before and after `time_ns`, without silence
  // between.
  bool surround(int64_t time_ns) const;

 private:
  // Of the rows that begin at the first or earlier: when the longest-lasting of them ends. Ascending.
  std::vector<std::pair<int64_t, int64_t>> rows_;
};

// Whether this host may be what hears nothing: only silence speaks against the backend, and the pool's
// answers do not surround that silence.
bool is_in_doubt(const Candidate& backend, const Answers& answers);

// A doubt that lasts until the balancer is connected again: somebody else looks again then.
inline constexpr uint64_t kUntilConnected = std::numeric_limits<uint64_t>::max();

// What happens to a backend's existing flows. `service_ports`: backend ports of the pool's services. A
// refused port resets its own flows, an unreachable host all of them; a failure of something else lets them
// finish for `reset_after`. Nothing happens before `doubt_until_ns` (CLOCK_MONOTONIC), for as long as the
// caller finds that the backend is_in_doubt().
FlowDecision decide_flows(const PoolConfig& pool, const Candidate& backend, const PoolDecision& decision,
                          const std::set<uint16_t>& service_ports, uint64_t now_ns,
                          std::optional<uint64_t> doubt_until_ns = std::nullopt);

}  // namespace portico
