// SPDX-License-Identifier: Apache-2.0
// /portico/flows: the flows that live now.
#include <rte_cycles.h>

#include "dataplane/flow_list.h"
#include "dataplane/telemetry_commands.h"

namespace portico {
namespace {

// Flows per answer: DPDK cuts it at 16 KiB.
constexpr uint32_t kPage = 40;
// Entries looked at for one answer: other questions wait as long.
constexpr uint32_t kMostVisits = 1 << 18;

std::string endpoint(const Address& address, uint16_t port) {
  const std::string text = to_string(address);
  return (address.is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

void add_flow(const ListedFlow& flow, uint32_t worker, TelemetryObject& out) {
  out.add("client", endpoint(flow.client, flow.client_port));
  out.add("vip", endpoint(flow.vip, flow.vip_port));
  if (!flow.nat.is_none()) out.add("nat", endpoint(flow.nat, flow.nat_port));
  out.add("service_id", flow.service);
  out.add("backend_id", flow.backend);
  out.add("state", std::string(flow_state_name(flow.state)));
  out.add("probationary", flow.is_probationary ? 1 : 0);
  out.add("idle_ms", flow.idle_ms);
  out.add("worker", worker);
}

}  // namespace

void answer_flows(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  std::string complaint;
  const auto query = parse_flows_query(parameters, complaint);
  if (!query) return out.add("error", complaint);
  FlowWalk walk{.filter = query->filter, .at = query->at, .most_visits = kMostVisits};
  walk.most_flows = std::min(query->count, kPage);
  const auto& workers = telemetry.workers();
  uint32_t worker = query->worker;
  if (worker < workers.size()) {
    workers[worker]->worker().look_through(walk, rte_rdtsc());
    if (walk.is_over) walk.at = 0, ++worker;
  }
  if (worker < workers.size()) out.add("next", flows_cursor(worker, walk.at));
  out.add_object("states", [&](TelemetryObject& states) {
    for (uint32_t state = 1; state < std::size(walk.by_state); ++state)
      if (walk.by_state[state] != 0)
        states.add(flow_state_name(static_cast<FlowState>(state)), walk.by_state[state]);
  });
  for (uint32_t i = 0; i < walk.flows.size(); ++i)
    out.add_object(std::to_string(i),
                   [&](TelemetryObject& flow) { add_flow(walk.flows[i], query->worker, flow); });
}

}  // namespace portico
