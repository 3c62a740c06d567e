// SPDX-License-Identifier: Apache-2.0
// What people are told of zones and backups.
#pragma once

#include <cstdint>
#include <string>

#include "control/config.h"
#include "control/pool_rules.h"

namespace portico {

// Why connections of the pool go beyond the primary backends of the balancer's own zone; empty: they do not.
// `local_percent`: as TierChoice says.
std::string tier_text(const Config& config, const PoolConfig& pool, const PoolDecision& decision,
                      uint32_t local_percent);

// Why a backend gets no connections though it could; empty: it is not on standby.
std::string standby_text(const Config& config, const BackendConfig& backend, const PoolDecision& decision,
                         uint16_t id);

}  // namespace portico
