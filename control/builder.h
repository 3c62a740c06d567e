// SPDX-License-Identifier: Apache-2.0
// Builds the table's content: configuration, ids, health, operator states and next hops in, records out. A
// pure function of these but for what `keep-last` must remember and for caches that only save time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "contract/snapshot.h"
#include "control/config.h"
#include "control/ids.h"
#include "control/next_hops.h"
#include "control/operator_state.h"
#include "control/pool_rules.h"

namespace portico {

// All that a generation is made of. References live as long as the call to build().
struct BuildInput {
  const Config& config;
  const Ids& ids;
  const OperatorState& operators;
  const Routing& routing;
  std::function<BackendView(const std::string& pool, const std::string& backend)> health;
  uint64_t config_version = 0;
  uint64_t now_ns = 0;  // CLOCK_MONOTONIC
  // The pools whose backends' health has changed since the last build(), if nothing else has but next hops'
  // addresses and routes: the others stay as they are. Null: anything may have changed.
  const std::set<std::string>* changed_pools = nullptr;
  int64_t now_realtime_ms = 0;  // CLOCK_REALTIME, of the same moment as now_ns
  bool is_cut_off = false;      // checks say nothing: what was usable stays, flows of the silent ones stay
  bool is_returning = false;    // it was so until a moment ago: the same in pools of which none is healthy
};

// A backend's weight: an operator's, else the configuration's.
uint32_t weight_of(const OperatorState& operators, const std::string& pool, const BackendConfig& backend);

class Builder {
 public:
  // Takes over what the running table says of pools at `now_ns`, so that keep-last and doubts continue.
  void recover(const Snapshot& snapshot, uint64_t now_ns);

  // The content of the next generation. Valid until the next call.
  const TableContent& build(const BuildInput& input);

  // CLOCK_MONOTONIC: when the content changes by itself, because flows that may finish no longer may.
  std::optional<uint64_t> next_change_ns() const;

  // A hash of the content but for config_version: the same hash is the same table.
  uint64_t content_hash() const;

  // What was decided for a pool; for status. nullptr: never built.
  const PoolDecision* decision(uint16_t pool) const;
  // The usable part of the own zone's weight, in percent; 100 without zones.
  uint32_t local_percent(uint16_t pool) const;
  // A backend's part of its pool's look-up table, 0..1. Counted when the look-up table was built.
  double share(uint16_t pool, uint16_t backend) const;
  // How much of its weight a backend that returned has so far, 0..1; 1: all.
  double ramp(uint16_t pool, uint16_t backend) const;
  // As the last build() returned it.
  const TableContent& content() const { return content_; }

 private:
  // What a lookup table is a function of.
  struct Signature {
    std::vector<std::tuple<std::string, uint16_t, uint32_t>> members;  // name, id, weight
    uint32_t size = 0;
    uint64_t key[2] = {0, 0};
    bool operator==(const Signature&) const = default;
  };
  struct PoolMemory {
    LastUsable last_usable;
    std::optional<std::set<uint16_t>> kept;  // while the balancer is cut off, or returns
    PoolDecision decision;
    std::optional<TierMemory> tiers;  // nullopt: nothing was decided yet by this control
    uint32_t local_percent = 100;     // as TierChoice says
    Signature signature;              // of the pool's look-up table in content_
    uint8_t fallback_columns = 0;
    std::vector<Signature> fallback;     // of its fallbacks: the current set's and those of earlier ones
    std::map<uint16_t, uint32_t> slots;  // of that, by backend
    std::optional<uint64_t> next_change_ns;
    std::set<uint16_t> usable_before;    // while the pool was last normal; empty: never
    std::set<uint16_t> standby_before;   // at the last build
    std::map<uint16_t, uint64_t> ramps;  // backends in slow start, since when (CLOCK_MONOTONIC)
    std::map<uint16_t, uint32_t> steps;  // of kRampSteps that they have

    void change_at(uint64_t time_ns) {
      if (!next_change_ns || time_ns < *next_change_ns) next_change_ns = time_ns;
    }
  };

  void build_all(const BuildInput& input);
  void build_changed(const BuildInput& input);
  void build_pool(const BuildInput& input, const PoolConfig& pool, TableContent::Pool& built);
  PoolDecision decide(const BuildInput& input, const PoolConfig& pool, const std::vector<Candidate>& all,
                      PoolMemory& memory);
  void follow_ramps(const PoolConfig& pool, uint64_t now_ns, PoolMemory& memory);
  void build_lookup_of(const BuildInput& input, const PoolConfig& pool, const PoolDecision& decision,
                       TableContent::Pool& built);
  void build_fallback_of(const BuildInput& input, const PoolConfig& pool, TableContent::Pool& built);
  void add_retired_pools(const BuildInput& input);

  TableContent content_;
  std::map<uint16_t, PoolMemory> pools_;  // by pool id
};

}  // namespace portico
