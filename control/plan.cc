// SPDX-License-Identifier: Apache-2.0
#include "control/plan.h"

#include <algorithm>
#include <map>

namespace portico {
namespace {

template <typename T>
const T* by_name(const std::vector<T>& list, const std::string& name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const T& each) { return each.name == name; });
  return found == list.end() ? nullptr : &*found;
}

const TableContent::Pool* built_pool(const PlanSide& side, const std::string& name) {
  const uint16_t id = side.ids.pool(name);
  for (const auto& pool : side.builder.content().pools)
    if (pool.record.id == id) return &pool;
  return nullptr;
}

// Of a table of another size no slot is what it was.
double moved_part(const PlanSide& before, const PlanSide& after, const std::string& pool) {
  const auto *old = built_pool(before, pool), *next = built_pool(after, pool);
  if (old == nullptr || next == nullptr) return 1;
  if (old->lookup.size() != next->lookup.size() || old->lookup.empty())
    return old->lookup.empty() && next->lookup.empty() ? 0 : 1;
  size_t moved = 0;
  for (size_t i = 0; i < old->lookup.size(); ++i) moved += old->lookup[i] != next->lookup[i] ? 1 : 0;
  return static_cast<double>(moved) / static_cast<double>(old->lookup.size());
}

// Why a service's connections do not outlive the change; empty: they do.
std::string why_broken(const PlanSide& before, const ServiceConfig& service, const PlanSide& after) {
  const ServiceConfig* next = by_name(after.config.services, service.name);
  if (next == nullptr) return "the service is removed";
  if (before.ids.service(service) != after.ids.service(*next)) return "it becomes another service";
  for (const Endpoint& endpoint : service.listen)
    if (std::find(next->listen.begin(), next->listen.end(), endpoint) == next->listen.end())
      return "listener " + to_string(endpoint.address) + " port " + std::to_string(endpoint.port) +
             " is removed";
  if (service.mode != next->mode) return "its mode changes";
  const NatConfig &nat = before.config.nat, &next_nat = after.config.nat;
  if (service.mode != Mode::nat) return "";
  for (const Address& address : nat.addresses)
    if (std::find(next_nat.addresses.begin(), next_nat.addresses.end(), address) == next_nat.addresses.end())
      return "NAT address " + to_string(address) + " is removed";
  if (nat.first_port < next_nat.first_port || nat.last_port > next_nat.last_port) return "fewer NAT ports";
  return "";
}

ServicePlan plan_service(const PlanSide& before, const ServiceConfig& service, const PlanSide& after,
                         const Feedback& feedback) {
  ServicePlan plan{.name = service.name};
  const ServiceConfig* next = by_name(after.config.services, service.name);
  plan.change = next == nullptr ? Change::removed : *next == service ? Change::same : Change::changed;
  plan.flows = feedback.services[before.ids.service(service)].flows;
  plan.reason = why_broken(before, service, after);
  if (!plan.reason.empty()) plan.flows_broken = plan.flows;
  return plan;
}

void add_backends(const PlanSide& before, const PoolConfig& pool, const PlanSide& after,
                  const PoolConfig* next, const Feedback& feedback, PoolPlan& plan) {
  const uint16_t id = before.ids.pool(pool.name);
  for (const BackendConfig& backend : pool.backends) {
    const BackendConfig* then = next ? by_name(next->backends, backend.name) : nullptr;
    const uint16_t backend_id = before.ids.backend(pool.name, backend);
    BackendPlan line{.name = backend.name, .share_before = before.builder.share(id, backend_id)};
    line.change = then == nullptr ? Change::removed : *then == backend ? Change::same : Change::changed;
    line.flows = feedback.backends[backend_id].flows;
    const bool stays = then != nullptr && after.ids.backend(pool.name, *then) == backend_id;
    if (!stays) line.flows_broken = line.flows;
    if (then != nullptr)
      line.share_after = after.builder.share(after.ids.pool(pool.name), after.ids.backend(pool.name, *then));
    plan.backends.push_back(std::move(line));
  }
}

void add_new_backends(const PlanSide& after, const PoolConfig& pool, PoolPlan& plan) {
  for (const BackendConfig& backend : pool.backends) {
    if (by_name(plan.backends, backend.name) != nullptr) continue;
    plan.backends.push_back({.name = backend.name,
                             .change = Change::added,
                             .share_after = after.builder.share(after.ids.pool(pool.name),
                                                                after.ids.backend(pool.name, backend))});
  }
}

// What breaks in a pool: by its backends, and by the services that use it.
void sum_up(const std::vector<ServicePlan>& services, const Config& config, PoolPlan& plan) {
  uint64_t by_backends = 0, by_services = 0, all = 0;
  for (const BackendPlan& backend : plan.backends) {
    by_backends += backend.flows_broken;
    all += backend.flows;
  }
  for (const ServiceConfig& service : config.services)
    if (service.pool == plan.name) by_services += by_name(services, service.name)->flows_broken;
  plan.most_broken = std::min(all, by_backends + by_services);
  plan.broken_exactly = by_backends == 0 || by_services == 0 || by_backends == all || by_services == all;
}

}  // namespace

const char* to_string(Change change) {
  switch (change) {
    case Change::same:
      return "same";
    case Change::added:
      return "added";
    case Change::removed:
      return "removed";
    case Change::changed:
      return "changed";
  }
  return "unknown";
}

Plan make_plan(const PlanSide& before, const PlanSide& after, const Feedback& feedback) {
  Plan plan;
  for (const ServiceConfig& service : before.config.services)
    plan.services.push_back(plan_service(before, service, after, feedback));
  for (const ServiceConfig& service : after.config.services)
    if (by_name(before.config.services, service.name) == nullptr)
      plan.services.push_back({.name = service.name, .change = Change::added});
  for (const PoolConfig& pool : before.config.pools) {
    const PoolConfig* next = by_name(after.config.pools, pool.name);
    PoolPlan line{.name = pool.name};
    line.change = next == nullptr ? Change::removed : *next == pool ? Change::same : Change::changed;
    if (next != nullptr) line.moved = moved_part(before, after, pool.name);
    add_backends(before, pool, after, next, feedback, line);
    if (next != nullptr) add_new_backends(after, *next, line);
    sum_up(plan.services, before.config, line);
    plan.pools.push_back(std::move(line));
  }
  for (const PoolConfig& pool : after.config.pools) {
    if (by_name(before.config.pools, pool.name) != nullptr) continue;
    PoolPlan line{.name = pool.name, .change = Change::added};
    add_new_backends(after, pool, line);
    plan.pools.push_back(std::move(line));
  }
  for (const PoolPlan& pool : plan.pools) {
    plan.most_broken += pool.most_broken;
    plan.broken_exactly = plan.broken_exactly && pool.broken_exactly;
    for (const BackendPlan& backend : pool.backends) plan.flows += backend.flows;
  }
  return plan;
}

}  // namespace portico
