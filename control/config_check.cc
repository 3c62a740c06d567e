// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

constexpr uint16_t kDatabasePort = 3306;
constexpr uint32_t kSlotsPerBackend = 100;

std::string service_path(const ServiceConfig& service) {
  return "services/" + service.name;
}
std::string pool_path(const PoolConfig& pool) {
  return "pools/" + pool.name;
}
std::string backend_path(const PoolConfig& pool, const BackendConfig& backend) {
  return pool_path(pool) + "/backends/" + backend.name;
}
int family_number(Family family) {
  return static_cast<int>(family);
}
bool listens_on(const ServiceConfig& service, Family family) {
  return std::ranges::any_of(service.listen, [&](const Endpoint& e) { return e.address.family() == family; });
}

void check_references(ConfigReader& reader, const Config& config) {
  std::vector<std::string_view> names;
  for (const PoolConfig& pool : config.pools) names.push_back(pool.name);
  for (const ServiceConfig& service : config.services) {
    if (service.pool.empty() || std::ranges::find(names, service.pool) != names.end()) continue;
    const auto meant = closest(service.pool, names);
    reader.error(reader.mark(service_path(service) + "/pool"),
                 fmt::format("there is no pool `{}`; {}", service.pool,
                             meant ? fmt::format("did you mean `{}`?", *meant) : "define it under `pools`"));
  }
  for (const PoolConfig& pool : config.pools) {
    if (std::ranges::count(config.services, pool.name, &ServiceConfig::pool) == 0) {
      reader.warning(
          reader.mark(pool_path(pool)),
          fmt::format("no service uses pool `{}`; it is not checked and forwards nothing", pool.name));
    }
  }
}

void check_listeners(ConfigReader& reader, const Config& config) {
  std::map<Endpoint, std::string> owner;
  for (const ServiceConfig& service : config.services) {
    for (size_t i = 0; i < service.listen.size(); ++i) {
      const auto [first, is_new] = owner.emplace(service.listen[i], service.name);
      if (is_new) continue;
      reader.error(reader.mark(fmt::format("{}/listen/#{}", service_path(service), i)),
                   fmt::format("{} is already a listener of service `{}`; remove one of them",
                               format_endpoint(service.listen[i]), first->second));
    }
  }
}

// A database open to everybody is never implied.
void check_database_access(ConfigReader& reader, const Config& config) {
  for (const ServiceConfig& service : config.services) {
    const bool database =
        service.backend_port == kDatabasePort ||
        std::ranges::any_of(service.listen, [](const Endpoint& e) { return e.port == kDatabasePort; });
    if (!database || reader.source(service_path(service) + "/allow") != nullptr) continue;
    reader.error(
        reader.mark(service_path(service)),
        fmt::format("service `{}` opens a database port to everybody; add `allow: [PREFIX, ...]`, or "
                    "`allow: any` if that is meant",
                    service.name));
  }
}

void check_prefixes(ConfigReader& reader, const ServiceConfig& service, std::string_view name,
                    const std::vector<Prefix>& prefixes) {
  for (size_t i = 0; i < prefixes.size(); ++i) {
    if (service.listen.empty() || listens_on(service, prefixes[i].address.family())) continue;
    reader.warning(
        reader.mark(fmt::format("{}/{}/#{}", service_path(service), name, i)),
        fmt::format("`{}` never matches: the service has no listener of its family", to_string(prefixes[i])));
  }
}

void check_modes(ConfigReader& reader, const Config& config) {
  const ServiceConfig* first_silent = nullptr;
  bool uses_nat = false;
  for (const ServiceConfig& service : config.services) {
    const bool tells_clients = service.proxy_protocol != ProxyProtocol::none;
    uses_nat = uses_nat || service.mode == Mode::nat;
    if (service.mode == Mode::nat && !tells_clients && first_silent == nullptr) first_silent = &service;
    if (service.mode != Mode::nat && tells_clients) {
      reader.error(reader.mark(service_path(service) + "/proxy_protocol"),
                   fmt::format("`proxy_protocol` works in mode nat only; in mode {} the portals see the "
                               "clients' own addresses: remove it",
                               to_word(service.mode)));
    }
    for (const Endpoint& listen : service.listen) {
      if (translates(service.mode) || service.backend_port == 0 || service.backend_port == listen.port)
        continue;
      reader.error(
          reader.mark(service_path(service) + "/backend_port"),
          fmt::format("mode {} cannot translate ports; remove `backend_port` or use mode nat or dnat",
                      to_word(service.mode)));
      break;
    }
    check_prefixes(reader, service, "allow", service.allow);
    check_prefixes(reader, service, "deny", service.deny);
  }
  if (first_silent != nullptr) {
    reader.warning(
        reader.mark(service_path(*first_silent)),
        "mode nat hides the clients: the portals see only the balancer's NAT addresses; where they need the "
        "clients' own, write `proxy_protocol: v2` and set the portals' servers up for it, or use mode "
        "dnat, dsr-l2, dsr-ipip or dsr-gue");
  }
  if (!uses_nat && !config.nat.addresses.empty() && !config.services.empty()) {
    reader.warning(reader.mark("nat"), "no service uses mode nat; `nat` has no effect");
  }
}

