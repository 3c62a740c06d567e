// SPDX-License-Identifier: Apache-2.0
// /portico/explain: a worker's answer in names.
#include <cstdio>

#include "dataplane/port_plan.h"
#include "dataplane/telemetry_commands.h"

namespace portico {
namespace {

// The answer's indexes were taken from the worker's table, which may be a generation older than `snapshot`:
// every index is looked up, none is trusted.
const ServiceRecord* find_service(const Snapshot& snapshot, uint16_t id) {
  for (const ServiceRecord& service : snapshot.services->records<ServiceRecord>()) {
    if (service.id == id) return &service;
  }
  return nullptr;
}

const BackendRecord* find_backend(const Snapshot& snapshot, uint16_t id) {
  for (const Snapshot::Pool& pool : snapshot.pools) {
    for (const BackendRecord& backend : pool.backends->records<BackendRecord>()) {
      if (backend.id == id) return &backend;
    }
  }
  return nullptr;
}

std::string pool_name(const Snapshot& snapshot, uint16_t id) {
  for (const Snapshot::Pool& pool : snapshot.pools) {
    if (pool.pool().id == id) return field_text(pool.pool().name);
  }
  return "";
}

void add_next_hop(const Snapshot& snapshot, uint16_t index, const char* name, TelemetryObject& out) {
  const auto hops = snapshot.next_hops->records<NextHopRecord>();
  if (index >= hops.size()) return;
  const NextHopRecord& hop = hops[index];
  const auto ports = snapshot.ports->records<PortRecord>();
  char mac[18];
  std::snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", hop.mac[0], hop.mac[1], hop.mac[2],
                hop.mac[3], hop.mac[4], hop.mac[5]);
  out.add_object(name, [&](TelemetryObject& object) {
    object.add("address", to_string(hop.address));
    object.add("resolved", hop.resolved);
    object.add("mac", std::string(mac));
    object.add("vlan", hop.vlan);
    object.add("mtu", hop.mtu);
    if (hop.port < ports.size()) object.add("port", field_text(ports[hop.port].name));
  });
}

void add_service(const Snapshot& snapshot, uint16_t id, TelemetryObject& out) {
  const ServiceRecord* service = find_service(snapshot, id);
  if (service == nullptr) return;
  out.add("service", field_text(service->name));
  out.add("service_id", service->id);
  out.add("mode", std::string(mode_name(static_cast<Mode>(service->mode))));
  out.add(
      "affinity",
      std::string(static_cast<Affinity>(service->affinity) == Affinity::client ? "client" : "connection"));
  out.add("pool", pool_name(snapshot, service->pool));
}

void add_backend(const Snapshot& snapshot, const ExplainQuery& query, uint16_t id, TelemetryObject& out) {
  if (id == kNone) return;
  out.add("backend_id", id);
  const BackendRecord* backend = find_backend(snapshot, id);
  if (backend == nullptr) return;  // it left the table; its flow is still known
  out.add("backend", field_text(backend->name));
  const Address& address = query.client.is_v4() ? backend->address_v4 : backend->address_v6;
  if (!address.is_none()) out.add("backend_address", to_string(address));
}

void add_answer(const Snapshot& snapshot, const ExplainQuery& query, const ExplainAnswer& answer,
                uint32_t worker, TelemetryObject& out) {
  add_service(snapshot, answer.service, out);
  out.add("access", std::string(answer.allowed ? "allowed" : "denied"));
  out.add("flow", answer.found ? 1 : 0);
  out.add("chosen_by", std::string(answer.found ? "flow" : "hash"));
  if (answer.found) {
    out.add("worker", worker);
    out.add("state", std::string(flow_state_name(answer.state)));
    out.add("probationary", answer.is_probationary ? 1 : 0);
    out.add("idle_ms", answer.idle_ms);
  }
  if (answer.service != kNone) out.add("slot", answer.slot);
  add_backend(snapshot, query, answer.backend, out);
  if (!answer.tunnel_source.is_none()) {
    out.add("tunnel_source", to_string(answer.tunnel_source));
    out.add("tunnel_destination", to_string(answer.tunnel_destination));
  }
  if (!answer.nat_address.is_none()) {
    out.add("nat_address", to_string(answer.nat_address));
    out.add("nat_port", answer.nat_port);
  }
  add_next_hop(snapshot, answer.next_hop, "next_hop", out);
  add_next_hop(snapshot, answer.return_hop, "return_hop", out);
}

}  // namespace

const char* flow_state_name(FlowState state) {
  static constexpr const char* kNames[] = {"none",       "syn",     "established", "client_fin",
                                           "server_fin", "closing", "reset",       "dead"};
  const auto index = static_cast<size_t>(state);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

void answer_explain(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  std::string complaint;
  const auto query = parse_explain(parameters, complaint);
  if (!query) {
    out.add("error", complaint);
    return;
  }
  const auto snapshot = telemetry.adoption().snapshot();
  uint32_t worker = 0;
  std::string silent;
  const auto answer = telemetry.explain(*query, worker, silent);
  out.add("client", to_string(query->client));
  out.add("client_port", query->client_port);
  out.add("vip", to_string(query->vip));
  out.add("vip_port", query->vip_port);
  if (!silent.empty()) out.add("silent_workers", silent);
  if (!answer || snapshot == nullptr) {
    out.add("error", "no worker answers; see /portico/workers");
    return;
  }
  if (answer->service == kNone) {
    out.add("error", "no service listens on that address and port");
    return;
  }
  add_answer(*snapshot, *query, *answer, worker, out);
}

}  // namespace portico
