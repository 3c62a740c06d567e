// SPDX-License-Identifier: Apache-2.0
#include "dataplane/start_plan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>

#include "dataplane/buffers.h"
#include "dataplane/device.h"
#include "dataplane/handover.h"
#include "dataplane/topology.h"

namespace portico {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint32_t kDefaultMtu = 1500;

const SettingsRecord& settings_of(const Snapshot& snapshot) {
  return snapshot.settings->records<SettingsRecord>()[0];
}

// Queues that arriving packets may use on a port, as far as the host tells before DPDK runs.
uint32_t queues_of(const PortPlan& port, unsigned cores) {
  if (port.kind == PortKind::kernel_interface) return interface_facts(port.interface).arrival_queues();
  if (port.kind == PortKind::pci) return cores;
  return 1;
}

uint32_t settle_workers(const Snapshot& snapshot, const StartPlan& plan, unsigned cores) {
  uint32_t workers = settings_of(snapshot).workers;
  if (workers == 0) {
    std::vector<uint32_t> queues;
    for (const PortPlan& port : plan.ports) queues.push_back(queues_of(port, cores));
    workers = choose_workers(queues, cores);
  }
  for (const PortRecord& port : snapshot.ports->records<PortRecord>()) {
    if (port.queues == 0 || port.queues == workers) continue;
    throw std::runtime_error("port " + field_text(port.name) + ": " + std::to_string(port.queues) +
                             " queues and " + std::to_string(workers) +
                             " workers; each worker polls one queue of each port: set `workers: " +
                             std::to_string(port.queues) + "` or change the port's `queues`");
  }
  return workers;
}

void settle_memory(const Snapshot& snapshot, StartPlan& plan) {
  const SettingsRecord& settings = settings_of(snapshot);
  uint32_t mtu = kDefaultMtu;
  for (size_t i = 0; i < plan.ports.size(); ++i) {
    mtu = std::max(mtu, plan.mtus[i]);
    if (!plan.ports[i].interface.empty()) mtu = std::max(mtu, interface_facts(plan.ports[i].interface).mtu);
  }
  const auto port_count = static_cast<uint32_t>(plan.ports.size());
  plan.data_room = mbuf_data_room(mtu);
  plan.mbufs = settings.mbufs != 0 ? settings.mbufs : choose_mbuf_count(port_count, plan.workers);
  const std::set<int> nodes(plan.placement.worker_nodes.begin(), plan.placement.worker_nodes.end());
  plan.memory = nodes.size() * mbuf_memory(plan.mbufs, plan.data_room) +
                uint64_t{plan.workers} * plan.workers * (kHandoverRingSize + 64) * sizeof(void*);
  plan.huge_pages = static_cast<HugePages>(settings.huge_pages) == HugePages::required;
  plan.flows_per_worker = std::max<uint32_t>(1, settings.flows / plan.workers);
}

bool same_text(const PortRecord& a, const PortRecord& b) {
  return field_text(a.name) == field_text(b.name) && field_text(a.devargs) == field_text(b.devargs);
}

}  // namespace

uint32_t choose_workers(const std::vector<uint32_t>& queues, unsigned cores) {
  uint32_t workers = cores > 1 ? cores - 1 : 1;
  bool any_known = false;
  for (const uint32_t count : queues) {
    if (count == 0) continue;
    any_known = true;
    workers = std::min(workers, count);
  }
  return any_known ? std::min(workers, kMaxWorkers) : 1;
}

StartPlan draw_plan(const Snapshot& snapshot, const Options& options, const std::string& xdp_program) {
  StartPlan plan;
  const auto records = snapshot.ports->records<PortRecord>();
  if (records.empty()) throw std::runtime_error("the table names no port; set `dataplane.ports`");
  for (const PortRecord& record : records) {
    plan.ports.push_back(plan_port(record, static_cast<uint32_t>(plan.ports.size()), 1, xdp_program));
    plan.mtus.push_back(record.mtu);
  }
  const Topology topology = load_topology();
  const bool is_here = hwloc_topology_is_thissystem(topology.get()) != 0;
  const std::vector<unsigned> usable = usable_cpus(topology.get());
  plan.machine = describe_machine(topology.get());
  plan.workers = settle_workers(snapshot, plan, physical_cores(topology.get(), usable));
  for (uint32_t i = 0; i < plan.ports.size(); ++i) {
    plan.ports[i] = plan_port(records[i], i, plan.workers, xdp_program);
    const auto objection = is_here ? objection_to(plan.ports[i], plan.workers) : std::nullopt;
    if (objection) plan.objections.push_back(*objection);
    plan.port_nodes.push_back(node_of_port(topology.get(), plan.ports[i]));
  }
  plan.placement = place_workers(
      topology.get(), {plan.workers, field_text(settings_of(snapshot).worker_cpus), plan.port_nodes, usable});
  if (!plan.placement.error.empty()) throw std::runtime_error(plan.placement.error);
  settle_memory(snapshot, plan);
  plan.eal = {.file_prefix = options.file_prefix,
              .huge_pages = plan.huge_pages,
              // DPDK's own objects beside the buffers: ports, rings, telemetry. Not touched, not taken.
              .memory_mb = static_cast<uint32_t>((plan.memory + plan.memory / 4) / kMiB + 64),
              .main_cpus = plan.placement.main_cpus,
              .ports = plan.ports,
              .log_level = options.log_level};
  return plan;
}

StartPlan make_start_plan(const Snapshot& snapshot, const Options& options, const std::string& xdp_program) {
  StartPlan plan = draw_plan(snapshot, options, xdp_program);
  if (!plan.objections.empty()) throw std::runtime_error(plan.objections.front());
  return plan;
}

std::optional<std::string> restart_needed(const Snapshot& running, const Snapshot& next) {
  const SettingsRecord& a = settings_of(running);
  const SettingsRecord& b = settings_of(next);
  std::string text;
  const auto note = [&text](bool differs, const char* name) {
    if (differs) text += (text.empty() ? "" : ", ") + std::string(name);
  };
  note(a.workers != b.workers, "workers");
  note(a.flows != b.flows, "flows");
  note(a.mbufs != b.mbufs, "mbufs");
  note(a.huge_pages != b.huge_pages, "huge_pages");
  note(field_text(a.worker_cpus) != field_text(b.worker_cpus), "worker_cpus");
  const auto old_ports = running.ports->records<PortRecord>();
  const auto new_ports = next.ports->records<PortRecord>();
  const bool same_ports = std::equal(old_ports.begin(), old_ports.end(), new_ports.begin(), new_ports.end(),
                                     [&](const PortRecord& x, const PortRecord& y) {
                                       // Control asks for a queue per worker.
                                       const bool same_queues =
                                           x.queues == y.queues || a.workers != b.workers;
                                       return same_text(x, y) && same_queues && x.mtu == y.mtu;
                                     });
  note(!same_ports, "ports");
  if (text.empty()) return std::nullopt;
  return text;
}

bool ports_conflict(const Snapshot& running, const Snapshot& next) {
  const auto old_ports = running.ports->records<PortRecord>();
  const auto new_ports = next.ports->records<PortRecord>();
  for (size_t i = 0; i < std::min(old_ports.size(), new_ports.size()); ++i) {
    if (!same_text(old_ports[i], new_ports[i])) return true;
  }
  return false;
}

}  // namespace portico