// A port that speaks the PROXY protocol mostly refuses what comes without a header, Apache's mod_remoteip
// does.
void check_proxy_ports(ConfigReader& reader, const Config& config) {
  for (const ServiceConfig& with : config.services) {
    if (with.proxy_protocol == ProxyProtocol::none) continue;
    for (const ServiceConfig& without : config.services) {
      if (without.proxy_protocol != ProxyProtocol::none || without.pool != with.pool) continue;
      const auto shared = std::ranges::find_if(without.listen, [&](const Endpoint& e) {
        return uses_port(with, without.backend_port != 0 ? without.backend_port : e.port);
      });
      if (shared == without.listen.end()) continue;
      reader.warning(
          reader.mark(service_path(without)),
          fmt::format("services `{}` and `{}` reach the same port of pool `{}`, one with "
                      "`proxy_protocol` and one without; Apache refuses one of them: use two ports",
                      with.name, without.name, with.pool));
    }
  }
}

// Every family that a service listens on needs a NAT address and an address of every backend, but in tunnels
// (check_tunnel): the pool's table does not know families.
void check_families(ConfigReader& reader, const Config& config) {
  for (const ServiceConfig& service : config.services) {
    for (const Family family : {Family::v4, Family::v6}) {
      if (!listens_on(service, family)) continue;
      const auto of_family = [&](const Address& a) { return a.family() == family; };
      if (service.mode == Mode::nat && std::ranges::none_of(config.nat.addresses, of_family)) {
        reader.error(
            reader.mark(service_path(service)),
            fmt::format("service `{}` listens on IPv{} in mode nat, but there is no IPv{} NAT address; add "
                        "one to `nat: addresses`",
                        service.name, family_number(family), family_number(family)));
      }
      const auto pool = std::ranges::find(config.pools, service.pool, &PoolConfig::name);
      if (pool == config.pools.end() || is_tunnel(service.mode)) continue;
      for (const BackendConfig& backend : pool->backends) {
        const bool unread = !backend.v4 && !backend.v6;
        if (unread || (family == Family::v4 ? backend.v4 : backend.v6)) continue;
        reader.error(
            reader.mark(backend_path(*pool, backend)),
            fmt::format(
                "backend `{}` has no IPv{} address, but service `{}` listens on IPv{}; add one to its "
                "addresses",
                backend.name, family_number(family), service.name, family_number(family)));
      }
    }
  }
}

// What an address is already used for, and by whom.
using AddressUses = std::map<Address, std::string>;

void check_nat_addresses(ConfigReader& reader, const Config& config, const AddressUses& vips,
                         AddressUses& nats) {
  for (size_t i = 0; i < config.nat.addresses.size(); ++i) {
    const Address& address = config.nat.addresses[i];
    const Mark mark = reader.mark(fmt::format("nat/addresses/#{}", i));
    if (const auto vip = vips.find(address); vip != vips.end()) {
      reader.error(mark,
                   fmt::format("{} is also a listener of service `{}`; a NAT address must be of its own",
                               to_string(address), vip->second));
    }
    if (!nats.emplace(address, "nat").second) {
      reader.error(mark, fmt::format("{} is listed twice; remove one of them", to_string(address)));
    }
  }
}

// A check of an address of the balancer's own would ask the balancer.
void check_targets(ConfigReader& reader, const PoolConfig& pool, const BackendConfig& backend,
                   const AddressUses& vips, const AddressUses& nats) {
  const auto refuse = [&](const Address& address, const std::string& path) {
    if (!vips.contains(address) && !nats.contains(address)) return;
    reader.error(reader.mark(backend_path(pool, backend) + path),
                 fmt::format("backend `{}` is checked at {}, an address of the balancer itself; name the "
                             "address of the server that the backend needs",
                             backend.name, to_string(address)));
  };
  if (backend.check_address) refuse(*backend.check_address, "/check_address");
  for (const auto& [name, endpoint] : backend.check_addresses)
    refuse(endpoint.address, "/check_addresses/" + name);
}

// The dataplane takes what is sent to a service or a NAT address: no answer would come back.
void check_sources(ConfigReader& reader, const PoolConfig& pool, const CheckConfig& check,
                   const AddressUses& vips, const AddressUses& nats) {
  for (const auto& source : {check.source_v4, check.source_v6}) {
    if (!source || (!vips.contains(*source) && !nats.contains(*source))) continue;
    reader.error(
        reader.mark(fmt::format("{}/checks/{}/source", pool_path(pool), check.name)),
        fmt::format("{} is an address of the balancer's services; checks come from an address of the "
                    "host's own",
                    to_string(*source)));
  }
}

