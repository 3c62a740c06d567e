// SPDX-License-Identifier: Apache-2.0
// portico-dataplane: forwards packets by the table in the run directory, until it is told to stop.
#include <rte_cycles.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>

#include "contract/adopter.h"
#include "dataplane/adoption.h"
#include "dataplane/capture.h"
#include "dataplane/device.h"
#include "dataplane/eal.h"
#include "dataplane/flow_keeper.h"
#include "dataplane/handover.h"
#include "dataplane/host_path.h"
#include "dataplane/log.h"
#include "dataplane/options.h"
#include "dataplane/plan_text.h"
#include "dataplane/ports.h"
#include "dataplane/report.h"
#include "dataplane/signals.h"
#include "dataplane/start_plan.h"
#include "dataplane/start_priority.h"
#include "dataplane/steering.h"
#include "dataplane/table_wait.h"
#include "dataplane/tap.h"
#include "dataplane/telemetry.h"
#include "dataplane/telemetry_socket.h"
#include "dataplane/upgrade.h"
#include "dataplane/worker_thread.h"

namespace portico {
namespace {

// Exit status of one that ends before it forwards, and says why. The unit waits before it starts the next.
constexpr int kRefusedToStart = 4;

constexpr uint64_t kTelemetryCheckNs = 1'000'000'000;
constexpr uint64_t kLinkCheckNs = 100'000'000;

// One pool per NUMA node that a worker runs on; by worker.
std::vector<rte_mempool*> create_pools(const StartPlan& plan) {
  std::map<int, rte_mempool*> by_node;
  std::vector<rte_mempool*> by_worker;
  for (const int node : plan.placement.worker_nodes) {
    rte_mempool*& pool = by_node[node];
    if (pool == nullptr) {
      pool = create_mbuf_pool("packets-" + std::to_string(by_node.size()), plan.mbufs, plan.data_room,
                              plan.huge_pages ? node : -1);
    }
    by_worker.push_back(pool);
  }
  return by_worker;
}

void throw_failure(const Steering::Failure& failure) {
  if (failure) throw std::runtime_error(*failure);
}

// The steering program's object, if any port may need it.
std::string write_steering_object(const Snapshot& snapshot, const std::string& run_dir) {
  std::string path;
  for (const PortRecord& port : snapshot.ports->records<PortRecord>()) {
    if (plan_port(port, 0, 1, "").kind != PortKind::kernel_interface) continue;
    throw_failure(Steering::write_object(run_dir, path));
    break;
  }
  return path;
}

// Kernel interfaces have a key, which is not ours to change; so the others get that one. Else that of before,
// by which NAT flows' ports were chosen.
RssKey choose_rss_key(const StartPlan& plan, FlowStore* store) {
  for (const PortPlan& port : plan.ports) {
    if (port.kind != PortKind::kernel_interface) continue;
    if (const auto model = rss_of_interface(port.interface)) return model->key;
  }
  return store != nullptr ? store->rss_key() : random_rss_key();
}

// By which NAT ports workers get replies of their flows at once; the log says what it comes to.
std::shared_ptr<const ReplySpreads> choose_spreads(const std::vector<PortRss>& ports, uint32_t workers) {
  if (workers == 1) return nullptr;
  const CommonRss rss = common_rss(ports);
  auto spreads = rss.model ? std::make_shared<const ReplySpreads>(*rss.model, workers)
                           : std::make_shared<ReplySpreads>();
  const auto tell = [](const char* family, bool is_spread) {
    log_info(
        std::string("NAT replies over ") + family +
        (is_spread ? " come to their worker by RSS" : " are handed over between workers: no RSS for them"));
  };
  tell("IPv4", spreads->v4 != nullptr);
  tell("IPv6", spreads->v6 != nullptr);
  for (const std::string& name : rss.others) {
    if (rss.model)
      log_info("port " + name + " does not spread as the others do: NAT replies on it are handed over");
  }
  return spreads;
}

void open_ports(const StartPlan& plan, const RssKey& rss_key, const std::vector<rte_mempool*>& pools,
                Ports& ports, Steering& steering) {
  for (size_t i = 0; i < plan.ports.size(); ++i) {
    const PortPlan& port = plan.ports[i];
    const bool is_steered = port.kind == PortKind::kernel_interface;
    // A dead dataplane's program drops what it steered, on a net_af_packet port, too.
    const auto failure = port.interface.empty() ? std::nullopt : Steering::detach_orphan(port.interface);
    if (is_steered)
      throw_failure(failure);
    else if (failure)
      log_warning(*failure);
    if (is_steered)
      if (const auto changed = keep_vlan_tags(port.interface); !changed.empty())
        log_info("port " + port.name + ": VLAN tags stay in its frames now (" + changed + " off)");
    if (is_steered && interface_facts(port.interface).driver == "veth")
      log_warning(
          "port " + port.name +
          " is a veth interface: only its peer can leave VLAN tags in frames, else those of any VLAN "
          "pass for untagged; on the peer's side: `ethtool -K PEER txvlan off tx-vlan-stag-hw-insert off`");
    ports.open(port, plan.workers, plan.mtus[i], rss_key, pools);
    if (is_steered) throw_failure(steering.attach(port.interface));
  }
}

// Null if the kernel has an interface of its own for every port, or none has a wire.
std::unique_ptr<HostPath> create_host_path(const Ports& ports, uint32_t workers, rte_mempool* pool) {
  std::vector<std::unique_ptr<HostDevice>> taps;
  bool any = false;
  for (const Port& port : ports.list()) {
    taps.push_back(
        port.plan.tap.empty() ? nullptr : std::make_unique<Tap>(port.plan.tap, ports.mac_of(port), port.mtu));
    any |= taps.back() != nullptr;
  }
  if (!any) return nullptr;
  auto host = std::make_unique<HostPath>("host", std::move(taps), workers, pool);
  host->set_links(ports.links());
  return host;
}

// DPDK's numbers, in the table's order.
std::vector<uint16_t> port_ids_of(const Ports& ports) {
  std::vector<uint16_t> ids;
  for (const Port& port : ports.list()) ids.push_back(port.id);
  return ids;
}

std::vector<std::unique_ptr<WorkerThread>> create_workers(const StartPlan& plan, const Ports& ports,
                                                          const std::vector<rte_mempool*>& pools,
                                                          const std::shared_ptr<const ReplySpreads>& spreads,
                                                          const FlowKeeper& keeper, HandoverRings& rings,
                                                          HostPath* host) {
  const std::vector<uint16_t> port_ids = port_ids_of(ports);
  std::vector<std::unique_ptr<WorkerThread>> workers;
  for (uint32_t i = 0; i < plan.workers; ++i) {
    WorkerConfig config{.index = i,
                        .worker_count = plan.workers,
                        .flows = plan.flows_per_worker,
                        .tsc_hz = rte_get_tsc_hz(),
                        .numa_node = plan.placement.worker_nodes[i],
                        .huge_pages = plan.huge_pages,
                        .kernel_ports = host != nullptr ? host->ports() : 0,
                        .spreads = spreads,
                        .pool = pools[i]};
    for (size_t p = 0; p < ports.list().size(); ++p) {
      config.macs[p] = ports.mac_of(ports.list()[p]);
      config.promiscuous_ports |= uint64_t{ports.list()[p].is_promiscuous} << p;
    }
    keeper.configure(config);
    workers.push_back(std::make_unique<WorkerThread>(config, static_cast<int>(plan.placement.worker_cpus[i]),
                                                     port_ids, &rings, host));
  }
  return workers;
}

// Why the dataplane ends.
enum class End { stop, upgrade };

// What turns while it runs.
struct Running {
  Adoption& adoption;
  Report& report;
  const std::vector<WorkerThread*>& workers;
  const Ports& ports;
  const Steering& steering;
  HostPath* host;  // null: none
  TelemetrySocket& socket;
  FlowKeeper& keeper;
  const Upgrade& upgrade;
};

// Until a signal or an upgrade: follow the table, tell what is counted.
End serve(Signals& signals, const Running& r) {
  uint64_t next_report_ns = 0, next_check_ns = 0, next_links_ns = 0;
  while (!signals.wait(kAdoptIntervalUs)) {
    const uint64_t now_ns = monotonic_ns();
    if (r.upgrade.is_due(now_ns)) return End::upgrade;
    const uint64_t generation = r.adoption.status().adopted_generation;
    r.adoption.tick(now_ns);
    // Control waits for this word, so a new generation is told at once.
    if (now_ns < next_report_ns && r.adoption.status().adopted_generation == generation) continue;
    r.keeper.turn(r.adoption.status().adopted_generation != 0, r.workers, r.report);
    r.report.write(DataplaneState::running, r.adoption, r.workers, r.ports, r.steering, r.host);
    next_report_ns = now_ns + uint64_t{kFeedbackIntervalMs} * 1'000'000;
    if (r.host != nullptr && now_ns >= next_links_ns) {
      r.host->set_links(r.ports.links());
      next_links_ns = now_ns + kLinkCheckNs;
    }
    if (now_ns < next_check_ns) continue;
    r.socket.check();
    next_check_ns = now_ns + kTelemetryCheckNs;
  }
  return End::stop;
}

// Sets `has_started` when it forwards.
End run(const Options& options, Upgrade& upgrade, bool& has_started) {
  // Before any thread, so that all inherit the mask.
  Signals signals;

  // The feedback file's lock makes this the run directory's only dataplane.
  ensure_run_dir(options.run_dir);
  Report report(options.run_dir);

  // The first table says which ports, workers and memory there are.
  Adopter adopter(options.run_dir,
                  [&report](uint64_t epoch, uint64_t generation) { report.set_pending(epoch, generation); });
  const auto snapshot = wait_for_table(options.run_dir, adopter, report, signals);
  if (snapshot == nullptr) return End::stop;
  // Not earlier: a table may be long in coming, and many bad ones come first.
  StartPriority priority;
  const StartPlan plan =
      make_start_plan(*snapshot, options, write_steering_object(*snapshot, options.run_dir));
  for (const std::string& warning : plan.placement.warnings) log_warning(warning);
  report.write_state(DataplaneState::starting, {});

  // DPDK, packet buffers, ports with the steering program on them, workers.
  if (plan.huge_pages) require_huge_pages(plan.memory);
  const Eal eal(plan.eal, options.run_dir);
  TelemetrySocket socket(options.run_dir, options.file_prefix);
  const std::vector<rte_mempool*> pools = create_pools(plan);
  Ports ports;
  Steering steering;
  FlowKeeper keeper(plan, options);
  open_ports(plan, choose_rss_key(plan, keeper.store()), pools, ports, steering);
  HandoverRings rings("handover", plan.placement.worker_nodes);
  const std::vector<PortRss> rss = ports.rss();
  if (keeper.store() != nullptr) keeper.store()->note_rss(rss_digest(rss));
  const auto host = create_host_path(ports, plan.workers, pools.front());
  const auto threads =
      create_workers(plan, ports, pools, choose_spreads(rss, plan.workers), keeper, rings, host.get());
  std::vector<WorkerThread*> workers;
  workers.reserve(threads.size());
  for (const auto& thread : threads) workers.push_back(thread.get());

  // The workers get the table before they run; services are steered when they have it.
  Adoption adoption(adopter, workers, &steering, keeper.store());
  // Whatever ends this, the workers stop before the tables that they use go.
  const auto stop_workers = [&workers, &host](void*) {
    for (WorkerThread* worker : workers) worker->stop();
    if (host != nullptr) host->stop();
  };
  const std::unique_ptr<void, decltype(stop_workers)> stopper(&adoption, stop_workers);
  adoption.start_with(snapshot, monotonic_ns());
  priority.end();
  for (WorkerThread* worker : workers) worker->start();
  if (host != nullptr) host->start();
  has_started = true;
  log_info("forwarding: " + std::to_string(plan.workers) + " workers, generation " +
           std::to_string(snapshot->generation));
  End end = End::stop;
  {
    Capture capture(options.run_dir, port_ids_of(ports), workers);
    const Telemetry telemetry(report, adoption, workers, upgrade, capture);
    end = serve(signals, {adoption, report, workers, ports, steering, host.get(), socket, keeper, upgrade});
  }

  // In this order nothing touches what is gone; control's guard keeps the services from the kernel.
  log_info("stopping");
  report.write(DataplaneState::stopping, adoption, workers, ports, steering, host.get());
  for (WorkerThread* worker : workers) worker->stop();
  if (host != nullptr) host->stop();
  ports.close();
  steering.detach();
  return end;
}

// What run() would start, and why. No log is open: answers and complaints are for whoever asks.
int dry_run(const Options& options) {
  Adopter adopter(options.run_dir);
  const AdoptResult result = adopter.poll();
  if (result.kind != AdoptResult::Kind::adopted) {
    throw std::runtime_error(result.kind == AdoptResult::Kind::refused
                                 ? "the table is not usable: " + result.text
                                 : "no table in " + options.run_dir + "; start portico-control first");
  }
  const std::string object = options.run_dir + "/(steering program)";
  const StartPlan plan = draw_plan(*result.snapshot, options, object);
  std::fputs((options.json ? plan_json(plan) : plan_text(plan)).c_str(), stdout);
  return plan.objections.empty() ? 0 : 1;
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  portico::Options options;
  switch (portico::parse_options(argc, argv, options)) {
    case portico::OptionsOutcome::exit_success:
      return 0;
    case portico::OptionsOutcome::exit_failure:
      return portico::kRefusedToStart;
    case portico::OptionsOutcome::run:
      break;
  }
  bool has_started = false;
  try {
    if (options.dry_run) return portico::dry_run(options);
    portico::start_log(options.log_level);
    portico::Upgrade upgrade({argv, argv + argc}, options);
    if (portico::run(options, upgrade, has_started) == portico::End::stop) return 0;
    // All that run() had is closed.
    throw std::runtime_error(upgrade.replace());
  } catch (const std::exception& error) {
    if (options.dry_run)
      std::fprintf(stderr, "portico-dataplane: %s\n", error.what());
    else
      portico::log_error(error.what());
    return has_started || options.dry_run ? 1 : portico::kRefusedToStart;
  }
}
