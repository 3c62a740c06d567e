// SPDX-License-Identifier: Apache-2.0
#include "contract/validate_records.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "contract/validate.h"

namespace portico {

namespace {

template <size_t N>
bool is_terminated(const char (&text)[N]) {
  return std::memchr(text, '\0', N) != nullptr;
}

// True for a value of the enum whose values are 1..last.
template <typename Enum>
bool is_one_of(uint8_t value, Enum last) {
  return value >= 1 && value <= static_cast<uint8_t>(last);
}

std::string above(uint64_t value, uint64_t limit) {
  return std::to_string(value) + " is above " + std::to_string(limit);
}

constexpr std::string_view kNotTerminated = "not ended by a NUL byte";
constexpr std::string_view kNotUnicast = "not an address that one host can have";
constexpr std::string_view kUnknownValue = "unknown value";
constexpr std::string_view kNotAscending = "not in ascending order, or twice";
constexpr std::string_view kNotSources = "neither a prefix of hosts' addresses of its family nor none";
constexpr std::string_view kHostBits = "bits beyond the prefix length are set, or the length is too large";

bool is_flag(uint8_t value) {
  return value <= 1;
}

// Addresses that hosts of the family can have, or none.
bool is_tunnel_source(const Prefix& prefix, Family family) {
  if (prefix.address.is_none()) return prefix.length == 0;
  return prefix.address.family() == family && prefix.length != 0 && prefix.is_canonical() &&
         is_unicast(prefix.address);
}

// A MAC address of one interface: not a group, not all zero.
bool is_unicast_mac(const uint8_t (&mac)[6]) {
  static constexpr uint8_t kZero[6] = {};
  return (mac[0] & 1) == 0 && std::memcmp(mac, kZero, sizeof kZero) != 0;
}

}  // namespace

bool is_prime(uint32_t n) {
  if (n < 4) return n >= 2;
  if (n % 2 == 0) return false;
  for (uint32_t d = 3; uint64_t{d} * d <= n; d += 2)
    if (n % d == 0) return false;
  return true;
}

bool is_unicast(const Address& address) {
  if (!address.is_v4()) return !address.is_none() && address.bytes[0] != 0xff;
  const uint8_t* v4 = address.bytes.data() + 12;
  return v4[0] != 0 && v4[0] < 224;  // 0/8 is "this network"; 224/4 multicast, 240/4 reserved and broadcast
}

std::string complain(std::string_view block, size_t index, std::string_view field, std::string_view what) {
  return std::string(block) + "[" + std::to_string(index) + "]." + std::string(field) + ": " +
         std::string(what);
}

std::string of_pool(std::string_view block, unsigned pool) {
  return "pool " + std::to_string(pool) + " " + std::string(block);
}

Complaint check_settings(const SettingsRecord& s) {
  const auto bad = [](std::string_view field, std::string_view what) {
    return complain("settings", 0, field, what);
  };
  if (s.workers > kMaxWorkers) return bad("workers", above(s.workers, kMaxWorkers));
  if (s.flows == 0 || s.flows > kMaxFlows) return bad("flows", "not in 1.." + std::to_string(kMaxFlows));
  if (s.mbufs > kMaxMbufs) return bad("mbufs", above(s.mbufs, kMaxMbufs));
  if (!is_one_of(s.idle, IdleMode::adaptive)) return bad("idle", kUnknownValue);
  if (!is_one_of(s.huge_pages, HugePages::off)) return bad("huge_pages", kUnknownValue);
  if (!is_one_of(s.fragments, Fragments::drop)) return bad("fragments", kUnknownValue);
  if (s.timeout_syn_ms == 0) return bad("timeout_syn_ms", "0");
  if (s.timeout_closing_ms == 0) return bad("timeout_closing_ms", "0");
  if (s.timeout_half_closed_ms == 0) return bad("timeout_half_closed_ms", "0");
  if (s.gue_port == 0) return bad("gue_port", "0");
  if (!is_terminated(s.instance)) return bad("instance", kNotTerminated);
  if (!is_terminated(s.worker_cpus)) return bad("worker_cpus", kNotTerminated);
  if (!is_tunnel_source({s.tunnel_source_v4, s.tunnel_length_v4}, Family::v4))
    return bad("tunnel_source_v4", kNotSources);
  if (!is_tunnel_source({s.tunnel_source_v6, s.tunnel_length_v6}, Family::v6))
    return bad("tunnel_source_v6", kNotSources);
  return std::nullopt;
}

Complaint check_ports(std::span<const PortRecord> ports) {
  for (size_t i = 0; i < ports.size(); ++i) {
    const PortRecord& p = ports[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("ports", i, field, what);
    };
    if (!is_terminated(p.name)) return bad("name", kNotTerminated);
    if (p.name[0] == '\0') return bad("name", "empty");
    for (size_t k = 0; k < i; ++k)
      if (std::strcmp(ports[k].name, p.name) == 0) return bad("name", "twice");
    if (!is_terminated(p.devargs)) return bad("devargs", kNotTerminated);
    if (p.queues > kMaxWorkers) return bad("queues", above(p.queues, kMaxWorkers));
    if (p.mtu != 0 && (p.mtu < kMinMtu || p.mtu > kMaxMtu)) return bad("mtu", "out of range");
  }
  return std::nullopt;
}

namespace {

// The field of the service's limits that is out of range, or null.
const char* wrong_limit(const ServiceRecord& s) {
  if (s.source_rate > kMaxSourceLimit) return "source_rate";
  if (s.source_burst > kMaxSourceLimit || (s.source_rate == 0) != (s.source_burst == 0))
    return "source_burst";
  if (s.source_flows > kMaxSourceLimit) return "source_flows";
  if (s.source_prefix_v4 < 1 || s.source_prefix_v4 > 32) return "source_prefix_v4";
  if (s.source_prefix_v6 < 1 || s.source_prefix_v6 > 128) return "source_prefix_v6";
  return nullptr;
}

}  // namespace

Complaint check_services(std::span<const ServiceRecord> services) {
  for (size_t i = 0; i < services.size(); ++i) {
    const ServiceRecord& s = services[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("services", i, field, what);
    };
    if (s.id >= kMaxServices) return bad("id", above(s.id, kMaxServices - 1));
    if (i > 0 && s.id <= services[i - 1].id) return bad("id", kNotAscending);
    if (!is_one_of(s.mode, Mode::dnat)) return bad("mode", kUnknownValue);
    if (!is_one_of(s.affinity, Affinity::client)) return bad("affinity", kUnknownValue);
    if (s.affinity_prefix_v6 < 1 || s.affinity_prefix_v6 > 128)
      return bad("affinity_prefix_v6", "not in 1..128");
    if (s.proxy_protocol > static_cast<uint8_t>(ProxyProtocol::v2))
      return bad("proxy_protocol", kUnknownValue);
    if (s.proxy_protocol != 0 && s.mode != static_cast<uint8_t>(Mode::nat))
      return bad("proxy_protocol", "in another mode than nat");
    if (s.idle_timeout_ms == 0) return bad("idle_timeout_ms", "0");
    if (const char* const field = wrong_limit(s)) return bad(field, "out of range");
    if (!is_terminated(s.name)) return bad("name", kNotTerminated);
  }
  return std::nullopt;
}

Complaint check_listeners(std::span<const ListenerRecord> listeners) {
  for (size_t i = 0; i < listeners.size(); ++i) {
    const ListenerRecord& l = listeners[i];
    if (!is_unicast(l.address)) return complain("listeners", i, "address", kNotUnicast);
    if (l.port == 0) return complain("listeners", i, "port", "0");
    if (i == 0) continue;
    const ListenerRecord& before = listeners[i - 1];
    if (l.address < before.address || (l.address == before.address && l.port <= before.port))
      return complain("listeners", i, "address", kNotAscending);
  }
  return std::nullopt;
}

Complaint check_pool(const PoolRecord& p, unsigned id, size_t backends) {
  const auto bad = [id](std::string_view field, std::string_view what) {
    return complain(of_pool("pool", id), 0, field, what);
  };
  if (p.id != id) return bad("id", "not the block's");
  if (!is_one_of(p.disposition, PoolDisposition::drop)) return bad("disposition", kUnknownValue);
  if (p.lookup_size < kMinLookupSize || p.lookup_size > kMaxLookupSize)
    return bad("lookup_size", "out of range");
  if (!is_prime(p.lookup_size)) return bad("lookup_size", std::to_string(p.lookup_size) + " is not prime");
  if (p.backend_count != backends) return bad("backend_count", "not the number of backends");
  if (p.usable_count > backends) return bad("usable_count", above(p.usable_count, backends));
  if (p.fallback_columns > kMaxFallbackColumns)
    return bad("fallback_columns", above(p.fallback_columns, kMaxFallbackColumns));
  if (!is_terminated(p.name)) return bad("name", kNotTerminated);
  return std::nullopt;
}

namespace {

Complaint check_backend_addresses(const BackendRecord& b, std::string_view block, size_t i) {
  const bool has_v4 = !b.address_v4.is_none(), has_v6 = !b.address_v6.is_none();
  if (has_v4 && (!b.address_v4.is_v4() || !is_unicast(b.address_v4)))
    return complain(block, i, "address_v4", kNotUnicast);
  if (has_v6 && (b.address_v6.is_v4() || !is_unicast(b.address_v6)))
    return complain(block, i, "address_v6", kNotUnicast);
  if (!has_v4 && !has_v6) return complain(block, i, "address_v4", "no address of either family");
  if (has_v4 != (b.next_hop_v4 != kNone))
    return complain(block, i, "next_hop_v4", "there if and only if the address is, it is not");
  if (has_v6 != (b.next_hop_v6 != kNone))
    return complain(block, i, "next_hop_v6", "there if and only if the address is, it is not");
  return std::nullopt;
}

Complaint check_backend(const BackendRecord& b, std::string_view block, size_t i, unsigned pool) {
  const auto bad = [&](std::string_view field, std::string_view what) {
    return complain(block, i, field, what);
  };
  if (b.id >= kMaxBackends) return bad("id", above(b.id, kMaxBackends - 1));
  if (b.pool != pool) return bad("pool", "not the block's");
  if (b.weight > kMaxWeight) return bad("weight", above(b.weight, kMaxWeight));
  if (!is_one_of(b.disposition, BackendDisposition::reset)) return bad("disposition", kUnknownValue);
  if (b.reset_count > kMaxResetPorts) return bad("reset_count", above(b.reset_count, kMaxResetPorts));
  for (unsigned k = 0; k < b.reset_count; ++k)
    if (b.reset_ports[k] == 0) return bad("reset_ports", "port 0");
  if (!is_terminated(b.name)) return bad("name", kNotTerminated);
  return check_backend_addresses(b, block, i);
}

}  // namespace

Complaint check_backends(std::span<const BackendRecord> backends, unsigned pool) {
  const std::string block = of_pool("backends", pool);
  for (size_t i = 0; i < backends.size(); ++i) {
    if (auto complaint = check_backend(backends[i], block, i, pool)) return complaint;
    if (i > 0 && backends[i].id <= backends[i - 1].id) return complain(block, i, "id", kNotAscending);
  }
  return std::nullopt;
}

Complaint check_lookup(std::span<const uint16_t> slots, const PoolRecord& pool,
                       std::span<const BackendRecord> backends) {
  if (slots.size() != (pool.usable_count > 0 ? pool.lookup_size : 0))
    return complain(of_pool("pool", pool.id), 0, "lookup_size", "not the number of the lookup's slots");
  // Mark what the slots name, then strike out what they may name: one store per slot, since this is most of
  // what a big table costs.
  std::array<uint8_t, 65536> named{};
  for (const uint16_t id : slots) named[id] = 1;
  uint32_t usable = 0;
  for (const BackendRecord& backend : backends) {
    if (backend.weight == 0) continue;
    usable += named[backend.id];
    named[backend.id] = 0;
  }
  // memchr looks at many bytes at a time, std::find at one.
  if (const void* const stranger = std::memchr(named.data(), 1, named.size())) {
    const auto id = static_cast<uint16_t>(static_cast<const uint8_t*>(stranger) - named.data());
    const auto slot = std::find(slots.begin(), slots.end(), id) - slots.begin();
    return complain(of_pool("lookup", pool.id), static_cast<size_t>(slot), "backend",
                    std::to_string(id) + " is no backend of the pool that has weight");
  }
  if (usable != pool.usable_count)
    return complain(of_pool("pool", pool.id), 0, "usable_count",
                    "not the number of backends that hold slots");
  return std::nullopt;
}

Complaint check_fallback(std::span<const uint16_t> fallback, std::span<const uint16_t> lookup,
                         const PoolRecord& pool, std::span<const BackendRecord> backends) {
  const std::string block = of_pool("fallback", pool.id);
  const uint32_t columns = pool.fallback_columns;
  if (fallback.size() != lookup.size() * columns)
    return complain(of_pool("pool", pool.id), 0, "fallback_columns",
                    "not the number of the fallback's columns");
  std::array<uint8_t, 65536> is_known{};
  is_known[kNone] = 1;
  for (const BackendRecord& backend : backends) is_known[backend.id] = 1;
  for (size_t i = 0; i < fallback.size(); ++i) {
    const uint16_t id = fallback[i];
    if (!is_known[id])
      return complain(block, i, "backend", std::to_string(id) + " is no backend of the pool");
    const size_t slot = i / columns, first = slot * columns;
    if (id == kNone) continue;
    if (id == lookup[slot]) return complain(block, i, "backend", "the slot's own");
    for (size_t k = first; k < i; ++k)
      if (fallback[k] == id || fallback[k] == kNone)
        return complain(block, i, "backend", "named before, or after the last");
  }
  return std::nullopt;
}

Complaint check_next_hops(std::span<const NextHopRecord> next_hops, size_t ports) {
  for (size_t i = 0; i < next_hops.size(); ++i) {
    const NextHopRecord& h = next_hops[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("next_hops", i, field, what);
    };
    if (!is_unicast(h.address)) return bad("address", kNotUnicast);
    if (!is_flag(h.resolved)) return bad("resolved", "neither 0 nor 1");
    if (h.resolved && !is_unicast_mac(h.mac)) return bad("mac", "not the address of one interface");
    if (h.resolved && !is_unicast_mac(h.source_mac))
      return bad("source_mac", "not the address of one interface");
    if (h.port >= ports) return bad("port", "there is no port " + std::to_string(h.port));
    if (h.vlan > kMaxVlan) return bad("vlan", above(h.vlan, kMaxVlan));
    if (h.mtu < kMinMtu || h.mtu > kMaxMtu) return bad("mtu", "out of range");
  }
  return std::nullopt;
}

Complaint check_routes(std::span<const RouteRecord> routes, size_t next_hops, size_t ports) {
  for (size_t i = 0; i < routes.size(); ++i) {
    const RouteRecord& r = routes[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("routes", i, field, what);
    };
    const Prefix prefix{r.prefix, r.length};
    if (!prefix.is_canonical()) return bad("prefix", kHostBits);
    if (i > 0 && prefix <= Prefix{routes[i - 1].prefix, routes[i - 1].length})
      return bad("prefix", kNotAscending);
    if (!is_flag(r.on_link)) return bad("on_link", "neither 0 nor 1");
    if (r.next_hop >= next_hops && !(r.on_link && r.next_hop == kNone))
      return bad("next_hop", "there is no next hop " + std::to_string(r.next_hop));
    if (r.port >= ports) return bad("port", "there is no port " + std::to_string(r.port));
  }
  return std::nullopt;
}

Complaint check_access(std::span<const AccessRecord> access) {
  for (size_t i = 0; i < access.size(); ++i) {
    const AccessRecord& a = access[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("access", i, field, what);
    };
    if (a.list >= kMaxAccessLists) return bad("list", above(a.list, kMaxAccessLists - 1));
    const Prefix prefix{a.prefix, a.length};
    if (!prefix.is_canonical()) return bad("prefix", kHostBits);
    if (!is_flag(a.allow)) return bad("allow", "neither 0 nor 1");
    if (i == 0) continue;
    const AccessRecord& before = access[i - 1];
    if (a.list < before.list || (a.list == before.list && prefix <= Prefix{before.prefix, before.length}))
      return bad("prefix", kNotAscending);
  }
  return std::nullopt;
}

Complaint check_nat(std::span<const NatRecord> nat) {
  for (size_t i = 0; i < nat.size(); ++i) {
    if (!is_unicast(nat[i].address)) return complain("nat", i, "address", kNotUnicast);
    for (size_t k = 0; k < i; ++k)
      if (nat[k].address == nat[i].address) return complain("nat", i, "address", "twice");
    if (nat[i].first_port == 0) return complain("nat", i, "first_port", "0");
    if (nat[i].last_port < nat[i].first_port) return complain("nat", i, "last_port", "below first_port");
  }
  return std::nullopt;
}

Complaint check_vlans(std::span<const VlanRecord> vlans, size_t ports) {
  for (size_t i = 0; i < vlans.size(); ++i) {
    const VlanRecord& v = vlans[i];
    const auto bad = [i](std::string_view field, std::string_view what) {
      return complain("vlans", i, field, what);
    };
    if (v.port >= ports) return bad("port", "there is no port " + std::to_string(v.port));
    if (v.vlan == 0) return bad("vlan", "0");
    if (v.vlan > kMaxVlan) return bad("vlan", above(v.vlan, kMaxVlan));
    if (i > 0 && std::pair(v.port, v.vlan) <= std::pair(vlans[i - 1].port, vlans[i - 1].vlan))
      return bad("vlan", kNotAscending);
  }
  return std::nullopt;
}

Complaint check_own(std::span<const OwnRecord> own) {
  for (size_t i = 0; i < own.size(); ++i) {
    if (!is_unicast(own[i].address)) return complain("own", i, "address", kNotUnicast);
    if (i > 0 && own[i].address <= own[i - 1].address) return complain("own", i, "address", kNotAscending);
  }
  return std::nullopt;
}

}  // namespace portico
