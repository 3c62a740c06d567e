// SPDX-License-Identifier: Apache-2.0
#include "control/api/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <span>

#include "contract/drop_reasons.h"
#include "contract/run_dir.h"
#include "control/nat_use.h"

namespace portico {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// One field of a record of the feedback, as a metric.
template <typename Record>
struct Field {
  const char* name;
  const char* help;
  MetricType type;
  uint64_t Record::*value;
  Labels labels;  // beyond those that name the record
};

constexpr auto kCounter = MetricType::Counter;
constexpr auto kGauge = MetricType::Gauge;

const std::vector<Field<PortFeedback>> kPortFields = {
    {"portico_port_packets_total",
     "Packets by port and direction.",
     kCounter,
     &PortFeedback::rx_packets,
     {{"direction", "in"}}},
    {"portico_port_packets_total", "", kCounter, &PortFeedback::tx_packets, {{"direction", "out"}}},
    {"portico_port_errors_total",
     "Packets that the device counts as faulty.",
     kCounter,
     &PortFeedback::rx_errors,
     {{"direction", "in"}}},
    {"portico_port_errors_total", "", kCounter, &PortFeedback::tx_errors, {{"direction", "out"}}},
    {"portico_port_missed_packets_total", "Packets that the device dropped since the workers were too slow.",
     kCounter, &PortFeedback::rx_missed},
    {"portico_port_no_buffer_packets_total", "Packets that the device dropped for want of a packet buffer.",
     kCounter, &PortFeedback::rx_no_mbuf},
};

const std::vector<Field<WorkerFeedback>> kWorkerFields = {
    {"portico_worker_packets_total",
     "Packets by worker and direction.",
     kCounter,
     &WorkerFeedback::rx_packets,
     {{"direction", "in"}}},
    {"portico_worker_packets_total", "", kCounter, &WorkerFeedback::tx_packets, {{"direction", "out"}}},
    {"portico_worker_handed_over_packets_total", "Packets given to the worker that owns their flow.",
     kCounter, &WorkerFeedback::handed_over},
    {"portico_worker_sleeps_total", "Times the worker slept because nothing came.", kCounter,
     &WorkerFeedback::sleeps},
    {"portico_worker_busy_cycles_total", "CPU cycles spent on bursts with packets.", kCounter,
     &WorkerFeedback::busy_cycles},
    {"portico_worker_cycles_total", "CPU cycles since the worker started.", kCounter,
     &WorkerFeedback::total_cycles},
    {"portico_worker_flows", "Flows in the worker's table.", kGauge, &WorkerFeedback::flows},
    {"portico_worker_flow_capacity", "Flows that the worker's table holds.", kGauge,
     &WorkerFeedback::flow_capacity},
    {"portico_worker_nat_ports_used", "NAT ports in use, over all backends.", kGauge,
     &WorkerFeedback::nat_ports_used},
    {"portico_worker_nat_fullest_ports_used", "NAT ports that the fullest backend endpoint uses.", kGauge,
     &WorkerFeedback::nat_fullest_used},
    {"portico_worker_nat_fullest_ports", "NAT ports that the worker has for that endpoint.", kGauge,
     &WorkerFeedback::nat_fullest_ports},
    {"portico_worker_flows_uninserted_total",
     "Flows in DSR modes forwarded by hash alone: above new_flow_rate, or the table is full.", kCounter,
     &WorkerFeedback::flows_uninserted},
    {"portico_worker_evictions_total", "Flows on probation or over that gave way to new ones.", kCounter,
     &WorkerFeedback::evictions},
    {"portico_worker_table_generation", "The table generation that the worker uses.", kGauge,
     &WorkerFeedback::acked_generation},
};

const std::vector<Field<ServiceFeedback>> kServiceFields = {
    {"portico_service_flows", "Connections of the service.", kGauge, &ServiceFeedback::flows},
    {"portico_service_new_flows_total", "Connections begun.", kCounter, &ServiceFeedback::new_flows},
    {"portico_service_packets_total",
     "Packets; in: from clients, out: to clients (nat only).",
     kCounter,
     &ServiceFeedback::packets_in,
     {{"direction", "in"}}},
    {"portico_service_packets_total", "", kCounter, &ServiceFeedback::packets_out, {{"direction", "out"}}},
    {"portico_service_bytes_total",
     "Bytes of IP packets; in: from clients, out: to clients (nat only).",
     kCounter,
     &ServiceFeedback::bytes_in,
     {{"direction", "in"}}},
    {"portico_service_bytes_total", "", kCounter, &ServiceFeedback::bytes_out, {{"direction", "out"}}},
    {"portico_service_missed_packets_total", "Later packets whose connection was not in the table.", kCounter,
     &ServiceFeedback::missed},
    {"portico_service_resets_sent_total", "RSTs sent to clients.", kCounter, &ServiceFeedback::resets_sent},
    {"portico_service_proxy_headers_sent_total",
     "Connections whose backend was sent a PROXY protocol header.", kCounter, &ServiceFeedback::headers_sent},
    {"portico_service_proxy_headers_repeated_total",
     "PROXY protocol headers sent again since the backend had not acknowledged them.", kCounter,
     &ServiceFeedback::headers_repeated},
    {"portico_service_proxy_headers_unwatched_total",
     "PROXY protocol headers that no timer repeats, for want of room: the client's packets alone do.",
     kCounter, &ServiceFeedback::headers_unwatched},
    {"portico_service_source_limited_total",
     "New connections refused since their source has too many, or opens too many (`limits`).", kCounter,
     &ServiceFeedback::source_limited},
};

const std::vector<Field<BackendFeedback>> kBackendFields = {
    {"portico_backend_flows", "Connections on the backend.", kGauge, &BackendFeedback::flows},
    {"portico_backend_new_flows_total", "Connections begun.", kCounter, &BackendFeedback::new_flows},
    {"portico_backend_packets_total",
     "Packets; in: to the backend, out: from it (nat only).",
     kCounter,
     &BackendFeedback::packets_in,
     {{"direction", "in"}}},
    {"portico_backend_packets_total", "", kCounter, &BackendFeedback::packets_out, {{"direction", "out"}}},
    {"portico_backend_bytes_total",
     "Bytes of IP packets; in: to the backend, out: from it (nat only).",
     kCounter,
     &BackendFeedback::bytes_in,
     {{"direction", "in"}}},
    {"portico_backend_bytes_total", "", kCounter, &BackendFeedback::bytes_out, {{"direction", "out"}}},
    {"portico_backend_resets_received_total", "RSTs from the backend.", kCounter,
     &BackendFeedback::resets_received},
    {"portico_backend_resets_sent_total", "Connections reset because the backend went down.", kCounter,
     &BackendFeedback::resets_sent},
    {"portico_backend_syn_repeats_total", "SYNs repeated since the backend had not answered.", kCounter,
     &BackendFeedback::syn_repeats},
    {"portico_backend_syns_unanswered_total",
     "Connections whose SYN the backend had not answered after 200 ms (not in dsr modes).", kCounter,
     &BackendFeedback::syns_unanswered},
    {"portico_backend_syns_refused_total", "RSTs from the backend that answered a SYN.", kCounter,
     &BackendFeedback::syns_refused},
};

class Writer {
 public:
  void add(const char* name, const char* help, MetricType type, double value, Labels labels = {}) {
    auto it = std::find_if(families_.begin(), families_.end(), [&](const auto& f) { return f.name == name; });
    if (it == families_.end()) it = families_.insert(it, MetricFamily{name, help, type, {}});
    ClientMetric metric;
    metric.label = std::move(labels);
    if (type == MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
    it->metric.push_back(std::move(metric));
  }
  template <typename Record>
  void add_record(const std::vector<Field<Record>>& fields, const Record& record, const Labels& labels) {
    for (const auto& field : fields) {
      Labels all = labels;
      all.insert(all.end(), field.labels.begin(), field.labels.end());
      add(field.name, field.help, field.type, static_cast<double>(record.*field.value), std::move(all));
    }
  }
  std::string text() const { return prometheus::TextSerializer().Serialize(families_); }

 private:
  std::vector<MetricFamily> families_;
};

double seconds(uint64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

void add_control(const StatusView& view, Writer& out) {
  out.add("portico_control_start_time_seconds", "When control started, Unix time.", kGauge,
          static_cast<double>(view.started_ms) * 1e-3);
  out.add("portico_config_version", "Counts applied configurations.", kGauge,
          static_cast<double>(view.config_version));
  out.add("portico_ready", "1 if this balancer should get traffic: it forwards, and is not cut off.", kGauge,
          why_not_ready(view).empty() ? 1 : 0);
  out.add("portico_isolation_state",
          "Whether backends answer checks: 0 connected, 1 examining, 2 backends down, 3 cut off.", kGauge,
          static_cast<double>(view.isolation.state()));
  out.add("portico_table_published_generation", "The newest table generation.", kGauge,
          static_cast<double>(view.published));
  out.add("portico_table_adopted_generation", "The table generation that all workers use.", kGauge,
          static_cast<double>(view.watch.adopted()));
}

void add_steered(const Feedback& feedback, Writer& out) {
  constexpr const char* kName = "portico_steered_packets_total";
  constexpr const char* kHelp = "Frames by where the XDP program of AF_XDP ports sent them.";
  out.add(kName, kHelp, kCounter, static_cast<double>(feedback.steered_to_dataplane), {{"to", "dataplane"}});
  out.add(kName, kHelp, kCounter, static_cast<double>(feedback.steered_to_kernel), {{"to", "kernel"}});
  out.add(kName, kHelp, kCounter, static_cast<double>(feedback.steered_no_socket), {{"to", "nobody"}});
}

void add_fragments(const Feedback& feedback, Writer& out) {
  out.add("portico_reassembled_packets_total", "Packets that were put together from fragments.", kCounter,
          static_cast<double>(feedback.reassembled));
  out.add("portico_joined_fragments_total", "Fragments that such packets came in.", kCounter,
          static_cast<double>(feedback.fragments_joined));
  out.add("portico_held_fragments", "Fragments that wait for the others of their packet.", kGauge,
          static_cast<double>(feedback.fragments_held));
  out.add("portico_fragmented_packets_total", "Packets that were sent on in fragments.", kCounter,
          static_cast<double>(feedback.fragmented));
  out.add("portico_sent_fragments_total", "The fragments of those.", kCounter,
          static_cast<double>(feedback.fragments_sent));
}

void add_dataplane(const StatusView& view, Writer& out) {
  const Feedback& feedback = view.watch.settled();
  const FeedbackHeader& header = view.watch.feedback().header;
  out.add("portico_dataplane_up", "1 if the dataplane is running and answers.", kGauge,
          view.watch.is_working() ? 1 : 0);
  out.add("portico_dataplane_start_time_seconds", "When the dataplane started, Unix time.", kGauge,
          seconds(header.start_realtime_ns));
  out.add("portico_feedback_contradictions_total",
          "Counters in the feedback file that went back or grew impossibly; control counts them.", kCounter,
          static_cast<double>(view.watch.contradictions()));
  out.add("portico_table_refusals_total", "Table generations that the dataplane refused.", kCounter,
          static_cast<double>(header.refused_count));
  const NatUse nat = nat_use(view.config, view.ids, feedback);
  out.add("portico_nat_ports", "NAT ports per backend endpoint, over both families.", kGauge,
          static_cast<double>(header.nat_ports_total));
  out.add("portico_nat_fullest_ratio", "Part of its NAT ports that the fullest backend uses.", kGauge,
          nat.total == 0 ? 0 : static_cast<double>(nat.used) / static_cast<double>(nat.total));
  out.add("portico_tsc_hertz", "CPU cycles per second of the worker's cycle counters.", kGauge,
          static_cast<double>(header.tsc_hz));
  out.add("portico_kernel_packets_total", "Packets handed to the kernel.", kCounter,
          static_cast<double>(feedback.to_kernel));
  out.add("portico_kernel_taken_packets_total", "Of those, packets that the tap of a DPDK port took.",
          kCounter, static_cast<double>(feedback.kernel_taken));
  out.add("portico_from_kernel_packets_total", "Packets that the kernel sent by the tap of a DPDK port.",
          kCounter, static_cast<double>(feedback.from_kernel));
  out.add("portico_kernel_waits_total",
          "Times that the kernel's packets waited a millisecond for a packet buffer.", kCounter,
          static_cast<double>(feedback.kernel_waits));
  out.add("portico_forwarded_packets_total", "Packets sent on.", kCounter,
          static_cast<double>(feedback.forwarded));
  out.add("portico_originated_packets_total", "Packets of the dataplane's own: RSTs and PROXY headers.",
          kCounter, static_cast<double>(feedback.originated));
  add_fragments(feedback, out);
  add_steered(feedback, out);
  out.add("portico_answered_packets_total", "Packets answered with RST or ICMP.", kCounter,
          static_cast<double>(feedback.answered));
  for (uint32_t i = 0; i < kDropReasonCount; ++i)
    out.add("portico_dropped_packets_total", "Packets dropped, by the one reason of each.", kCounter,
            static_cast<double>(feedback.drops[i]), {{"reason", std::string(kDropReasonNames[i])}});
  out.add("portico_takeover_stop_seconds",
          "For how long nothing was forwarded before this dataplane; 0: it took nothing over.", kGauge,
          seconds(feedback.take_over.stop_ns));
  out.add("portico_takeover_flows_kept_total", "Connections taken up from the dataplane before.", kCounter,
          static_cast<double>(feedback.take_over.flows_kept));
  for (uint32_t i = 0; i < kFlowLossCount; ++i)
    out.add("portico_takeover_flows_lost_total",
            "Connections of the dataplane before that were not taken up.", kCounter,
            static_cast<double>(feedback.take_over.flows_lost[i]),
            {{"reason", std::string(kFlowLossNames[i])}});
  for (const PortFeedback& port : std::span(feedback.ports).first(header.port_count)) {
    const Labels labels = {{"port", std::string(name_of(port.name))}};
    out.add_record(kPortFields, port, labels);
    out.add("portico_port_link_up", "1 if the port has a link.", kGauge, port.link_up, labels);
    out.add("portico_port_queues", "Queue pairs of the port.", kGauge, port.queues, labels);
  }
  const uint64_t now = monotonic_ns();
  for (uint32_t i = 0; i < header.worker_count; ++i) {
    const WorkerFeedback& worker = feedback.workers[i];
    const Labels labels = {{"worker", std::to_string(i)}};
    out.add_record(kWorkerFields, worker, labels);
    out.add("portico_worker_cpu", "The CPU that the worker runs on.", kGauge, worker.cpu, labels);
    out.add("portico_worker_nat_fullest_backend", "Id of that endpoint's backend; 65535: none.", kGauge,
            worker.nat_fullest_backend, labels);
    out.add("portico_worker_heartbeat_age_seconds", "Time since the worker's last heartbeat.", kGauge,
            worker.heartbeat_ns < now ? seconds(now - worker.heartbeat_ns) : 0, labels);
  }
}

void add_checks(const BackendHealth& health, const Labels& of_backend, Writer& out) {
  for (const CheckStatus& check : health.checks) {
    Labels labels = of_backend;
    labels.push_back({"check", check.name});
    labels.push_back({"target", endpoint_text(check.target)});
    out.add("portico_check_up", "1 if the check passes.", kGauge, passes(check.state) ? 1 : 0, labels);
    out.add("portico_check_duration_seconds", "How long the last probe took until its verdict.", kGauge,
            static_cast<double>(check.last_latency_us) * 1e-6, labels);
    if (check.certificate_expires_s == 0) continue;
    out.add("portico_check_certificate_remaining_seconds",
            "Until the first certificate of the server's chain expires.", kGauge,
            static_cast<double>(check.certificate_expires_s) - static_cast<double>(realtime_ns()) * 1e-9,
            labels);
  }
}

void add_pool(const StatusView& view, const PoolConfig& pool, Writer& out) {
  const uint16_t pool_id = view.ids.pool(pool.name);
  const PoolCondition condition = pool_condition(view, pool);
  const Labels of_pool = {{"pool", pool.name}};
  out.add("portico_pool_backends", "Configured backends.", kGauge, static_cast<double>(pool.backends.size()),
          of_pool);
  out.add("portico_pool_backends_up", "Backends whose checks all pass.", kGauge, condition.up, of_pool);
  const PoolDecision* decision = view.builder.decision(pool_id);
  out.add("portico_pool_spills", "1 if other zones' backends take connections of the own zone's.", kGauge,
          decision != nullptr && decision->spills ? 1 : 0, of_pool);
  out.add("portico_pool_uses_backups", "1 if `backup` backends take connections.", kGauge,
          decision != nullptr && decision->uses_backups ? 1 : 0, of_pool);
  out.add("portico_pool_local_usable_ratio", "Of the own zone's weight: what is usable; 1 without zones.",
          kGauge, view.builder.local_percent(pool_id) * 0.01, of_pool);
  out.add("portico_pool_level", "0 ok, 1 degraded, 2 unserved.", kGauge, static_cast<double>(condition.level),
          of_pool);
  for (const auto& backend : pool.backends) {
    const uint16_t id = view.ids.backend(pool.name, backend);
    const Labels labels = {{"pool", pool.name}, {"backend", backend.name}};
    const auto health = view.health.status(pool.name, backend.name);
    out.add("portico_backend_up", "1 if all checks of the backend pass.", kGauge,
            health && health->healthy ? 1 : 0, labels);
    out.add("portico_backend_standby",
            "1 if the backend could take connections and waits for others to fail.", kGauge,
            decision != nullptr && decision->standby.contains(id) ? 1 : 0, labels);
    out.add("portico_backend_passive_probes_total",
            "Times that signals of the dataplane had the backend probed; control counts them.", kCounter,
            static_cast<double>(view.passive.probes(id)), labels);
    if (health) add_checks(*health, labels, out);
    out.add("portico_backend_share_ratio", "The backend's part of the pool's look-up table.", kGauge,
            view.builder.share(pool_id, id), labels);
    out.add("portico_backend_weight", "Weight in force: an operator's, else the configuration's.", kGauge,
            weight_of(view.operators, pool.name, backend), labels);
    out.add("portico_backend_flap_penalty", "Falls, each halved with every half-life since.", kGauge,
            health ? health->flap_penalty : 0, labels);
    out.add("portico_backend_admin_state", "0 active, 1 drained, 2 held.", kGauge,
            static_cast<double>(view.operators.state(pool.name, backend.name)), labels);
    if (id != kNone) out.add_record(kBackendFields, view.watch.settled().backends[id], labels);
  }
}

}  // namespace

std::string metrics_text(const StatusView& view) {
  Writer out;
  add_control(view, out);
  add_dataplane(view, out);
  for (const auto& service : view.config.services) {
    const uint16_t id = view.ids.service(service);
    if (id != kNone)
      out.add_record(kServiceFields, view.watch.settled().services[id], {{"service", service.name}});
  }
  for (const auto& pool : view.config.pools) add_pool(view, pool, out);
  return out.text();
}

}  // namespace portico
