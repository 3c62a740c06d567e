// SPDX-License-Identifier: Apache-2.0
#include "control/builder_services.h"

#include <algorithm>
#include <tuple>

namespace portico {
namespace {

// RFC 5382 section 5 (REQ-5) asks four minutes of connections that are half way in or out. A SYN that nobody
// answers is given up by clients earlier. A closed connection stays as long as Linux keeps it in TIME_WAIT at
// the side that closed first: until then its NAT port would meet the old connection there.
constexpr uint32_t kSynTimeoutMs = 60'000;
constexpr uint32_t kClosingTimeoutMs = 60'000;
constexpr uint32_t kHalfClosedTimeoutMs = 240'000;

SettingsRecord build_settings(const Config& config) {
  SettingsRecord s{};
  s.hash_key[0] = config.hash_key[0];
  s.hash_key[1] = config.hash_key[1];
  s.workers = config.dataplane.workers;
  s.flows = config.dataplane.flows;
  s.mbufs = config.dataplane.mbufs;
  s.idle = static_cast<uint8_t>(config.dataplane.idle);
  s.huge_pages = static_cast<uint8_t>(config.dataplane.huge_pages);
  s.new_flow_rate = config.dataplane.new_flow_rate;
  s.reset_rate = config.dataplane.reset_rate;
  s.timeout_syn_ms = kSynTimeoutMs;
  s.timeout_closing_ms = kClosingTimeoutMs;
  s.timeout_half_closed_ms = kHalfClosedTimeoutMs;
  s.tunnel_source_v4 = config.tunnel.v4 ? config.tunnel.v4->address : Address{};
  s.tunnel_length_v4 = config.tunnel.v4 ? config.tunnel.v4->length : 0;
  s.tunnel_source_v6 = config.tunnel.v6 ? config.tunnel.v6->address : Address{};
  s.tunnel_length_v6 = config.tunnel.v6 ? config.tunnel.v6->length : 0;
  s.gue_port = config.tunnel.gue_port;
  s.fragments = static_cast<uint8_t>(config.dataplane.fragments);
  set_text(s.instance, config.instance);
  set_text(s.worker_cpus, config.dataplane.worker_cpus);
  return s;
}

ServiceRecord build_service(const ServiceConfig& service, const Ids& ids) {
  ServiceRecord r{};
  r.id = ids.service(service);
  r.pool = ids.pool(service.pool);
  r.backend_port = service.backend_port;
  r.access_list = service.allow_any && service.deny.empty() ? kNone : r.id;
  r.mode = static_cast<uint8_t>(service.mode);
  r.affinity = static_cast<uint8_t>(service.affinity);
  r.affinity_prefix_v6 = service.affinity_prefix_v6;
  r.proxy_protocol = static_cast<uint8_t>(service.proxy_protocol);
  r.idle_timeout_ms = static_cast<uint32_t>(service.idle_timeout.count());
  r.source_rate = service.limits.new_per_second;
  r.source_burst = service.limits.burst != 0 ? service.limits.burst : service.limits.new_per_second;
  r.source_flows = service.limits.connections;
  r.source_prefix_v4 = service.limits.prefix_v4;
  r.source_prefix_v6 = service.limits.prefix_v6;
  set_text(r.name, service.name);
  return r;
}

AccessRecord access_record(uint16_t list, const Prefix& prefix, bool allow) {
  AccessRecord record{};
  record.prefix = prefix.address;
  record.list = list;
  record.length = prefix.length;
  record.allow = allow ? 1 : 0;
  return record;
}

// A service's access list has the service's id. One that admits nobody says so: a list has at least one
// entry. Whom a list does not name it denies.
void build_access(const ServiceConfig& service, uint16_t list, std::vector<AccessRecord>& access) {
  if (service.allow_any && service.deny.empty()) return;
  if (!service.allow_any && service.allow.empty() && service.deny.empty())
    access.push_back(access_record(list, {Address::from_v4(0), 0}, false));
  for (const Prefix& all : {Prefix{Address::from_v4(0), 0}, Prefix{Address{}, 0}})
    if (service.allow_any && std::ranges::count(service.deny, all) == 0)
      access.push_back(access_record(list, all, true));
  for (const Prefix& prefix : service.allow) access.push_back(access_record(list, prefix, true));
  for (const Prefix& prefix : service.deny) access.push_back(access_record(list, prefix, false));
}

// Sorts by a key and leaves out what has a key that was there already.
template <typename Record, typename Key>
void sort_unique(std::vector<Record>& records, Key key) {
  std::sort(records.begin(), records.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  const auto same = [&](const auto& a, const auto& b) { return key(a) == key(b); };
  records.erase(std::unique(records.begin(), records.end(), same), records.end());
}

void build_ports(const Config& config, TableContent& content) {
  for (const auto& port : config.dataplane.ports) {
    PortRecord record{};
    set_text(record.name, port.name);
    set_text(record.devargs, port.devargs);
    record.queues = config.dataplane.workers;
    record.mtu = port.mtu;
    content.ports.push_back(record);
  }
}

}  // namespace

void build_services(const Config& config, const Ids& ids, TableContent& content) {
  content.settings = build_settings(config);
  content.ports.clear();
  content.services = ids.retired_services();
  content.listeners.clear();
  content.access.clear();
  content.nat.clear();
  build_ports(config, content);
  // A retired service's access list goes with its listeners: nothing is admitted through it any more.
  for (auto& retired : content.services) retired.access_list = kNone;
  for (const auto& service : config.services) {
    const ServiceRecord record = build_service(service, ids);
    content.services.push_back(record);
    build_access(service, record.id, content.access);
    for (const Endpoint& endpoint : service.listen) {
      ListenerRecord listener{};
      listener.address = endpoint.address;
      listener.port = endpoint.port;
      listener.service = record.id;
      content.listeners.push_back(listener);
    }
  }
  for (const Address& address : config.nat.addresses) {
    NatRecord record{};
    record.address = address;
    record.first_port = config.nat.first_port;
    record.last_port = config.nat.last_port;
    content.nat.push_back(record);
  }
  sort_unique(content.services, [](const ServiceRecord& r) { return r.id; });
  sort_unique(content.listeners, [](const ListenerRecord& r) { return std::tuple(r.address, r.port); });
  sort_unique(content.access, [](const AccessRecord& r) { return std::tuple(r.list, r.prefix, r.length); });
  sort_unique(content.nat, [](const NatRecord& r) { return r.address; });
}

std::set<uint16_t> backend_ports(const Config& config, const std::string& pool) {
  std::set<uint16_t> ports;
  for (const auto& service : config.services) {
    if (service.pool != pool) continue;
    if (service.backend_port != 0)
      ports.insert(service.backend_port);
    else
      for (const Endpoint& endpoint : service.listen) ports.insert(endpoint.port);
  }
  return ports;
}

}  // namespace portico
