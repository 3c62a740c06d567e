// SPDX-License-Identifier: Apache-2.0
#include "dataplane/table.h"

#include <endian.h>

#include <algorithm>

#include "contract/reply_endpoints.h"

namespace portico {

namespace {

using Ip6 = std::array<uint64_t, 2>;

Ip6 v6_words(const Address& address) {
  Ip6 words;
  std::memcpy(words.data(), address.bytes.data(), sizeof words);
  return words;
}

// Whether the previous table was built from the very same block, so that its part can be shared.
bool same(const std::shared_ptr<const Block>& now, const Table* previous,
          std::shared_ptr<const Block> Snapshot::*block) {
  return previous != nullptr && previous->snapshot().*block == now;
}

TableBackend backend_of(const BackendRecord& r) {
  TableBackend b{};
  b.exists = 1;
  b.disposition = static_cast<BackendDisposition>(r.disposition);
  b.reset_count = r.reset_count;
  b.is_plain = b.disposition == BackendDisposition::forward && b.reset_count == 0;
  b.next_hop_v4 = r.address_v4.is_none() ? kNone : r.next_hop_v4;
  b.next_hop_v6 = r.address_v6.is_none() ? kNone : r.next_hop_v6;
  b.has_v4 = !r.address_v4.is_none();
  b.has_v6 = !r.address_v6.is_none();
  b.address_v4 = r.address_v4.is_none() ? 0 : r.address_v4.v4();
  b.address_v6 = v6_words(r.address_v6);
  for (uint32_t i = 0; i < r.reset_count; ++i) b.reset_ports[i] = htobe16(r.reset_ports[i]);
  return b;
}

// Whether one count of sources goes on as the other.
bool counts_alike(const TableService& a, const TableService& b) {
  if ((a.limits_sources | b.limits_sources) == 0) return true;
  return a.exists == b.exists && (a.source_flows != 0) == (b.source_flows != 0) &&
         a.source_prefix_v4 == b.source_prefix_v4 && a.source_prefix_v6 == b.source_prefix_v6;
}

}  // namespace

void Table::build_services() {
  services_.assign(kMaxServices, {});
  for (const auto& r : snapshot_->services->records<ServiceRecord>()) {
    const auto proxy_protocol = static_cast<ProxyProtocol>(r.proxy_protocol);
    uses_proxy_protocol_ = uses_proxy_protocol_ || proxy_protocol != ProxyProtocol::none;
    uses_dnat_ = uses_dnat_ || static_cast<Mode>(r.mode) == Mode::dnat;
    const uint8_t limits_sources = r.source_rate != 0 || r.source_flows != 0;
    limits_sources_ = limits_sources_ || limits_sources;
    services_[r.id] = {1,
                       static_cast<Mode>(r.mode),
                       static_cast<Affinity>(r.affinity),
                       r.affinity_prefix_v6,
                       r.pool,
                       r.backend_port,
                       r.access_list,
                       proxy_protocol,
                       limits_sources,
                       r.idle_timeout_ms,
                       r.source_rate,
                       r.source_burst,
                       r.source_flows,
                       r.source_prefix_v4,
                       r.source_prefix_v6,
                       {}};
  }
}

void Table::build_limits_version(const Table* previous) {
  if (previous == nullptr) return;
  const bool are_alike = std::ranges::equal(services_, previous->services_, counts_alike);
  limits_version_ = previous->limits_version_ + (are_alike ? 0 : 1);
}

void Table::build_listeners(const Table* previous) {
  const auto records = snapshot_->listeners->records<ListenerRecord>();
  for (const auto& r : records)
    uses_[translates(services_[r.service].mode)][r.address.family() == Family::v6] = true;
  if (same(snapshot_->listeners, previous, &Snapshot::listeners) &&
      std::equal(hash_key_.k, hash_key_.k + 2, previous->hash_key_.k)) {
    listeners_v4_ = previous->listeners_v4_;
    listeners_v6_ = previous->listeners_v6_;
    return;
  }
  auto v4 = std::make_shared<AddressMap<uint32_t>>(hash_key_, records.size());
  auto v6 = std::make_shared<AddressMap<Ip6>>(hash_key_, records.size());
  for (const auto& r : records) {
    if (r.address.is_v4()) {
      v4->insert({r.address.v4(), htobe16(r.port)}, r.service);
    } else {
      v6->insert({v6_words(r.address), htobe16(r.port)}, r.service);
    }
  }
  listeners_v4_ = v4;
  listeners_v6_ = v6;
}

void Table::build_locals() {
  const auto listeners = snapshot_->listeners->records<ListenerRecord>();
  const auto nat = snapshot_->nat->records<NatRecord>();
  locals_v4_ = AddressMap<uint32_t>(hash_key_, listeners.size() + nat.size());
  locals_v6_ = AddressMap<Ip6>(hash_key_, listeners.size() + nat.size());
  const auto local = [this](const Address& address) -> LocalAddress& {
    const bool is_v4 = address.is_v4();
    uint16_t i = is_v4 ? locals_v4_.find({address.v4(), 0}) : locals_v6_.find({v6_words(address), 0});
    if (i == kNone) {
      i = static_cast<uint16_t>(locals_.size());
      locals_.emplace_back();
      if (is_v4) {
        locals_v4_.insert({address.v4(), 0}, i);
      } else {
        locals_v6_.insert({v6_words(address), 0}, i);
      }
    }
    return locals_[i];
  };
  for (const auto& r : listeners) local(r.address).is_vip = 1;
  nat_map_ = AddressMap<uint32_t>(hash_key_, nat.size());
  for (const auto& r : nat) {
    const auto index = static_cast<uint16_t>(nat_.size());
    nat_.push_back({r.address, r.first_port, r.last_port});
    (r.address.is_v4() ? nat_v4_ : nat_v6_).push_back(index);
    LocalAddress& l = local(r.address);
    l.is_nat = 1;
    l.nat = index;
    nat_ranges_.push_back(uint32_t{r.last_port} << 16 | r.first_port);
    if (r.address.is_v4()) nat_map_.insert({r.address.v4(), 0}, index);
  }
}

void Table::build_dnat() {
  const auto endpoints = reply_endpoints(*snapshot_);
  dnat_v4_ = AddressMap<uint32_t>(hash_key_, endpoints.size());
  dnat_v6_ = AddressMap<Ip6>(hash_key_, endpoints.size());
  for (const auto& e : endpoints) {
    if (e.address.is_v4()) {
      dnat_v4_.insert({e.address.v4(), htobe16(e.port)}, 0);
    } else {
      dnat_v6_.insert({v6_words(e.address), htobe16(e.port)}, 0);
    }
  }
  const auto own = snapshot_->own->records<OwnRecord>();
  own_v4_ = AddressMap<uint32_t>(hash_key_, own.size());
  own_v6_ = AddressMap<Ip6>(hash_key_, own.size());
  for (const auto& r : own) {
    if (r.address.is_v4()) {
      own_v4_.insert({r.address.v4(), 0}, 0);
    } else {
      own_v6_.insert({v6_words(r.address), 0}, 0);
    }
  }
}

void Table::build_vlans() {
  vlans_.resize(snapshot_->ports->ref.count);
  for (const auto& r : snapshot_->vlans->records<VlanRecord>()) vlans_[r.port].set(r.vlan);
}

std::shared_ptr<const Table::Named> Table::name_backends(const Snapshot::Pool& pool,
                                                         const Table* previous) const {
  if (previous != nullptr) {
    const auto& before = previous->named_[pool.pool().id];
    if (before != nullptr && before->lookup == pool.lookup) return before;
  }
  auto named = std::make_shared<Named>();
  named->lookup = pool.lookup;
  if (pool.lookup != nullptr)
    for (const uint16_t backend : pool.lookup->records<uint16_t>()) named->backends.set(backend);
  return named;
}

void Table::build_pools(const Table* previous) {
  named_.assign(kMaxPools, nullptr);
  pools_.assign(kMaxPools, {nullptr, 0, PoolDisposition::drop, 0, nullptr});
  backends_.assign(kMaxBackends, {});
  for (const auto& p : snapshot_->pools) {
    const PoolRecord& r = p.pool();
    const bool usable = p.lookup != nullptr && p.lookup->ref.count > 0;
    pools_[r.id] = {usable ? p.lookup->records<uint16_t>().data() : nullptr, usable ? p.lookup->ref.count : 0,
                    static_cast<PoolDisposition>(r.disposition), 0, nullptr};
    if (p.fallback != nullptr) {
      pools_[r.id].fallback_columns = r.fallback_columns;
      pools_[r.id].fallback = p.fallback->records<uint16_t>().data();
    }
    named_[r.id] = name_backends(p, previous);
    for (const auto& b : p.backends->records<BackendRecord>()) {
      backends_[b.id] = backend_of(b);
      backends_[b.id].takes_new =
          backends_[b.id].disposition == BackendDisposition::forward && named_[r.id]->backends.test(b.id);
    }
  }
}

void Table::build_backend_addresses() {
  size_t count = 0;
  for (const auto& p : snapshot_->pools) count += p.backends->ref.count;
  backends_v4_ = AddressMap<uint32_t>(hash_key_, count);
  backends_v6_ = AddressMap<Ip6>(hash_key_, count);
  for (const auto& p : snapshot_->pools) {
    for (const auto& r : p.backends->records<BackendRecord>()) {
      if (!r.address_v4.is_none()) backends_v4_.insert({r.address_v4.v4(), 0}, r.id);
      if (!r.address_v6.is_none()) backends_v6_.insert({v6_words(r.address_v6), 0}, r.id);
    }
  }
}

void Table::build_flow_version(const Table& previous) {
  const Snapshot &now = *snapshot_, &before = previous.snapshot();
  const bool is_same = now.services == before.services && now.listeners == before.listeners &&
                       now.nat == before.nat &&
                       std::equal(now.pools.begin(), now.pools.end(), before.pools.begin(),
                                  before.pools.end(), [](const auto& a, const auto& b) {
                                    return a.pool().id == b.pool().id && a.backends == b.backends;
                                  });
  flow_version_ = previous.flow_version_ + (is_same ? 0 : 1);
}

void Table::build_next_hops(const Table* previous) {
  if (same(snapshot_->next_hops, previous, &Snapshot::next_hops)) {
    next_hops_ = previous->next_hops_;
    return;
  }
  auto hops = std::make_shared<std::vector<TableNextHop>>();
  for (const auto& r : snapshot_->next_hops->records<NextHopRecord>()) {
    TableNextHop hop{};
    std::copy_n(r.mac, 6, hop.macs.begin());
    std::copy_n(r.source_mac, 6, hop.macs.begin() + 6);
    hop.vlan = htobe16(r.vlan);
    hop.port = r.port;
    hop.mtu = r.mtu;
    hop.resolved = r.resolved;
    if (r.resolved && r.vlan == 0)
      hop.plain_mtu = static_cast<uint16_t>(std::min<uint32_t>(r.mtu, UINT16_MAX));
    hops->push_back(hop);
  }
  next_hops_ = hops;
}

void Table::build_plain_ways() {
  ways_v4_.assign(kMaxBackends, {});
  ways_v6_.assign(kMaxBackends, {});
  const auto fill_in = [&](auto& way, uint16_t next_hop, const auto& address) {
    if (next_hop == kNone) return;
    const TableNextHop& hop = (*next_hops_)[next_hop];
    way = {hop.macs, hop.port, hop.plain_mtu, address};
  };
  for (const auto& p : snapshot_->pools) {
    for (const auto& r : p.backends->records<BackendRecord>()) {
      const TableBackend& b = backends_[r.id];
      if (!b.is_plain) continue;
      fill_in(ways_v4_[r.id], b.next_hop_v4, b.address_v4);
      fill_in(ways_v6_[r.id], b.next_hop_v6, b.address_v6);
    }
  }
}

void Table::build_routes(const Table* previous) {
  const bool same_routes = same(snapshot_->routes, previous, &Snapshot::routes);
  if (previous != nullptr) {
    const bool same_hops = next_hops_ == previous->next_hops_;
    route_version_ = static_cast<uint16_t>(previous->route_version_ + (same_routes && same_hops ? 0 : 1));
    if (route_version_ == 0) route_version_ = 1;
  }
  if (same_routes) {
    routes_ = previous->routes_;
    return;
  }
  std::vector<PrefixMap::Rule> rules;
  uint32_t index = 0;
  for (const auto& r : snapshot_->routes->records<RouteRecord>())
    rules.push_back({{r.prefix, r.length}, index++});
  routes_ = std::make_shared<PrefixMap>(rules);
}

void Table::build_access(const Table* previous) {
  if (same(snapshot_->access, previous, &Snapshot::access)) {
    access_ = previous->access_;
    return;
  }
  std::vector<std::vector<PrefixMap::Rule>> rules;
  for (const auto& r : snapshot_->access->records<AccessRecord>()) {
    if (rules.size() <= r.list) rules.resize(r.list + 1u);
    rules[r.list].push_back({{r.prefix, r.length}, r.allow});
  }
  auto lists = std::make_shared<AccessLists>();
  for (const auto& list : rules) lists->emplace_back(list);
  access_ = lists;
}

uint64_t Table::nat_ports_total() const {
  uint64_t total = 0;
  for (const TableNat& n : nat_) total += n.last_port - n.first_port + 1u;
  return total;
}

std::shared_ptr<const Table> build_table(std::shared_ptr<const Snapshot> snapshot, const Table* previous) {
  auto table = std::make_shared<Table>();
  table->snapshot_ = std::move(snapshot);
  table->hash_key_ = {{table->settings().hash_key[0], table->settings().hash_key[1]}};
  table->slot_hasher_ = FlowHasherV4(table->hash_key_);
  table->timeouts_ = {ticks_of_ms(table->settings().timeout_syn_ms),
                      ticks_of_ms(table->settings().timeout_half_closed_ms),
                      ticks_of_ms(table->settings().timeout_closing_ms)};
  const SettingsRecord& settings = table->settings();
  table->tunnel_v4_ = {settings.tunnel_source_v4, settings.tunnel_length_v4};
  table->tunnel_v6_ = {settings.tunnel_source_v6, settings.tunnel_length_v6};
  table->build_services();
  table->build_limits_version(previous);
  table->build_listeners(previous);
  table->build_locals();
  table->build_dnat();
  table->build_vlans();
  table->build_pools(previous);
  table->build_backend_addresses();
  if (previous != nullptr) table->build_flow_version(*previous);
  table->build_next_hops(previous);
  table->build_plain_ways();
  table->build_routes(previous);
  table->build_access(previous);
  return table;
}

}  // namespace portico
