// SPDX-License-Identifier: Apache-2.0
// A configuration to the host and to the table.
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <utility>

#include "contract/port_name.h"
#include "contract/tap_interface.h"
#include "control/builder_services.h"
#include "control/dnat.h"
#include "control/port_order.h"
#include "control/service_impl.h"

namespace portico {
namespace {

// Health changes of one cause come in bursts: wait this long for the others.
constexpr auto kCoalesce = std::chrono::milliseconds(1);
// However long a check may take: a new balancer does not serve nobody for longer than this.
constexpr Milliseconds kLongestHold{3000};

std::vector<Endpoint> listeners_of(const Config& config) {
  std::vector<Endpoint> listeners;
  for (const auto& service : config.services)
    listeners.insert(listeners.end(), service.listen.begin(), service.listen.end());
  return listeners;
}

std::vector<NatRange> nat_of(const Config& config) {
  std::vector<NatRange> ranges;
  for (const Address& address : config.nat.addresses)
    ranges.push_back({address, config.nat.first_port, config.nat.last_port});
  return ranges;
}

std::vector<Address> addresses_of(const Config& config) {
  std::set<Address> all(config.nat.addresses.begin(), config.nat.addresses.end());
  if (config.vip_address == VipAddress::managed)
    for (const Endpoint& endpoint : listeners_of(config)) all.insert(endpoint.address);
  return {all.begin(), all.end()};
}

std::vector<std::string> interfaces_of(const Config& config) {
  std::vector<std::string> names;
  for (const auto& port : config.dataplane.ports) names.push_back(interface_of(port));
  return names;
}

uint64_t hash_of(const std::string& text) {
  return XXH3_64bits(text.data(), text.size());
}

template <typename T>
std::vector<T> both(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  std::sort(a.begin(), a.end());
  a.erase(std::unique(a.begin(), a.end()), a.end());
  return a;
}

}  // namespace

void Service::Impl::recover() {
  const auto snapshot = publisher->recovered();
  if (!snapshot) return recover_ids();
  ids.recover(*snapshot);
  builder.recover(*snapshot, monotonic_ns());
  const auto hops = snapshot->next_hops->records<NextHopRecord>();
  next_hops.recover({hops.begin(), hops.end()});
  for (const auto& port : snapshot->ports->records<PortRecord>())
    config.dataplane.ports.push_back(
        {.name = std::string(name_of(port.name)), .devargs = port.devargs, .mtu = port.mtu});
  config_version = snapshot->config_version;
  spdlog::info("took over table {} of the run directory", snapshot->generation);
}

// The table is lost. A dataplane may still live and have flows, which name services and backends by id alone.
void Service::Impl::recover_ids() {
  if (const auto text = read_whole(state_dir + "/ids")) ids.recover_text(*text);
  watch.poll(publisher->epoch(), publisher->generation(), monotonic_ns());
  if (!watch.may_hold_flows()) return;
  const Feedback& feedback = watch.feedback();
  const auto used = [](const auto& of) { return of.flows != 0 || of.new_flows != 0; };
  ids.take_out([&](uint16_t id) { return used(feedback.services[id]); },
               [&](uint16_t id) { return used(feedback.backends[id]); });
}

// Before the table that needs them is published.
void Service::Impl::store_ids() {
  std::string text = ids.to_text();
  if (text == stored_ids) return;
  if (const auto error = write_atomically(state_dir + "/ids", text)) {
    if (storage_warning != *error) spdlog::warn("{}", *error);
    storage_warning = *error;
    return;
  }
  stored_ids = std::move(text);
}

namespace {

// Addresses and neighbours need the interfaces before the dataplane has started by the first table.
std::optional<std::string> ensure_taps(const Config& config) {
  for (const auto& port : config.dataplane.ports) {
    const std::string tap = parse_port(port.name, port.devargs).tap;
    if (tap.empty()) continue;
    if (auto error = ensure_tap(tap)) return error;
  }
  return std::nullopt;
}

}  // namespace

// Guard first, then addresses: an address without its guard would let the kernel reset clients. What is given
// up loses its address before its guard.
std::optional<std::string> Service::Impl::install(const Config& next, const Config* before) {
  const auto listeners = listeners_of(next);
  const auto nat = nat_of(next);
  const auto backends = dnat_backends(next);
  auto first = guard->apply(before ? both(listeners, listeners_of(*before)) : listeners,
                            before ? both(nat, nat_of(*before)) : nat,
                            before ? both(backends, dnat_backends(*before)) : backends);
  if (first) return first;
  if (auto error = ensure_taps(next)) return error;
  if (guard->was_mended())
    spdlog::warn("put back the guard {}: somebody had changed its rules", guard->table());
  const auto ports = interfaces_of(next);
  std::vector<std::string> vlan_devices;
  for (const auto& port : ports)
    for (auto& name : neighbours->vlan_devices(port)) vlan_devices.push_back(std::move(name));
  auto error = addresses->apply(addresses_of(next), ports, vlan_devices);
  note_host(ports);
  if (error) return error;
  return before ? guard->apply(listeners, nat, backends) : std::nullopt;
}

// What the last round of addresses found, for the log and the status.
void Service::Impl::note_host(const std::vector<std::string>& ports) {
  for (const auto& text : addresses->mended()) spdlog::warn("{}", text);
  std::vector<std::string> warnings;
  for (const Address& address : addresses->unconnected())
    warnings.push_back(
        "address " + to_string(address) +
        " is in no connected network of dataplane.ports or a VLAN device on them: only what is "
        "routed here reaches it; "
        "see `ip addr`");
  for (const auto& port : ports)
    for (const auto& device : neighbours->other_vlan_devices(port))
      warnings.push_back(fmt::format(
          "VLAN device {} on port {} has 802.1ad tags, which the dataplane neither takes nor sends: "
          "only the kernel uses it; make it with `protocol 802.1Q`",
          device, port));
  for (const auto& text : warnings)
    if (std::find(placement_warnings.begin(), placement_warnings.end(), text) == placement_warnings.end())
      spdlog::warn("{}", text);
  placement_warnings = std::move(warnings);
}

// The number counts configurations, not starts of control: `applied` in the state directory tells the one
// that was applied last, by its effective text.
void Service::Impl::recover_version(const std::string& effective_text) {
  uint64_t version = 0, hash = 0;
  int64_t when_ms = 0;
  std::istringstream(read_whole(state_dir + "/applied").value_or("")) >> version >> hash >> when_ms;
  const bool is_same = version != 0 && hash == hash_of(effective_text);
  config_version = std::max(config_version, version) + (is_same ? 0 : 1);
  loaded_ms = is_same ? when_ms : started_ms;
}

// Once a table with it is published.
void Service::Impl::note_applied() {
  if (noted_version == config_version) return;
  noted_version = config_version;
  const std::string text = std::to_string(config_version) + " " + std::to_string(hash_of(effective)) + " " +
                           std::to_string(loaded_ms) + "\n";
  const auto error = write_atomically(state_dir + "/applied", text);
  if (error && storage_warning != *error) spdlog::warn("{}", *error);
  if (error) storage_warning = *error;
  const AppliedConfig* kept = config_history.find(config_version);
  if (kept != nullptr && kept->digest == digest_of(config_text)) return;
  const auto lost = config_history.add({.version = config_version,
                                        .applied_ms = loaded_ms,
                                        .who = applied_by,
                                        .note = applied_note,
                                        .digest = {},
                                        .bytes = 0},
                                       config_text);
  if (lost && storage_warning != *lost) spdlog::warn("{}", *lost);
  if (lost) storage_warning = *lost;
}

std::optional<std::string> Service::Impl::apply(Config next, std::string effective_text, bool is_first) {
  watch.poll(publisher->epoch(), publisher->generation(), monotonic_ns());
  auto conflict = keep_port_order(watch.ports(), config.dataplane.ports, next.dataplane.ports);
  if (conflict && !is_first) return conflict;
  // A control that does not start helps nobody: the dataplane refuses the table, and the status says so.
  if (conflict) spdlog::error("{}", *conflict);
  Ids next_ids = ids;
  if (auto error = next_ids.sync(next)) return error;
  if (auto error = install(next, is_first ? nullptr : &config)) {
    if (!is_first) install(config, &next);
    return error;
  }
  ids = std::move(next_ids);
  config = std::move(next);
  effective = std::move(effective_text);
  interfaces = interfaces_of(config);
  health->apply(config);
  own_side->follow(config);
  passive.follow(config, ids);
  all_changed = true;
  follow_addresses();
  return std::nullopt;
}

void Service::Impl::import_health() {
  const auto text = read_whole(state_dir + "/health.json");
  const auto snapshot = text ? parse_health_snapshot(*text) : std::nullopt;
  if (snapshot) health->import_state(*snapshot);
}

void Service::Impl::store_health() {
  health_dirty = health_state_changed = false;
  const std::string text = to_json_text(health->export_state());
  const auto error = write_atomically(state_dir + "/health.json", text);
  if (error && storage_warning != *error) spdlog::warn("{}", *error);
  storage_warning = error.value_or("");
  store_pace.stored(text.size(), monotonic_ns());
}

// At once, or where that takes too long to do it at each change, in a moment with all that changes until
// then.
void Service::Impl::store_health_in_time() {
  const uint64_t now = monotonic_ns(), due = store_pace.next_ns();
  if (now >= due) return store_health();
  if (std::exchange(store_scheduled, true)) return;
  store_timer.expires_after(std::chrono::nanoseconds(due - now));
  store_timer.async_wait([this](const boost::system::error_code& error) {
    if (error) return;  // cancelled: there may be no `this` any more
    store_scheduled = false;
    if (health_state_changed) store_health();
  });
}

void Service::Impl::follow_addresses() {
  std::set<Address> used;
  for (const auto& pool : config.pools)
    for (const auto& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address) used.insert(*address);
  for (const auto& record : ids.retired_backends())
    for (const Address& address : {record.address_v4, record.address_v6})
      if (!address.is_none()) used.insert(address);
  for (const auto& [address, when] : asked_for) used.insert(address);
  neighbours->use(std::move(used));
}

// Next hops and routes, if the kernel's or the backends have changed.
void Service::Impl::follow_routing() {
  if (!all_changed && neighbours->version() == seen_neighbours) return;
  std::set<Address> backends;
  for (const auto& pool : config.pools)
    for (const auto& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address) backends.insert(*address);
  for (const auto& record : ids.retired_backends())
    for (const Address& address : {record.address_v4, record.address_v6})
      if (!address.is_none()) backends.insert(address);
  seen_neighbours = neighbours->version();
  auto routes = neighbours->routes_for_ports(interfaces);
  std::set<std::pair<int, Address>> gateways;  // their MACs change without a word to us: they are asked, too
  for (const auto& route : routes)
    if (route.hop && !route.hop->on_link) gateways.emplace(route.hop->ifindex, route.hop->neighbour);
  neighbours->use_gateways(std::move(gateways));
  Routing next = next_hops.build({.next_hop = [this](const Address& a) { return neighbours->next_hop(a); },
                                  .routes = [&routes] { return routes; },
                                  .vlans = [this](const std::string& i) { return neighbours->vlans(i); },
                                  .own = [this] { return neighbours->own_addresses(); }},
                                 interfaces, backends);
  all_changed |= next.hop_of != routing.hop_of;
  routing = std::move(next);
  routing_warnings = routing.warnings;
}

// Whether a host whose checks all time out is gone, or only too busy for them: with nat its packets tell, in
// dsr modes, where they go past the dataplane, whether it still answers for its address. One at the end of a
// tunnel through routers does not tell in any way.
bool Service::Impl::is_gone(const std::string& pool, const std::string& backend) const {
  const auto in = [](const auto& list, const std::string& name) {
    return std::find_if(list.begin(), list.end(), [&](const auto& each) { return each.name == name; });
  };
  const auto p = in(config.pools, pool);
  if (p == config.pools.end()) return true;
  const auto b = in(p->backends, backend);
  if (b == p->backends.end()) return true;
  if (watch.has_sent(ids.backend(pool, *b), monotonic_ns())) return false;
  const bool direct = std::any_of(config.services.begin(), config.services.end(), [&](const auto& service) {
    return service.pool == pool && !translates(service.mode);
  });
  if (!direct) return true;
  bool gone = true;
  for (const auto& address : {b->v4, b->v6}) {
    if (!address) continue;
    neighbours->verify(*address);
    gone = gone && neighbours->is_lost(*address);
  }
  return gone;
}

void Service::Impl::look_at_silent() {
  for (const auto& [pool, backend] : silent) {
    if (!is_gone(pool, backend)) continue;
    changed_pools.insert(pool);
    schedule_publish();
  }
}

// `unsure`: whether the backend may only be too busy to answer; null: who asks does not care.
BackendView Service::Impl::backend_view(const std::string& pool, const std::string& backend,
                                        bool* unsure) const {
  const auto status = health->status(pool, backend);
  if (!status) return BackendView{};
  const bool is_unsure = status->silent && !is_gone(pool, backend);
  if (unsure != nullptr) *unsure = is_unsure;
  return {.healthy = status->healthy,
          .known = status->state != HealthState::unknown,
          .unreachable = status->unreachable && !is_unsure,
          .unconfirmed = status->unconfirmed,
          .refused_ports = status->refused_ports,
          .down_since_ns = static_cast<uint64_t>(std::max<int64_t>(status->since_monotonic_ns, 0)),
          .hearing = status->hearing,
          .damped_until_ns = static_cast<uint64_t>(status->damped_until_monotonic_ns)};
}

BuildInput Service::Impl::build_input() {
  if (all_changed) silent.clear();
  const auto health_of = [this](const std::string& pool, const std::string& backend) {
    bool unsure = false;
    const BackendView view = backend_view(pool, backend, &unsure);
    if (unsure)
      silent.emplace(pool, backend);
    else
      silent.erase({pool, backend});
    return view;
  };
  return {.config = config,
          .ids = ids,
          .operators = operators,
          .routing = routing,
          .health = health_of,
          .config_version = config_version,
          .now_ns = monotonic_ns(),
          .changed_pools = all_changed ? nullptr : &changed_pools,
          .now_realtime_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
          .is_cut_off = isolation.keeps_table(),
          .is_returning = isolation.is_returning()};
}

void Service::Impl::schedule_publish() {
  if (publish_scheduled) return;
  publish_scheduled = true;
  publish_timer.expires_after(kCoalesce);
  publish_timer.async_wait([this](const boost::system::error_code& error) {
    if (!error) publish();
  });
}

// While nobody is served: better a table a moment later than one that sends connections to dead backends. By
// then each check has a result, or has been silent for its timeout.
void Service::Impl::hold_back_first_table() {
  // A dataplane that forwards by a table that was lost since needs to hear of failures at once.
  if (publisher->recovered() || watch.serves()) return;
  Milliseconds longest{0};
  for (const PoolConfig& pool : config.pools)
    for (const CheckConfig& check : pool.checks)
      longest = std::max(longest, std::min(check.fast_interval, check.interval) + check.timeout);
  longest = std::min(longest, kLongestHold);
  held_until_ns = monotonic_ns() + static_cast<uint64_t>(std::chrono::nanoseconds(longest).count());
  if (is_held_back())
    spdlog::info("the first table waits for the first results of all checks, {} ms at most", longest.count());
}

bool Service::Impl::is_held_back() {
  if (!held_until_ns) return false;
  const auto is_unknown = [this](const PoolConfig& pool) {
    return std::any_of(pool.backends.begin(), pool.backends.end(), [&](const BackendConfig& backend) {
      const auto status = health->status(pool.name, backend.name);
      return status && status->state == HealthState::unknown;
    });
  };
  if (monotonic_ns() < *held_until_ns && std::any_of(config.pools.begin(), config.pools.end(), is_unknown))
    return true;
  held_until_ns.reset();
  return false;
}

// Why what an operator asked for is not in use yet; "" if it is.
std::string Service::Impl::waits_for() const {
  return held_until_ns ? "the first table waits for the first results of the checks" : "";
}

void Service::Impl::publish() {
  publish_scheduled = false;
  if (is_held_back()) return;
  // First: a control that is killed now must not come back with the health from before.
  if (health_state_changed) store_health_in_time();
  follow_routing();
  follow_isolation();
  const TableContent& content = builder.build(build_input());
  all_changed = false;
  changed_pools.clear();
  note_tiers();
  // Much that may change the table does not.
  const uint64_t hash = builder.content_hash() ^ config_version;
  if (hash == published_hash && publish_error.empty()) return;
  store_ids();
  try {
    const uint64_t generation = publisher->publish(content);
    ids.published(generation, content);
    publish_error.clear();
    published_hash = hash;
    note_applied();
    spdlog::debug("published table {}: {} new blocks, {} bytes", generation, publisher->last_written().blocks,
                  publisher->last_written().bytes);
  } catch (const std::exception& e) {
    std::string error = std::string("the table cannot be published; the last one stays: ") + e.what();
    if (error != publish_error) spdlog::error("{}", error);  // it is tried again every second
    publish_error = std::move(error);
  }
}

bool Service::Impl::takes_out_last(const std::string& pool, const std::string& backend) const {
  const PoolDecision* decision = builder.decision(ids.pool(pool));
  for (const auto& p : config.pools)
    for (const auto& b : p.backends)
      if (p.name == pool && b.name == backend && decision)
        return decision->usable.size() == 1 && decision->standby.empty() &&
               decision->usable.contains(ids.backend(pool, b));
  return false;
}

std::optional<std::string> remove_installed(const std::string& instance) {
  if (auto error = Addresses(instance).remove_all()) return error;
  return Guard(instance).remove();
}

}  // namespace portico
