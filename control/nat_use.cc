// SPDX-License-Identifier: Apache-2.0
#include "control/nat_use.h"

#include <algorithm>

namespace portico {
namespace {

// NAT ports of one endpoint of the pool's backends; of the scarcer family if services lead there from both.
uint64_t ports_of_endpoint(const Config& config, const PoolConfig& pool) {
  const uint64_t per_address = config.nat.last_port - config.nat.first_port + 1u;
  uint64_t v4 = 0, v6 = 0;
  for (const Address& address : config.nat.addresses) (address.is_v4() ? v4 : v6) += per_address;
  bool uses_v4 = false, uses_v6 = false;
  for (const auto& service : config.services) {
    if (service.pool != pool.name || service.mode != Mode::nat) continue;
    for (const auto& listen : service.listen) (listen.address.is_v4() ? uses_v4 : uses_v6) = true;
  }
  if (uses_v4 && uses_v6) return std::min(v4, v6);
  return uses_v4 ? v4 : uses_v6 ? v6 : 0;
}

}  // namespace

NatUse nat_use(const Config& config, const Ids& ids, const Feedback& feedback) {
  NatUse fullest;
  for (const auto& pool : config.pools) {
    const uint64_t total = ports_of_endpoint(config, pool);
    for (const auto& backend : pool.backends) {
      const uint16_t id = ids.backend(pool.name, backend);
      if (id == kNone || total == 0) continue;
      const uint64_t used = std::min(feedback.backends[id].flows, total);
      if (fullest.total == 0 || used * fullest.total > fullest.used * total)
        fullest = {used, total, pool.name + "/" + backend.name};
    }
  }
  return fullest;
}

}  // namespace portico
