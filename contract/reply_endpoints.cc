// SPDX-License-Identifier: Apache-2.0
#include "contract/reply_endpoints.h"

#include <algorithm>
#include <array>
#include <set>
#include <tuple>

namespace portico {

namespace {

// Calls f(pool, port, family) once for each port of a pool's backends that `dnat` services of the family use.
template <typename F>
void for_each_used_port(const Snapshot& snapshot, const F& f) {
  std::array<const ServiceRecord*, kMaxServices> by_id{};
  bool has_any = false;
  for (const auto& service : snapshot.services->records<ServiceRecord>()) {
    if (static_cast<Mode>(service.mode) != Mode::dnat) continue;
    by_id[service.id] = &service;
    has_any = true;
  }
  if (!has_any) return;
  std::array<const Snapshot::Pool*, kMaxPools> pools{};
  for (const auto& pool : snapshot.pools) pools[pool.pool().id] = &pool;
  std::set<std::tuple<uint16_t, uint16_t, Family>> used;
  for (const auto& listener : snapshot.listeners->records<ListenerRecord>()) {
    const ServiceRecord* const service = by_id[listener.service];
    if (service == nullptr) continue;
    const uint16_t port = service->backend_port != 0 ? service->backend_port : listener.port;
    used.emplace(service->pool, port, listener.address.family());
  }
  for (const auto& [pool, port, family] : used) f(*pools[pool], port, family);
}

const Address& address_of(const BackendRecord& backend, Family family) {
  return family == Family::v4 ? backend.address_v4 : backend.address_v6;
}

}  // namespace

uint64_t count_reply_endpoints(const Snapshot& snapshot) {
  uint64_t count = 0;
  for_each_used_port(
      snapshot, [&](const Snapshot::Pool& pool, uint16_t, Family) { count += pool.backends->ref.count; });
  return count;
}

std::vector<ReplyEndpoint> reply_endpoints(const Snapshot& snapshot) {
  std::vector<ReplyEndpoint> endpoints;
  for_each_used_port(snapshot, [&](const Snapshot::Pool& pool, uint16_t port, Family family) {
    for (const auto& backend : pool.backends->records<BackendRecord>())
      if (const Address& address = address_of(backend, family); !address.is_none())
        endpoints.push_back({address, port});
  });
  std::ranges::sort(endpoints);
  endpoints.erase(std::unique(endpoints.begin(), endpoints.end()), endpoints.end());
  return endpoints;
}

}  // namespace portico
