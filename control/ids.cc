// SPDX-License-Identifier: Apache-2.0
#include "control/ids.h"

#include <algorithm>
#include <set>
#include <sstream>

namespace portico {
namespace {

// A report must be this much younger than the first quiet one: by then every worker has counted under the
// generation that removed the id.
constexpr uint64_t kQuietNs = uint64_t{10} * kFeedbackIntervalMs * 1'000'000;

// A service whose mode changes is another service: its flows are of another kind.
std::string service_key(std::string_view name, Mode mode) {
  return std::string(name) + " " + mode_name(mode);
}

// A backend whose address changes is another backend: flows to the old address never reach the new one.
std::string backend_key(std::string_view pool, std::string_view name, const Address& v4, const Address& v6) {
  return std::string(pool) + "/" + std::string(name) + " " + (v4.is_none() ? "-" : to_string(v4)) + " " +
         (v6.is_none() ? "-" : to_string(v6));
}

std::string backend_key(const std::string& pool, const BackendConfig& b) {
  return backend_key(pool, b.name, b.v4.value_or(Address{}), b.v6.value_or(Address{}));
}

}  // namespace

std::string_view name_of(const char (&name)[kNameSize]) {
  const char* end = std::find(name, name + kNameSize - 1, '\0');
  return {name, static_cast<size_t>(end - name)};
}

void IdSpace::recover(uint16_t id, std::string key) {
  if (id >= limit_ || by_key_.contains(key) || entries_.contains(id)) return;
  by_key_[key] = id;
  entries_[id] = Entry{.key = std::move(key)};
}

std::optional<uint16_t> IdSpace::find(std::string_view key) const {
  const auto it = by_key_.find(key);
  if (it == by_key_.end() || entries_.at(it->second).retired) return std::nullopt;
  return it->second;
}

std::optional<uint16_t> IdSpace::assign(const std::string& key) {
  if (const auto it = by_key_.find(key); it != by_key_.end()) {
    entries_[it->second] = Entry{.key = key};
    return it->second;
  }
  for (uint32_t i = 0; i < limit_; ++i) {
    const auto id = static_cast<uint16_t>((cursor_ + i) % limit_);
    if (entries_.contains(id)) continue;
    entries_[id] = Entry{.key = key};
    by_key_[key] = id;
    cursor_ = (uint32_t{id} + 1) % limit_;
    return id;
  }
  return std::nullopt;
}

void IdSpace::rename(const std::string& from, const std::string& to) {
  const auto id = find(from);
  if (!id || by_key_.contains(to)) return;
  by_key_.erase(from);
  by_key_[to] = *id;
  entries_[*id].key = to;
}

void IdSpace::rename_like(const std::string& start, const std::string& end, const std::string& to) {
  for (auto it = by_key_.lower_bound(start); it != by_key_.end() && it->first.starts_with(start); ++it) {
    if (!it->first.ends_with(end)) continue;
    const std::string from = it->first;  // a copy: rename() erases it
    return rename(from, to);
  }
}

void IdSpace::take_out(uint16_t id) {
  if (id >= limit_ || entries_.contains(id)) return;
  const std::string key = " flows under " + std::to_string(id);  // no name starts with a blank
  by_key_[key] = id;
  entries_[id] = Entry{.key = key, .retired = true};
}

void IdSpace::free(uint16_t id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  by_key_.erase(it->second.key);
  entries_.erase(it);
}

void IdSpace::retire_all_but(const std::vector<std::string>& keys) {
  const std::set<std::string_view> wanted(keys.begin(), keys.end());
  for (auto& [id, entry] : entries_)
    if (!entry.retired && !wanted.contains(entry.key)) entry = Entry{.key = entry.key, .retired = true};
}

void IdSpace::published(uint64_t generation) {
  for (auto& [id, entry] : entries_)
    if (entry.retired && entry.retired_generation == 0) entry.retired_generation = generation;
}

std::vector<uint16_t> IdSpace::release(const FlowReport& report) {
  std::vector<uint16_t> freed;
  for (auto& [id, entry] : entries_) {
    if (!entry.retired || entry.retired_generation == 0) continue;
    if (report.dataplane_alive) {
      const bool quiet = report.adopted_generation >= entry.retired_generation && report.flows(id) == 0;
      if (!quiet) entry.quiet_since_ns = 0;
      if (quiet && entry.quiet_since_ns == 0) entry.quiet_since_ns = report.heartbeat_ns;
      if (!quiet || report.heartbeat_ns < entry.quiet_since_ns + kQuietNs) continue;
    }
    freed.push_back(id);
  }
  for (const uint16_t id : freed) free(id);
  return freed;
}

std::vector<uint16_t> IdSpace::retired() const {
  std::vector<uint16_t> ids;
  for (const auto& [id, entry] : entries_)
    if (entry.retired) ids.push_back(id);
  return ids;
}

void Ids::recover(const Snapshot& snapshot) {
  std::map<uint16_t, std::string> pool_names;
  for (const auto& pool : snapshot.pools) {
    const PoolRecord& record = pool.pool();
    pool_names[record.id] = name_of(record.name);
    pools_.recover(record.id, pool_names[record.id]);
  }
  for (const auto& record : snapshot.services->records<ServiceRecord>()) {
    services_.recover(record.id, service_key(name_of(record.name), Mode{record.mode}));
    service_records_[record.id] = record;
  }
  for (const auto& pool : snapshot.pools) {
    if (!pool.backends) continue;
    for (const auto& record : pool.backends->records<BackendRecord>()) {
      backends_.recover(record.id, backend_key(pool_names[record.pool], name_of(record.name),
                                               record.address_v4, record.address_v6));
      backend_records_[record.id] = record;
    }
  }
}

// One line for each id: the space, the id, the key.
std::string Ids::to_text() const {
  std::string text;
  const auto add = [&text](const char* space, const IdSpace& ids) {
    for (const auto& [id, entry] : ids.entries())
      text += std::string(space) + " " + std::to_string(id) + " " + entry.key + "\n";
  };
  add("service", services_);
  add("pool", pools_);
  add("backend", backends_);
  return text;
}

void Ids::recover_text(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string space, key;
    uint16_t id = 0;
    if (!(fields >> space >> id) || fields.get() != ' ' || !std::getline(fields, key) || key.empty())
      continue;
    if (space == "service") services_.recover(id, key);
    if (space == "pool") pools_.recover(id, key);
    if (space == "backend") backends_.recover(id, key);
  }
}

