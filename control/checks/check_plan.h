// SPDX-License-Identifier: Apache-2.0
// Which targets a configuration's checks go to: pure.
#pragma once

#include <vector>

#include "control/config.h"

namespace portico {

struct PlannedCheck {
  const CheckConfig* check;
  Endpoint target;
  bool own_address;  // the target is the backend itself, not a check_address
};

// The checks of one backend in the order of its pool's checks. Those without an address of their own go to
// the backend's address of each family in which a service of the pool uses the checked port; if none does, in
// which any service of the pool listens; failing that, to all its addresses. `check` points into `config`.
std::vector<PlannedCheck> plan_checks(const Config& config, const PoolConfig& pool,
                                      const BackendConfig& backend);

}  // namespace portico