void check_addresses(ConfigReader& reader, const Config& config) {
  AddressUses vips, nats;
  for (const ServiceConfig& service : config.services) {
    for (const Endpoint& listen : service.listen) vips.emplace(listen.address, service.name);
  }
  check_nat_addresses(reader, config, vips, nats);
  for (const PoolConfig& pool : config.pools) {
    for (const CheckConfig& check : pool.checks) check_sources(reader, pool, check, vips, nats);
    AddressUses backends;
    for (const BackendConfig& backend : pool.backends) {
      check_targets(reader, pool, backend, vips, nats);
      for (const auto& address : {backend.v4, backend.v6}) {
        if (!address) continue;
        const Mark mark =
            reader.mark(backend_path(pool, backend) + (address->is_v4() ? "/addresses/v4" : "/addresses/v6"));
        if (const auto vip = vips.find(*address); vip != vips.end()) {
          reader.error(mark,
                       fmt::format("backend `{}` has the address {} of service `{}`; a backend needs its own "
                                   "address",
                                   backend.name, to_string(*address), vip->second));
        }
        if (nats.contains(*address)) {
          reader.error(mark,
                       fmt::format("backend `{}` has the NAT address {}; a backend needs its own address",
                                   backend.name, to_string(*address)));
        }
        const auto [first, is_new] = backends.emplace(*address, backend.name);
        if (is_new) continue;
        reader.error(mark, fmt::format("backend `{}` has the address {} of backend `{}`; remove one of them",
                                       backend.name, to_string(*address), first->second));
      }
    }
  }
}

void check_pool(ConfigReader& reader, const PoolConfig& pool) {
  const auto& backends = pool.backends;
  if (!backends.empty() && pool.table_size / backends.size() < kSlotsPerBackend) {
    reader.warning(
        reader.mark(pool_path(pool) + "/table_size"),
        fmt::format("{} table slots for {} backends are fewer than {} each, so that shares are uneven; raise "
                    "`table_size`",
                    pool.table_size, backends.size(), kSlotsPerBackend));
  }
  if (!backends.empty() && std::ranges::none_of(backends, [](const auto& b) { return b.weight > 0; })) {
    reader.warning(reader.mark(pool_path(pool)),
                   "every backend has weight 0: the pool serves no new connection");
  }
  std::vector<std::string_view> checks;
  for (const CheckConfig& check : pool.checks) checks.push_back(check.name);
  for (const BackendConfig& backend : backends) {
    for (const auto& [name, endpoint] : backend.check_addresses) {
      if (std::ranges::find(checks, name) != checks.end()) continue;
      const auto meant = closest(name, checks);
      const std::string hint = meant            ? fmt::format("did you mean `{}`?", *meant)
                               : checks.empty() ? "the pool has no checks"
                                                : "its checks are " + join_choices(checks);
      reader.error(reader.mark(backend_path(pool, backend) + "/check_addresses/" + name),
                   fmt::format("there is no check `{}` in pool `{}`; {}", name, pool.name, hint));
    }
  }
}

void check_credentials_used(ConfigReader& reader, const PoolConfig& pool) {
  const std::string path = pool_path(pool) + "/check/credentials";
  if (reader.source(path) == nullptr || pool.checks.empty()) return;
  if (std::ranges::count(pool.checks, CheckKind::mysql, &CheckConfig::kind) > 0) return;
  reader.error(reader.mark(path), "`credentials` are for mysql checks, and this pool has none; remove them");
}

}  // namespace

void cross_check(ConfigReader& reader, const ConfigDraft& draft) {
  const Config& config = draft.config;
  check_references(reader, config);
  check_listeners(reader, config);
  check_database_access(reader, config);
  check_modes(reader, config);
  check_proxy_ports(reader, config);
  check_families(reader, config);
  check_addresses(reader, config);
  check_tunnel(reader, config);
  check_dnat(reader, config);
  check_zones(reader, config);
  size_t prefixes = 0;
  for (const ServiceConfig& service : config.services) {
    prefixes += service.allow.size() + service.deny.size();
    if (service.allow_any && !service.deny.empty()) prefixes += 2;  // all of both families, to allow them
  }
  if (prefixes > kMaxAccessPrefixes) {
    reader.error(reader.mark("services"),
                 fmt::format("{} prefixes in all `allow` and `deny` lists; at most {} are possible", prefixes,
                             kMaxAccessPrefixes));
  }
  for (const PoolConfig& pool : config.pools) {
    check_pool(reader, pool);
    check_credentials_used(reader, pool);
  }
}

}  // namespace portico
