// SPDX-License-Identifier: Apache-2.0
#include "control/pool_tiers.h"

#include <algorithm>
#include <chrono>

namespace portico {
namespace {

// Weight of backends: of all whose state is known, and of those that can take new flows. Drained and held
// ones are missing: what they carried must be carried by others.
struct Sum {
  uint64_t all = 0, usable = 0;

  bool is_below(uint32_t percent) const { return usable == 0 || usable * 100 < uint64_t{percent} * all; }
};

template <typename Predicate>
Sum sum_of(const std::vector<Candidate>& backends, Predicate is_meant) {
  Sum sum;
  for (const Candidate& b : backends) {
    if (!is_meant(b) || !b.health.known) continue;
    sum.all += b.weight;
    if (is_usable(b)) sum.usable += b.weight;
  }
  return sum;
}

// Whether other zones help the own one, which has `local`.
void follow_spill(const PoolConfig& pool, const Sum& local, uint64_t now_ns, TierMemory::Spill& spill,
                  TierChoice& choice) {
  if (local.is_below(pool.spill_below_percent)) {
    spill = {.is_on = true, .well_since_ns = std::nullopt};
    return;
  }
  if (!spill.is_on) return;
  if (!spill.well_since_ns) spill.well_since_ns = now_ns;
  const auto hold_ns = static_cast<uint64_t>(std::chrono::nanoseconds(pool.spill_hold).count());
  const uint64_t end_ns = *spill.well_since_ns + hold_ns;
  if (now_ns >= end_ns)
    spill = {};
  else
    choice.next_change_ns = std::min(end_ns, choice.next_change_ns.value_or(end_ns));
}

// Chooses among the primary ones, or among the backups. True if other zones help.
bool choose_among(const PoolConfig& pool, const std::vector<Candidate>& backends, bool is_backup,
                  uint64_t now_ns, TierMemory::Spill& spill, TierChoice& choice) {
  const Sum local =
      sum_of(backends, [&](const Candidate& b) { return b.is_backup == is_backup && b.is_local; });
  const auto is_elsewhere = [&](const Candidate& b) {
    return b.is_backup == is_backup && !b.is_local && b.weight > 0;
  };
  if (local.all == 0 || std::ranges::none_of(backends, is_elsewhere))
    spill = {};
  else
    follow_spill(pool, local, now_ns, spill, choice);
  if (!is_backup && local.all > 0)
    choice.local_percent = static_cast<uint32_t>(local.usable * 100 / local.all);
  for (const Candidate& b : backends) {
    if (b.is_backup != is_backup || !is_usable(b)) continue;
    const bool is_chosen = b.is_local || local.all == 0 || spill.is_on;
    (is_chosen ? choice.chosen : choice.standby).insert(b.id);
  }
  return spill.is_on;
}

}  // namespace

TierChoice choose_tiers(const PoolConfig& pool, const std::vector<Candidate>& backends, uint64_t now_ns,
                        TierMemory& memory) {
  TierChoice choice;
  choice.spills = choose_among(pool, backends, /*is_backup=*/false, now_ns, memory.primary, choice);
  const Sum primary = sum_of(backends, [](const Candidate& b) { return !b.is_backup; });
  const bool has_backups =
      std::ranges::any_of(backends, [](const Candidate& b) { return b.is_backup && is_usable(b); });
  choice.uses_backups = has_backups && primary.is_below(pool.backup_below_percent);
  if (choice.uses_backups) {
    choose_among(pool, backends, /*is_backup=*/true, now_ns, memory.backup, choice);
    return choice;
  }
  memory.backup = {};
  for (const Candidate& b : backends)
    if (b.is_backup && is_usable(b)) choice.standby.insert(b.id);
  return choice;
}

TierMemory recover_tiers(const std::vector<Candidate>& backends, const std::set<uint16_t>& holders) {
  TierMemory memory;
  for (const Candidate& b : backends)
    if (!b.is_local && holders.contains(b.id)) (b.is_backup ? memory.backup : memory.primary).is_on = true;
  return memory;
}

}  // namespace portico
