// SPDX-License-Identifier: Apache-2.0
#include "control/dnat.h"

#include <algorithm>

namespace portico {

namespace {

// Calls f(service, listener, pool) for each listener in mode dnat.
template <typename F>
void for_each_listener(const Config& config, const F& f) {
  for (const ServiceConfig& service : config.services) {
    const auto pool = std::ranges::find(config.pools, service.pool, &PoolConfig::name);
    if (service.mode != Mode::dnat || pool == config.pools.end()) continue;
    for (const Endpoint& listener : service.listen) f(service, listener, *pool);
  }
}

}  // namespace

size_t count_dnat_uses(const Config& config) {
  size_t count = 0;
  for_each_listener(config, [&](const ServiceConfig&, const Endpoint& listener, const PoolConfig& pool) {
    count += static_cast<size_t>(std::ranges::count_if(pool.backends, [&](const BackendConfig& backend) {
      return (listener.address.is_v4() ? backend.v4 : backend.v6).has_value();
    }));
  });
  return count;
}

std::vector<DnatUse> dnat_uses(const Config& config) {
  std::vector<DnatUse> uses;
  for_each_listener(config,
                    [&](const ServiceConfig& service, const Endpoint& listener, const PoolConfig& pool) {
                      const uint16_t port = service.backend_port != 0 ? service.backend_port : listener.port;
                      for (const BackendConfig& backend : pool.backends)
                        if (const auto& address = listener.address.is_v4() ? backend.v4 : backend.v6)
                          uses.push_back({&service, listener, {*address, port}});
                    });
  return uses;
}

std::vector<Endpoint> dnat_backends(const Config& config) {
  std::vector<Endpoint> backends;
  for (const DnatUse& use : dnat_uses(config)) backends.push_back(use.backend);
  std::ranges::sort(backends);
  backends.erase(std::unique(backends.begin(), backends.end()), backends.end());
  return backends;
}

}  // namespace portico
