// SPDX-License-Identifier: Apache-2.0
#include "control/tier_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/config_text.h"

namespace portico {

std::string tier_text(const Config& config, const PoolConfig& pool, const PoolDecision& decision,
                      uint32_t local_percent) {
  std::string text;
  if (decision.spills) {
    const uint32_t least = std::max(pool.spill_below_percent, 1U);
    text = fmt::format("zone {} has {}% of its weight, {}: other zones take connections, too", config.zone,
                       local_percent,
                       local_percent < least ? fmt::format("less than {}%", least)
                                             : "but not for " + format_duration(pool.spill_hold) + " yet");
  }
  if (!decision.uses_backups) return text;
  if (!text.empty()) text += "; ";
  if (pool.backup_below_percent == 0) return text + "no primary backend is usable: backups take connections";
  return text +
         fmt::format("less than {}% of the primary backends' weight is usable: backups take connections",
                     pool.backup_below_percent);
}

std::string standby_text(const Config& config, const BackendConfig& backend, const PoolDecision& decision,
                         uint16_t id) {
  if (!decision.standby.contains(id)) return "";
  if (backend.backup && !decision.uses_backups) return "backup: enough primary backends are usable";
  return fmt::format("zone {}: zone {} has enough of its own", backend.zone, config.zone);
}

}  // namespace portico