void Ids::take_out(const std::function<bool(uint16_t)>& service_used,
                   const std::function<bool(uint16_t)>& backend_used) {
  for (uint32_t id = 0; id < kMaxServices; ++id)
    if (service_used(static_cast<uint16_t>(id))) services_.take_out(static_cast<uint16_t>(id));
  for (uint32_t id = 0; id < kMaxBackends; ++id)
    if (backend_used(static_cast<uint16_t>(id))) backends_.take_out(static_cast<uint16_t>(id));
}

std::optional<std::string> Ids::sync(const Config& config) {
  Ids next = *this;
  std::vector<std::string> services, pools, backends;
  for (const auto& service : config.services) services.push_back(service_key(service.name, service.mode));
  for (const auto& pool : config.pools) {
    pools.push_back(pool.name);
    for (const auto& backend : pool.backends) {
      backends.push_back(backend_key(pool.name, backend));
      // A backend that gains or loses an address of the other family stays what it is.
      const std::string name = pool.name + "/" + backend.name + " ";
      if (!backend.v6 && backend.v4)
        next.backends_.rename_like(name + to_string(*backend.v4) + " ", "", backends.back());
      if (!backend.v4 && backend.v6)
        next.backends_.rename_like(name, " " + to_string(*backend.v6), backends.back());
      if (!backend.v4 || !backend.v6) continue;
      for (const auto& old : {backend_key(pool.name, backend.name, *backend.v4, Address{}),
                              backend_key(pool.name, backend.name, Address{}, *backend.v6)})
        next.backends_.rename(old, backends.back());
    }
  }
  const auto follow = [](IdSpace& space, const std::vector<std::string>& keys) {
    space.retire_all_but(keys);
    return std::all_of(keys.begin(), keys.end(),
                       [&](const auto& key) { return space.assign(key).has_value(); });
  };
  const char* advice = " ids are free: removed ones are free again when their last flow is gone; try later";
  if (!follow(next.services_, services)) return std::string("not enough service") + advice;
  if (!follow(next.pools_, pools)) return std::string("not enough pool") + advice;
  if (!follow(next.backends_, backends)) return std::string("not enough backend") + advice;
  *this = std::move(next);
  return std::nullopt;
}

void Ids::published(uint64_t generation, const TableContent& content) {
  for (auto* space : {&services_, &pools_, &backends_}) space->published(generation);
  for (const auto& record : content.services) service_records_[record.id] = record;
  for (const auto& pool : content.pools)
    for (const auto& record : pool.backends) backend_records_[record.id] = record;
}

bool Ids::release(const FlowReport& services, const FlowReport& backends) {
  const auto freed_services = services_.release(services);
  const auto freed_backends = backends_.release(backends);
  for (const uint16_t id : freed_services) service_records_.erase(id);
  for (const uint16_t id : freed_backends) backend_records_.erase(id);
  // No flow names a pool: its id is free when no retired record does.
  const auto held = retired_pools();
  bool freed_pool = false;
  for (const uint16_t id : pools_.retired()) {
    if (held.contains(id)) continue;
    pools_.free(id);
    freed_pool = true;
  }
  return freed_pool || !freed_services.empty() || !freed_backends.empty();
}

uint16_t Ids::service(const ServiceConfig& service) const {
  return services_.find(service_key(service.name, service.mode)).value_or(kNone);
}

uint16_t Ids::pool(const std::string& name) const {
  return pools_.find(name).value_or(kNone);
}

uint16_t Ids::backend(const std::string& pool, const BackendConfig& backend) const {
  return backends_.find(backend_key(pool, backend)).value_or(kNone);
}

std::vector<ServiceRecord> Ids::retired_services() const {
  std::vector<ServiceRecord> records;
  for (const uint16_t id : services_.retired())
    if (const auto it = service_records_.find(id); it != service_records_.end())
      records.push_back(it->second);
  return records;
}

std::vector<BackendRecord> Ids::retired_backends() const {
  std::vector<BackendRecord> records;
  for (const uint16_t id : backends_.retired())
    if (const auto it = backend_records_.find(id); it != backend_records_.end())
      records.push_back(it->second);
  return records;
}

std::map<uint16_t, std::string> Ids::retired_pools() const {
  std::set<uint16_t> used;
  for (const auto& record : retired_services()) used.insert(record.pool);
  for (const auto& record : retired_backends()) used.insert(record.pool);
  std::map<uint16_t, std::string> pools;
  for (const uint16_t id : pools_.retired())
    if (used.contains(id)) pools[id] = pools_.entries().at(id).key;
  return pools;
}

}  // namespace portico
