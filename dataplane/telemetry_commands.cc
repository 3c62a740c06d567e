// SPDX-License-Identifier: Apache-2.0
#include "dataplane/telemetry_commands.h"

#include <charconv>

#include "dataplane/port_plan.h"

namespace portico {
namespace {

const char* refusal_name(uint32_t reason) {
  static constexpr const char* kNames[] = {"none",         "bad_magic",     "other_abi",    "other_layout",
                                           "truncated",    "bad_directory", "bad_checksum", "bad_reference",
                                           "bad_record",   "moved_on",      "no_memory",    "needs_restart",
                                           "ports_changed"};
  return reason < std::size(kNames) ? kNames[reason] : "unknown";
}

// The optional "first index" of a list command.
std::optional<size_t> first_index(std::string_view parameters, TelemetryObject& out) {
  if (parameters.empty()) return 0;
  size_t first = 0;
  const char* const end = parameters.data() + parameters.size();
  const auto parsed = std::from_chars(parameters.data(), end, first);
  if (parsed.ec == std::errc() && parsed.ptr == end) return first;
  out.add("error", "the parameter is not the index to begin at");
  return std::nullopt;
}

// Calls `add(index)` for one page of `count` things, and says where the next page begins.
template <typename Add>
void add_page(size_t first, size_t count, TelemetryObject& out, const Add& add) {
  const size_t end = std::min(count, first < count ? first + kTelemetryPage : first);
  for (size_t i = first; i < end; ++i) add(i);
  if (end < count) out.add("next", end);
  out.add("count", count);
}

void add_totals(const Feedback& feedback, TelemetryObject& out) {
  uint64_t drops = 0, flows = 0, capacity = 0, nat_ports = 0, rx = 0, tx = 0;
  uint64_t flows_uninserted = 0, evictions = 0;
  for (const uint64_t count : feedback.drops) drops += count;
  for (uint32_t i = 0; i < feedback.header.worker_count; ++i) {
    flows += feedback.workers[i].flows;
    capacity += feedback.workers[i].flow_capacity;
    nat_ports += feedback.workers[i].nat_ports_used;
    flows_uninserted += feedback.workers[i].flows_uninserted;
    evictions += feedback.workers[i].evictions;
    rx += feedback.workers[i].rx_packets;
    tx += feedback.workers[i].tx_packets;
  }
  out.add("rx_packets", rx);
  out.add("tx_packets", tx);
  out.add("forwarded", feedback.forwarded);
  out.add("answered", feedback.answered);
  out.add("originated", feedback.originated);
  out.add("to_kernel", feedback.to_kernel);
  out.add("kernel_taken", feedback.kernel_taken);
  out.add("from_kernel", feedback.from_kernel);
  out.add("kernel_waits", feedback.kernel_waits);
  out.add("drops", drops);
  out.add("flows", flows);
  out.add("flow_capacity", capacity);
  out.add("flows_uninserted", flows_uninserted);
  out.add("evictions", evictions);
  out.add("nat_ports_used", nat_ports);
  out.add("nat_ports_total", feedback.header.nat_ports_total);
  out.add("reassembled", feedback.reassembled);
  out.add("fragments_joined", feedback.fragments_joined);
  out.add("fragments_held", feedback.fragments_held);
  out.add("fragmented", feedback.fragmented);
  out.add("fragments_sent", feedback.fragments_sent);
  out.add("steered_to_dataplane", feedback.steered_to_dataplane);
  out.add("steered_to_kernel", feedback.steered_to_kernel);
  out.add("steered_no_socket", feedback.steered_no_socket);
}

void add_take_over(const TakeOverFeedback& take_over, TelemetryObject& out) {
  out.add("stop_ns", take_over.stop_ns);
  out.add("flows_kept", take_over.flows_kept);
  for (uint32_t i = 0; i < kFlowLossCount; ++i)
    out.add(("flows_lost_" + std::string(kFlowLossNames[i])).c_str(), take_over.flows_lost[i]);
}

}  // namespace

void answer_upgrade(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  const std::string wrong = telemetry.upgrade().request();
  if (wrong.empty())
    out.add("program", telemetry.upgrade().program());
  else
    out.add("error", wrong);
}

void answer_capture(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  CaptureOrder order;
  std::string complaint;
  if (parse_capture(parameters, order, complaint)) complaint = telemetry.capture().start(order);
  if (complaint.empty())
    out.add("token", order.token);
  else
    out.add("error", complaint);
}

void answer_capture_status(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  const CaptureStatus status = telemetry.capture().status();
  out.add("running", status.is_running ? 1 : 0);
  out.add("token", status.token);
  out.add("ended", status.ended);
  out.add("packets", status.written);
  out.add("bytes", status.bytes);
  out.add("missed_rate", status.missed_rate);
  out.add("missed_full", status.missed_full);
}

void answer_status(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  const auto snapshot = telemetry.adoption().snapshot();
  telemetry.report().read([&](const Feedback& feedback) {
    const FeedbackHeader& header = feedback.header;
    out.add("version", field_text(header.version));
    out.add("state", std::string(to_string(DataplaneState{header.state})));
    out.add("pid", header.pid);
    out.add("epoch", header.epoch);
    out.add("start_realtime_ns", header.start_realtime_ns);
    out.add("heartbeat_ns", header.heartbeat_ns);
    out.add("table_epoch", header.table_epoch);
    out.add("adopted_generation", header.adopted_generation);
    out.add("adopted_monotonic_ns", header.adopted_monotonic_ns);
    out.add("refused_generation", header.refused_generation);
    out.add("refused_count", header.refused_count);
    out.add("refused_reason", std::string(refusal_name(header.refused_reason)));
    out.add("refused_text", field_text(header.refused_text));
    out.add("workers", header.worker_count);
    out.add("ports", header.port_count);
    out.add("tsc_hz", header.tsc_hz);
    add_totals(feedback, out);
    add_take_over(feedback.take_over, out);
  });
  if (snapshot == nullptr) return;
  out.add("instance", field_text(snapshot->settings->records<SettingsRecord>()[0].instance));
  out.add("given_generation", snapshot->generation);
  out.add("config_version", snapshot->config_version);
}

void answer_drops(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  telemetry.report().read([&](const Feedback& feedback) {
    for (uint32_t reason = 0; reason < kDropReasonCount; ++reason) {
      out.add(kDropReasonNames[reason].data(), feedback.drops[reason]);
    }
  });
}

void answer_workers(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  const auto first = first_index(parameters, out);
  if (!first) return;
  telemetry.report().read([&](const Feedback& feedback) {
    add_page(*first, feedback.header.worker_count, out, [&](size_t index) {
      const WorkerFeedback& worker = feedback.workers[index];
      out.add_object(std::to_string(index), [&](TelemetryObject& object) {
        object.add("index", index);
        object.add("cpu", worker.cpu);
        object.add("heartbeat_ns", worker.heartbeat_ns);
        object.add("acked_generation", worker.acked_generation);
        object.add("busy_cycles", worker.busy_cycles);
        object.add("total_cycles", worker.total_cycles);
        object.add("rx_packets", worker.rx_packets);
        object.add("tx_packets", worker.tx_packets);
        object.add("handed_over", worker.handed_over);
        object.add("flows", worker.flows);
        object.add("flow_capacity", worker.flow_capacity);
        object.add("nat_ports_used", worker.nat_ports_used);
        object.add("nat_fullest_backend", worker.nat_fullest_backend);
        object.add("nat_fullest_used", worker.nat_fullest_used);
        object.add("nat_fullest_ports", worker.nat_fullest_ports);
        object.add("sleeps", worker.sleeps);
        object.add("flows_uninserted", worker.flows_uninserted);
        object.add("evictions", worker.evictions);
      });
    });
  });
}

void answer_ports(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  telemetry.report().read([&](const Feedback& feedback) {
    for (uint32_t index = 0; index < feedback.header.port_count; ++index) {
      const PortFeedback& port = feedback.ports[index];
      out.add_object(std::to_string(index), [&](TelemetryObject& object) {
        object.add("name", field_text(port.name));
        object.add("queues", port.queues);
        object.add("link_up", port.link_up);
        object.add("rx_packets", port.rx_packets);
        object.add("tx_packets", port.tx_packets);
        object.add("rx_missed", port.rx_missed);
        object.add("rx_errors", port.rx_errors);
        object.add("tx_errors", port.tx_errors);
        object.add("rx_no_mbuf", port.rx_no_mbuf);
      });
    }
  });
}

void answer_resolve(Telemetry& telemetry, std::string_view, TelemetryObject& out) {
  telemetry.report().read([&](const Feedback& feedback) {
    uint32_t index = 0;
    for (const ResolveRequest& request : feedback.resolve) {
      if (request.requested_ns == 0) continue;
      out.add_object(std::to_string(index++), [&](TelemetryObject& object) {
        object.add("address", to_string(request.address));
        object.add("port", request.port);
        object.add("requested_ns", request.requested_ns);
      });
    }
  });
}

void answer_services(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  const auto first = first_index(parameters, out);
  const auto snapshot = telemetry.adoption().snapshot();
  if (!first || snapshot == nullptr) return;
  const auto records = snapshot->services->records<ServiceRecord>();
  telemetry.report().read([&](const Feedback& feedback) {
    add_page(*first, records.size(), out, [&](size_t index) {
      const ServiceFeedback& service = feedback.services[records[index].id];
      out.add_object(std::to_string(records[index].id), [&](TelemetryObject& object) {
        object.add("id", records[index].id);
        object.add("name", field_text(records[index].name));
        object.add("flows", service.flows);
        object.add("new_flows", service.new_flows);
        object.add("packets_in", service.packets_in);
        object.add("bytes_in", service.bytes_in);
        object.add("packets_out", service.packets_out);
        object.add("bytes_out", service.bytes_out);
        object.add("missed", service.missed);
        object.add("resets_sent", service.resets_sent);
        object.add("headers_sent", service.headers_sent);
        object.add("headers_repeated", service.headers_repeated);
        object.add("headers_unwatched", service.headers_unwatched);
        object.add("source_limited", service.source_limited);
      });
    });
  });
}

void answer_backends(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out) {
  const auto first = first_index(parameters, out);
  const auto snapshot = telemetry.adoption().snapshot();
  if (!first || snapshot == nullptr) return;
  std::vector<const BackendRecord*> records;
  for (const Snapshot::Pool& pool : snapshot->pools) {
    for (const BackendRecord& backend : pool.backends->records<BackendRecord>()) records.push_back(&backend);
  }
  telemetry.report().read([&](const Feedback& feedback) {
    add_page(*first, records.size(), out, [&](size_t index) {
      const BackendFeedback& backend = feedback.backends[records[index]->id];
      out.add_object(std::to_string(records[index]->id), [&](TelemetryObject& object) {
        object.add("id", records[index]->id);
        object.add("name", field_text(records[index]->name));
        object.add("pool", records[index]->pool);
        object.add("flows", backend.flows);
        object.add("new_flows", backend.new_flows);
        object.add("packets_in", backend.packets_in);
        object.add("bytes_in", backend.bytes_in);
        object.add("packets_out", backend.packets_out);
        object.add("bytes_out", backend.bytes_out);
        object.add("resets_received", backend.resets_received);
        object.add("resets_sent", backend.resets_sent);
        object.add("syn_repeats", backend.syn_repeats);
        object.add("syns_unanswered", backend.syns_unanswered);
        object.add("syns_refused", backend.syns_refused);
      });
    });
  });
}

}  // namespace portico
