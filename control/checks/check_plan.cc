// SPDX-License-Identifier: Apache-2.0
#include "control/checks/check_plan.h"

namespace portico {
namespace {

struct Families {
  bool v4 = false, v6 = false;

  void add(const Address& address) { (address.is_v4() ? v4 : v6) = true; }
  bool any_of(const BackendConfig& backend) const { return (v4 && backend.v4) || (v6 && backend.v6); }
};

Families families_to_check(const Config& config, const PoolConfig& pool, const BackendConfig& backend,
                           uint16_t port) {
  Families by_port, by_pool;
  for (const ServiceConfig& service : config.services) {
    if (service.pool != pool.name) continue;
    for (const Endpoint& listener : service.listen) {
      by_pool.add(listener.address);
      const uint16_t backend_port = service.backend_port != 0 ? service.backend_port : listener.port;
      if (backend_port == port) by_port.add(listener.address);
    }
  }
  if (by_port.any_of(backend)) return by_port;
  if (by_pool.any_of(backend)) return by_pool;
  return {true, true};
}

void plan_one(const Config& config, const PoolConfig& pool, const BackendConfig& backend,
              const CheckConfig& check, std::vector<PlannedCheck>& plan) {
  const auto own_target = backend.check_addresses.find(check.name);
  if (own_target != backend.check_addresses.end()) {
    Endpoint target = own_target->second;
    if (target.port == 0) target.port = check.port;
    plan.push_back({&check, target, false});
    return;
  }
  if (backend.check_address) {
    plan.push_back({&check, {*backend.check_address, check.port}, false});
    return;
  }
  const Families families = families_to_check(config, pool, backend, check.port);
  if (families.v4 && backend.v4) plan.push_back({&check, {*backend.v4, check.port}, true});
  if (families.v6 && backend.v6) plan.push_back({&check, {*backend.v6, check.port}, true});
}

}  // namespace

std::vector<PlannedCheck> plan_checks(const Config& config, const PoolConfig& pool,
                                      const BackendConfig& backend) {
  std::vector<PlannedCheck> plan;
  for (const CheckConfig& check : pool.checks) plan_one(config, pool, backend, check, plan);
  return plan;
}

}  // namespace portico
