// SPDX-License-Identifier: Apache-2.0
#include "contract/validate.h"

#include <algorithm>
#include <array>
#include <bitset>

#include "contract/reply_endpoints.h"
#include "contract/table_file.h"
#include "contract/validate_records.h"

namespace portico {

namespace {

using BlockPtr = std::shared_ptr<const Block>;

// What has passed before, to be skipped. Blocks are immutable: the same address is the same content.
class KnownGood {
 public:
  explicit KnownGood(const Snapshot* snapshot) : snapshot_(snapshot) {
    by_id_.fill(nullptr);
    if (snapshot)
      for (const Snapshot::Pool& pool : snapshot->pools) by_id_[pool.pool().id] = &pool;
  }

  // True if each of the blocks is the very one that passed.
  template <typename... Member>
  bool has(const Snapshot& now, Member... member) const {
    return snapshot_ && ((now.*member == snapshot_->*member) && ...);
  }
  bool has(const Snapshot::Pool& now) const {
    const uint16_t id = now.record->ref.id;
    const Snapshot::Pool* then = id < kMaxPools ? by_id_[id] : nullptr;
    return then && now.record == then->record && now.backends == then->backends &&
           now.lookup == then->lookup && now.fallback == then->fallback;
  }

 private:
  const Snapshot* snapshot_;
  std::array<const Snapshot::Pool*, kMaxPools> by_id_;
};

Complaint check_counts(const Snapshot& s) {
  for (const BlockPtr* block : fixed_blocks(s)) {
    const BlockRef& ref = (*block)->ref;
    const auto kind = static_cast<BlockKind>(ref.kind);
    if (ref.count > max_records(kind))
      return std::string(to_string(kind)) + ": " + std::to_string(ref.count) + " records are above " +
             std::to_string(max_records(kind));
  }
  if (s.settings->ref.count != 1) return "settings: not exactly one record";
  if (s.pools.size() > kMaxPools) return "pools: more than " + std::to_string(kMaxPools);
  return std::nullopt;
}

// Workers and queues: a queue that no worker polls would be a silent drop.
Complaint check_queues(const SettingsRecord& settings, std::span<const PortRecord> ports) {
  for (size_t i = 0; i < ports.size(); ++i)
    if (settings.workers != 0 && ports[i].queues != 0 && ports[i].queues != settings.workers)
      return complain(
          "ports", i, "queues",
          std::to_string(ports[i].queues) + " queues for " + std::to_string(settings.workers) + " workers");
  return std::nullopt;
}

Complaint check_pool_blocks(const Snapshot::Pool& pool) {
  const unsigned id = pool.record->ref.id;
  const auto backends = pool.backends->records<BackendRecord>();
  if (auto complaint = check_pool(pool.pool(), id, backends.size())) return complaint;
  if (auto complaint = check_backends(backends, id)) return complaint;
  const auto slots = [](const BlockPtr& block) {
    return block ? block->records<uint16_t>() : std::span<const uint16_t>{};
  };
  if (auto complaint = check_lookup(slots(pool.lookup), pool.pool(), backends)) return complaint;
  return check_fallback(slots(pool.fallback), slots(pool.lookup), pool.pool(), backends);
}

// Each pool by itself, then what pools have in common: ids, next hops, limits.
Complaint check_pools(const Snapshot& s, const KnownGood& known) {
  std::bitset<kMaxBackends> taken;
  uint64_t slots = 0;
  int last_id = -1;
  for (const Snapshot::Pool& pool : s.pools) {
    const unsigned id = pool.record->ref.id;
    if (static_cast<int>(id) <= last_id || id >= kMaxPools)
      return complain(of_pool("pool", id), 0, "id", "out of range, not in ascending order, or twice");
    last_id = static_cast<int>(id);
    if (!known.has(pool))
      if (auto complaint = check_pool_blocks(pool)) return complaint;
    slots += pool.lookup ? pool.lookup->ref.count : 0;
    const auto backends = pool.backends->records<BackendRecord>();
    for (size_t i = 0; i < backends.size(); ++i) {
      const BackendRecord& b = backends[i];
      const auto bad = [&](std::string_view field, std::string_view what) {
        return complain(of_pool("backends", id), i, field, what);
      };
      if (taken[b.id]) return bad("id", std::to_string(b.id) + " is another pool's backend, too");
      taken[b.id] = true;
      if (b.next_hop_v4 != kNone && b.next_hop_v4 >= s.next_hops->ref.count)
        return bad("next_hop_v4", "there is no next hop " + std::to_string(b.next_hop_v4));
      if (b.next_hop_v6 != kNone && b.next_hop_v6 >= s.next_hops->ref.count)
        return bad("next_hop_v6", "there is no next hop " + std::to_string(b.next_hop_v6));
    }
  }
  if (slots > kMaxLookupSlots)
    return "lookup: more than " + std::to_string(kMaxLookupSlots) + " slots in all";
  return std::nullopt;
}

// Services name pools and access lists that exist. `access` is sorted by list.
Complaint check_service_references(const Snapshot& s) {
  std::bitset<kMaxPools> pools;
  for (const Snapshot::Pool& pool : s.pools) pools[pool.record->ref.id] = true;
  const auto services = s.services->records<ServiceRecord>();
  const auto access = s.access->records<AccessRecord>();
  for (size_t i = 0; i < services.size(); ++i) {
    const ServiceRecord& service = services[i];
    if (service.pool >= kMaxPools || !pools[service.pool])
      return complain("services", i, "pool", "there is no pool " + std::to_string(service.pool));
    if (service.access_list != kNone &&
        !std::ranges::binary_search(access, service.access_list, {}, &AccessRecord::list))
      return complain("services", i, "access_list",
                      "there is no access list " + std::to_string(service.access_list));
  }
  return std::nullopt;
}

Complaint check_listener_references(const Snapshot& s) {
  std::bitset<kMaxServices> services;
  for (const ServiceRecord& service : s.services->records<ServiceRecord>()) services[service.id] = true;
  const auto listeners = s.listeners->records<ListenerRecord>();
  for (size_t i = 0; i < listeners.size(); ++i)
    if (listeners[i].service >= kMaxServices || !services[listeners[i].service])
      return complain("listeners", i, "service",
                      "there is no service " + std::to_string(listeners[i].service));
  return std::nullopt;
}

// A NAT address that also listens could not tell replies from clients. Listeners are sorted by address.
Complaint check_nat_is_apart(const Snapshot& s) {
  const auto nat = s.nat->records<NatRecord>();
  const auto listeners = s.listeners->records<ListenerRecord>();
  for (size_t i = 0; i < nat.size(); ++i)
    if (std::ranges::binary_search(listeners, nat[i].address, {}, &ListenerRecord::address))
      return complain("nat", i, "address", "a service listens on it, too");
  return std::nullopt;
}

Complaint check_reply_endpoints(const Snapshot& s) {
  if (const uint64_t count = count_reply_endpoints(s); count > kMaxReplyEndpoints)
    return "services: " + std::to_string(count) + " backend ports behind dnat are above " +
           std::to_string(kMaxReplyEndpoints);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> validate(const Snapshot& s, const Snapshot* known_good) {
  const KnownGood known(known_good);
  const size_t ports = s.ports->ref.count, next_hops = s.next_hops->ref.count;
  Complaint complaint = check_counts(s);
  const auto check = [&](bool passed_before, auto rule) {
    if (!complaint && !passed_before) complaint = rule();
  };
  // Blocks by themselves; references between them only after that, so that they may trust ids and order.
  check(known.has(s, &Snapshot::settings),
        [&] { return check_settings(s.settings->records<SettingsRecord>()[0]); });
  check(known.has(s, &Snapshot::ports), [&] { return check_ports(s.ports->records<PortRecord>()); });
  check(known.has(s, &Snapshot::services),
        [&] { return check_services(s.services->records<ServiceRecord>()); });
  check(known.has(s, &Snapshot::listeners),
        [&] { return check_listeners(s.listeners->records<ListenerRecord>()); });
  check(known.has(s, &Snapshot::access), [&] { return check_access(s.access->records<AccessRecord>()); });
  check(known.has(s, &Snapshot::nat), [&] { return check_nat(s.nat->records<NatRecord>()); });
  check(known.has(s, &Snapshot::next_hops, &Snapshot::ports),
        [&] { return check_next_hops(s.next_hops->records<NextHopRecord>(), ports); });
  check(known.has(s, &Snapshot::routes, &Snapshot::next_hops, &Snapshot::ports),
        [&] { return check_routes(s.routes->records<RouteRecord>(), next_hops, ports); });
  check(known.has(s, &Snapshot::vlans, &Snapshot::ports),
        [&] { return check_vlans(s.vlans->records<VlanRecord>(), ports); });
  check(known.has(s, &Snapshot::own), [&] { return check_own(s.own->records<OwnRecord>()); });
  check(false, [&] { return check_pools(s, known); });
  check(false, [&] {
    return check_queues(s.settings->records<SettingsRecord>()[0], s.ports->records<PortRecord>());
  });
  check(false, [&] { return check_service_references(s); });
  check(false, [&] { return check_listener_references(s); });
  check(false, [&] { return check_nat_is_apart(s); });
  check(false, [&] { return check_reply_endpoints(s); });
  return complaint;
}

}  // namespace portico
