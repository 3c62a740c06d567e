// SPDX-License-Identifier: Apache-2.0
#include "control/builder.h"

#include <xxhash.h>

#include <algorithm>
#include <chrono>

#include "contract/flow_hash.h"
#include "contract/table_file.h"
#include "control/builder_services.h"
#include "control/fallback.h"
#include "control/maglev.h"

namespace portico {
namespace {

// Steps in which a backend that returns gets its weight.
constexpr uint32_t kRampSteps = 10;

// A moment of CLOCK_REALTIME as one of CLOCK_MONOTONIC.
uint64_t to_monotonic(const BuildInput& input, int64_t realtime_ms) {
  const int64_t left_ms = realtime_ms - input.now_realtime_ms;
  return left_ms <= 0 ? input.now_ns : input.now_ns + static_cast<uint64_t>(left_ms) * 1'000'000;
}

std::vector<Candidate> candidates(const BuildInput& input, const PoolConfig& pool) {
  std::vector<Candidate> all;
  for (const auto& backend : pool.backends) {
    const AdminEntry* admin = input.operators.find(pool.name, backend.name);
    Candidate candidate{.id = input.ids.backend(pool.name, backend),
                        .weight = weight_of(input.operators, pool.name, backend),
                        .admin = admin ? admin->state : Admin::active,
                        .health = input.health(pool.name, backend.name),
                        .is_backup = backend.backup,
                        .is_local = input.config.zone.empty() || backend.zone == input.config.zone};
    candidate.damped = candidate.health.damped_until_ns > input.now_ns;
    if (admin && admin->deadline_ms != 0) candidate.reset_at_ns = to_monotonic(input, admin->deadline_ms);
    all.push_back(std::move(candidate));
  }
  return all;
}

uint16_t hop_of(const Routing& routing, const std::optional<Address>& address) {
  if (!address) return kNone;
  const auto it = routing.hop_of.find(*address);
  return it == routing.hop_of.end() ? kNone : it->second;
}

PoolRecord pool_record(uint16_t id, std::string_view name, PoolDisposition disposition, uint32_t size) {
  PoolRecord record{};
  record.id = id;
  record.disposition = static_cast<uint8_t>(disposition);
  record.lookup_size = size;
  set_text(record.name, name);
  return record;
}

void by_id(std::vector<BackendRecord>& records) {
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

// A removed backend takes no new flows; those it has are reset.
BackendRecord retire(BackendRecord record, const Routing& routing) {
  const auto hop = [&](const Address& address) {
    return hop_of(routing, address.is_none() ? std::nullopt : std::optional(address));
  };
  record.disposition = static_cast<uint8_t>(BackendDisposition::reset);
  record.reset_count = 0;
  std::fill(std::begin(record.reset_ports), std::end(record.reset_ports), uint16_t{0});
  record.next_hop_v4 = hop(record.address_v4);
  record.next_hop_v6 = hop(record.address_v6);
  return record;
}

// Removed backends of the pool.
void add_retired(const BuildInput& input, TableContent::Pool& pool) {
  for (const auto& record : input.ids.retired_backends())
    if (record.pool == pool.record.id) pool.backends.push_back(retire(record, input.routing));
  by_id(pool.backends);
}

BackendRecord backend_record(const Routing& routing, uint16_t pool, const BackendConfig& backend,
                             const Candidate& candidate, const FlowDecision& flows) {
  BackendRecord record{};
  record.id = candidate.id;
  record.pool = pool;
  record.weight = static_cast<uint16_t>(candidate.weight);
  record.disposition = static_cast<uint8_t>(flows.disposition);
  record.reset_count = static_cast<uint8_t>(flows.reset_ports.size());
  std::copy(flows.reset_ports.begin(), flows.reset_ports.end(), record.reset_ports);
  record.next_hop_v4 = hop_of(routing, backend.v4);
  record.next_hop_v6 = hop_of(routing, backend.v6);
  record.address_v4 = backend.v4.value_or(Address{});
  record.address_v6 = backend.v6.value_or(Address{});
  set_text(record.name, backend.name);
  return record;
}

template <typename Record>
uint64_t hash_of(const std::vector<Record>& records, uint64_t seed) {
  return XXH3_64bits_withSeed(records.data(), records.size() * sizeof(Record), seed + records.size());
}

}  // namespace

uint32_t weight_of(const OperatorState& operators, const std::string& pool, const BackendConfig& backend) {
  const WeightEntry* entry = operators.find_weight(pool, backend.name);
  return entry ? entry->weight : backend.weight;
}

uint64_t Builder::content_hash() const {
  uint64_t hash = XXH3_64bits(&content_.settings, sizeof content_.settings);
  hash = hash_of(content_.ports, hash);
  hash = hash_of(content_.services, hash);
  hash = hash_of(content_.listeners, hash);
  for (const auto& pool : content_.pools) {
    hash = XXH3_64bits_withSeed(&pool.record, sizeof pool.record, hash);
    hash = hash_of(pool.backends, hash);
    hash = XXH3_64bits_withSeed(&pool.lookup_checksum, sizeof pool.lookup_checksum, hash);
    hash = XXH3_64bits_withSeed(&pool.fallback_checksum, sizeof pool.fallback_checksum, hash);
  }
  hash = hash_of(content_.next_hops, hash);
  hash = hash_of(content_.routes, hash);
  hash = hash_of(content_.access, hash);
  hash = hash_of(content_.nat, hash);
  hash = hash_of(content_.own, hash);
  return hash_of(content_.vlans, hash);
}

void Builder::recover(const Snapshot& snapshot, uint64_t now_ns) {
  for (const auto& pool : snapshot.pools) {
    if (!pool.lookup) continue;
    const auto slots = pool.lookup->records<uint16_t>();
    const std::set<uint16_t> ids(slots.begin(), slots.end());
    std::set<uint16_t> spared;
    for (const auto& backend : pool.backends->records<BackendRecord>())
      if (BackendDisposition{backend.disposition} == BackendDisposition::forward && !ids.contains(backend.id))
        spared.insert(backend.id);
    PoolMemory& memory = pools_[pool.pool().id];
    memory.last_usable.recover(ids, spared, now_ns);
    memory.usable_before = ids;
  }
}

const PoolDecision* Builder::decision(uint16_t pool) const {
  const auto it = pools_.find(pool);
  return it == pools_.end() ? nullptr : &it->second.decision;
}

uint32_t Builder::local_percent(uint16_t pool) const {
  const auto it = pools_.find(pool);
  return it == pools_.end() ? 100 : it->second.local_percent;
}

double Builder::share(uint16_t pool, uint16_t backend) const {
  const auto memory = pools_.find(pool);
  if (memory == pools_.end()) return 0;
  const auto slots = memory->second.slots.find(backend);
  if (slots == memory->second.slots.end()) return 0;
  return static_cast<double>(slots->second) / memory->second.signature.size;
}

double Builder::ramp(uint16_t pool, uint16_t backend) const {
  const auto memory = pools_.find(pool);
  if (memory == pools_.end()) return 1;
  const auto step = memory->second.steps.find(backend);
  return step == memory->second.steps.end() ? 1 : static_cast<double>(step->second) / kRampSteps;
}

// A backend that others have stood in for begins with a part of its weight. Those of a pool that had none
// return together, and whole.
void Builder::follow_ramps(const PoolConfig& pool, uint64_t now_ns, PoolMemory& memory) {
  memory.steps.clear();
  if (memory.decision.state != PoolState::normal) {
    memory.ramps.clear();
    memory.usable_before.clear();
    memory.standby_before.clear();
    return;
  }
  const std::set<uint16_t>& usable = memory.decision.usable;
  if (pool.slow_start.count() > 0 && !memory.usable_before.empty())
    for (const uint16_t id : usable)
      // One that waited was warm, and helps since there is need.
      if (!memory.usable_before.contains(id) && !memory.standby_before.contains(id))
        memory.ramps.emplace(id, now_ns);
  memory.usable_before = usable;
  memory.standby_before = memory.decision.standby;
  const uint64_t step_ns =
      static_cast<uint64_t>(std::chrono::nanoseconds(pool.slow_start).count()) / kRampSteps;
  std::erase_if(memory.ramps, [&](const auto& ramp) {
    return !usable.contains(ramp.first) || step_ns == 0 || now_ns >= ramp.second + (kRampSteps - 1) * step_ns;
  });
  for (const auto& [id, since_ns] : memory.ramps) {
    const uint64_t steps = (now_ns - since_ns) / step_ns + 1;
    memory.steps[id] = static_cast<uint32_t>(steps);
    memory.change_at(since_ns + steps * step_ns);
  }
}

std::optional<uint64_t> Builder::next_change_ns() const {
  std::optional<uint64_t> first;
  for (const auto& [id, memory] : pools_)
    if (memory.next_change_ns && (!first || *memory.next_change_ns < *first)) first = memory.next_change_ns;
  return first;
}

void Builder::build_lookup_of(const BuildInput& input, const PoolConfig& pool, const PoolDecision& decision,
                              TableContent::Pool& built) {
  Signature signature{
      .members = {}, .size = pool.table_size, .key = {input.config.hash_key[0], input.config.hash_key[1]}};
  PoolMemory& memory = pools_[built.record.id];
  const uint32_t whole = memory.steps.empty() ? 1 : kRampSteps;
  for (const auto& backend : pool.backends) {
    const uint16_t id = input.ids.backend(pool.name, backend);
    if (!decision.usable.contains(id)) continue;
    const auto step = memory.steps.find(id);
    const uint32_t weight = weight_of(input.operators, pool.name, backend);
    signature.members.emplace_back(backend.name, id,
                                   weight * (step == memory.steps.end() ? whole : step->second));
  }
  std::sort(signature.members.begin(), signature.members.end());
  if (signature == memory.signature) return;
  std::vector<MaglevBackend> members;
  for (const auto& [name, id, weight] : signature.members) members.push_back({name, id, weight});
  built.lookup = build_lookup(members, pool.table_size, HashKey{{signature.key[0], signature.key[1]}});
  built.lookup_checksum = checksum_of(built.lookup.data(), built.lookup.size() * sizeof(uint16_t));
  memory.slots.clear();
  for (const uint16_t id : built.lookup) ++memory.slots[id];
  memory.signature = std::move(signature);
}

namespace {

// Whether packets to the pool's backends name further ones.
bool gives_second_chance(const Config& config, const PoolConfig& pool) {
  return pool.second_chance && std::ranges::any_of(config.services, [&](const ServiceConfig& service) {
           return service.mode == Mode::dsr_gue && service.pool == pool.name;
         });
}

// Of an earlier set of backends, by their configured weights: one that takes no new connections any more did
// so with the usual one.
constexpr uint32_t kUsualWeight = 100;

// The own zone first, so that balancers of one zone agree on the first columns.
std::vector<std::string> zones_of(const Config& config, const PoolConfig& pool) {
  std::set<std::string> zones;
  for (const BackendConfig& backend : pool.backends)
    if (!backend.zone.empty()) zones.insert(backend.zone);
  std::vector<std::string> sorted;
  if (zones.erase(config.zone) > 0) sorted.push_back(config.zone);
  sorted.insert(sorted.end(), zones.begin(), zones.end());
  return sorted;
}

bool is_of(const std::vector<std::string>& names, const BackendConfig& backend) {
  return std::ranges::find(names, backend.name) != names.end();
}

}  // namespace

void Builder::build_fallback_of(const BuildInput& input, const PoolConfig& pool, TableContent::Pool& built) {
  PoolMemory& memory = pools_[built.record.id];
  std::vector<Signature> signatures;
  if (gives_second_chance(input.config, pool) && !built.lookup.empty()) {
    signatures.push_back(memory.signature);
    const auto add = [&](const auto& weight_of) {
      Signature& set = signatures.emplace_back(memory.signature);
      set.members.clear();
      for (const BackendConfig& backend : pool.backends)
        if (const uint32_t weight = weight_of(backend); weight > 0)
          set.members.emplace_back(backend.name, input.ids.backend(pool.name, backend), weight);
      std::sort(set.members.begin(), set.members.end());
    };
    for (const auto& names : pool.earlier_sets)
      add([&](const BackendConfig& b) {
        return !is_of(names, b) ? 0 : b.weight > 0 ? b.weight : kUsualWeight;
      });
    for (const std::string& zone : zones_of(input.config, pool))
      add([&](const BackendConfig& b) { return b.backup || b.zone != zone ? 0 : b.weight; });
    if (std::ranges::any_of(pool.backends, &BackendConfig::backup))
      add([](const BackendConfig& b) { return b.backup ? 0 : b.weight; });
    // With all that are drained, held, down or waiting: where flows went before, and will go.
    add([](const BackendConfig& b) { return b.weight; });
  }
  if (signatures != memory.fallback) {
    std::vector<BackendSet> sets;
    for (const Signature& signature : signatures) {
      BackendSet& set = sets.emplace_back();
      for (const auto& [name, id, weight] : signature.members) set.push_back({name, id, weight});
    }
    Fallback fallback;
    if (!sets.empty())
      fallback = build_fallback(built.lookup, sets[0], {sets.begin() + 1, sets.end()},
                                HashKey{{signatures[0].key[0], signatures[0].key[1]}});
    memory.fallback_columns = static_cast<uint8_t>(fallback.columns);
    built.fallback = std::move(fallback.slots);
    built.fallback_checksum =
        built.fallback.empty() ? 0
                               : checksum_of(built.fallback.data(), built.fallback.size() * sizeof(uint16_t));
    memory.fallback = std::move(signatures);
  }
  built.record.fallback_columns = memory.fallback_columns;
}

PoolDecision Builder::decide(const BuildInput& input, const PoolConfig& pool,
                             const std::vector<Candidate>& all, PoolMemory& memory) {
  const uint64_t window_ns = keep_last_window_ns(pool);
  if (!input.is_cut_off && !input.is_returning) memory.kept.reset();
  if (input.is_cut_off && !memory.kept) memory.kept = memory.last_usable.kept(input.now_ns, window_ns);
  const auto last_usable = memory.kept ? *memory.kept : memory.last_usable.kept(input.now_ns, window_ns);
  if (!memory.tiers) memory.tiers = recover_tiers(all, memory.usable_before);
  const TierChoice tiers = choose_tiers(pool, all, input.now_ns, *memory.tiers);
  memory.local_percent = tiers.local_percent;
  if (tiers.next_change_ns) memory.change_at(*tiers.next_change_ns);
  PoolDecision decision = decide_pool(pool, all, last_usable, tiers);
  const bool is_normal = decision.state == PoolState::normal;
  if (memory.kept && (input.is_cut_off || !is_normal)) return decide_cut_off(all, *memory.kept);
  memory.last_usable.note(is_normal ? decision.usable : std::set<uint16_t>{}, input.now_ns, window_ns);
  return decision;
}

// `built`: the pool as it was built last, or a new one. Its look-up table stays if it would be the same.
void Builder::build_pool(const BuildInput& input, const PoolConfig& pool, TableContent::Pool& built) {
  const uint16_t id = input.ids.pool(pool.name);
  PoolMemory& memory = pools_[id];
  const auto all = candidates(input, pool);
  const uint64_t window_ns = keep_last_window_ns(pool);
  memory.next_change_ns.reset();
  memory.decision = decide(input, pool, all, memory);
  const PoolDecision& decision = memory.decision;
  built.record = pool_record(id, pool.name, decision.disposition(), pool.table_size);
  built.backends.clear();
  follow_ramps(pool, input.now_ns, memory);
  const auto service_ports = backend_ports(input.config, pool.name);
  const Answers answers(all);
  for (size_t i = 0; i < all.size(); ++i) {
    const auto left_ns = memory.last_usable.left_ns(all[i].id);
    std::optional<uint64_t> doubt_until_ns;
    if (is_in_doubt(all[i], answers)) {
      if (left_ns) doubt_until_ns = *left_ns + window_ns;
      if (memory.kept) doubt_until_ns = kUntilConnected;
    }
    const FlowDecision flows =
        decide_flows(pool, all[i], decision, service_ports, input.now_ns, doubt_until_ns);
    built.backends.push_back(backend_record(input.routing, id, pool.backends[i], all[i], flows));
    if (flows.next_change_ns) memory.change_at(*flows.next_change_ns);
    if (all[i].damped) memory.change_at(all[i].health.damped_until_ns);
  }
  build_lookup_of(input, pool, decision, built);
  build_fallback_of(input, pool, built);
}

void Builder::add_retired_pools(const BuildInput& input) {
  for (const auto& [id, name] : input.ids.retired_pools()) {
    TableContent::Pool pool;
    pool.record = pool_record(id, name, PoolDisposition::reset, kMinLookupSize);
    content_.pools.push_back(std::move(pool));
  }
}

void Builder::build_all(const BuildInput& input) {
  build_services(input.config, input.ids, content_);
  std::map<uint16_t, TableContent::Pool> before;
  for (auto& pool : content_.pools) before[pool.record.id] = std::move(pool);
  content_.pools.clear();
  std::set<uint16_t> built;
  for (const auto& pool : input.config.pools) {
    const uint16_t id = input.ids.pool(pool.name);
    built.insert(id);
    content_.pools.push_back(std::move(before[id]));
    build_pool(input, pool, content_.pools.back());
  }
  // An id may come back with another pool.
  std::erase_if(pools_, [&](const auto& pool) { return !built.contains(pool.first); });
  add_retired_pools(input);
  std::sort(content_.pools.begin(), content_.pools.end(),
            [](const auto& a, const auto& b) { return a.record.id < b.record.id; });
  for (auto& pool : content_.pools) add_retired(input, pool);
}

void Builder::build_changed(const BuildInput& input) {
  for (const auto& pool : input.config.pools) {
    const uint16_t id = input.ids.pool(pool.name);
    const auto& change_ns = pools_[id].next_change_ns;
    const bool is_due = change_ns && *change_ns <= input.now_ns;
    if (!is_due && !input.changed_pools->contains(pool.name)) continue;
    const auto place = std::find_if(content_.pools.begin(), content_.pools.end(),
                                    [&](const auto& built) { return built.record.id == id; });
    if (place == content_.pools.end()) continue;
    build_pool(input, pool, *place);
    add_retired(input, *place);
  }
}

const TableContent& Builder::build(const BuildInput& input) {
  if (input.changed_pools)
    build_changed(input);
  else
    build_all(input);
  content_.config_version = input.config_version;
  content_.next_hops = input.routing.next_hops;
  content_.routes = input.routing.routes;
  content_.vlans = input.routing.vlans;
  const bool uses_dnat = std::ranges::count(input.config.services, Mode::dnat, &ServiceConfig::mode) > 0;
  content_.own = uses_dnat ? input.routing.own : std::vector<OwnRecord>{};
  return content_;
}

}  // namespace portico
