// SPDX-License-Identifier: Apache-2.0
// Which of a pool's backends that can take new flows do: those of the balancer's own zone before those of
// others, and `backup` ones when too few primary ones are left. Pure; docs/zones.md has the rules.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "control/config.h"
#include "control/pool_candidate.h"

namespace portico {

// What of the past a choice depends on: other zones go on helping until the own one has had enough usable
// backends for `spill_hold`.
struct TierMemory {
  struct Spill {
    bool is_on = false;
    std::optional<uint64_t> well_since_ns;  // CLOCK_MONOTONIC
  };
  Spill primary, backup;
};

struct TierChoice {
  std::set<uint16_t> chosen;
  std::set<uint16_t> standby;    // could take new flows as well, and do not
  bool spills = false;           // the own zone has primary backends, and other zones' are used, too
  bool uses_backups = false;     // too few primary ones are usable, and a backup is
  uint32_t local_percent = 100;  // of the own zone's primary weight: what is usable
  std::optional<uint64_t> next_change_ns;  // CLOCK_MONOTONIC: when the choice changes by itself
};

// Chooses among the usable backends at `now_ns` (CLOCK_MONOTONIC). A pool without zones and backups, or a
// balancer without zone, has them all chosen but for backups.
TierChoice choose_tiers(const PoolConfig& pool, const std::vector<Candidate>& backends, uint64_t now_ns,
                        TierMemory& memory);

// What an earlier control chose, by the backends that hold slots: other zones may have been helping.
TierMemory recover_tiers(const std::vector<Candidate>& backends, const std::set<uint16_t>& holders);

}  // namespace portico
