// SPDX-License-Identifier: Apache-2.0
#include "control/dataplane_watch.h"

#include <algorithm>

namespace portico {
namespace {

// A generation that is not in use by then has a stuck worker or a dataplane that does not look.
constexpr uint64_t kAcknowledgeNs = 1'000'000'000;
constexpr uint64_t kRecentNs = 1'000'000'000;
constexpr uint64_t kRateIntervalNs = 500'000'000;

template <size_t N>
std::string text_of(const char (&field)[N]) {
  return {field, std::find(field, field + N - 1, '\0')};
}

// Only the lock tells that nobody is there: a file that cannot be read may belong to a living process.
bool may_be_alive(const FeedbackResult& result) {
  return result.writer_alive || result.status == FeedbackStatus::unreadable;
}

}  // namespace

DataplaneWatch::DataplaneWatch(const std::filesystem::path& run_dir, Event on_event)
    : reader_(run_dir),
      on_event_(std::move(on_event)),
      feedback_(std::make_unique<Feedback>()),
      next_(std::make_unique<Feedback>()),
      sent_at_ns_(kMaxBackends),
      services_(kMaxServices),
      backends_(kMaxBackends),
      drops_(kMaxDropReasons),
      busy_(kMaxWorkers) {}

void DataplaneWatch::poll(uint64_t table_epoch, uint64_t generation, uint64_t now_ns) {
  auto result = reader_.read(*next_);
  // A writer in the middle of an update is no news; one that died there is.
  if (result.status == FeedbackStatus::busy && result.writer_alive && result_.ok()) return;
  result_ = std::move(result);
  if (!result_.ok()) feedback_->header.epoch = 0;  // what is read next is not to be compared with what was
  if (result_.ok()) {
    std::swap(feedback_, next_);
    note_packets_out(now_ns);
    feedback_->header.worker_count = std::min(feedback_->header.worker_count, kMaxWorkers);
    feedback_->header.port_count = std::min(feedback_->header.port_count, kMaxPorts);
  }
  const bool ours = result_.ok() && feedback_->header.table_epoch == table_epoch;
  adopted_ = ours ? feedback_->header.adopted_generation : 0;
  note_presence();
  if (!result_.ok()) return;
  if (feedback_->header.epoch != epoch_) {
    epoch_ = feedback_->header.epoch;
    reported_refusal_ = 0;
    waiting_generation_ = 0;
  }
  note_refusal();
  note_acknowledgement(generation, now_ns);
  if (now_ns >= rates_at_ns_ + kRateIntervalNs) update_rates(now_ns);
}

// next_ holds the report before.
void DataplaneWatch::note_packets_out(uint64_t now_ns) {
  if (next_->header.epoch != feedback_->header.epoch) return;
  for (uint32_t i = 0; i < kMaxBackends; ++i)
    if (feedback_->backends[i].packets_out > next_->backends[i].packets_out) sent_at_ns_[i] = now_ns;
}

bool DataplaneWatch::has_sent(uint16_t backend, uint64_t now_ns) const {
  return is_working() && sent_at_ns_[backend] != 0 && now_ns < sent_at_ns_[backend] + kRecentNs;
}

void DataplaneWatch::note_presence() {
  std::string presence;
  if (!may_be_alive(result_))
    presence = "no dataplane is running";
  else if (!result_.ok())
    presence = result_.text;
  else if (result_.stale)
    presence = "dataplane " + std::to_string(result_.pid) + " does not answer";
  else
    presence = "dataplane " + std::to_string(result_.pid) + " is running";
  if (presence == presence_) return;
  presence_ = presence;
  on_event_(is_working() ? Level::info : Level::warning, presence);
}

// A table that is in use but for settings that need a restart is not refused, though it has that reason.
uint64_t DataplaneWatch::refused() const {
  const uint64_t refused = feedback_->header.refused_generation;
  return is_working() && refused > adopted_ ? refused : 0;
}

void DataplaneWatch::note_refusal() {
  const FeedbackHeader& header = feedback_->header;
  if (header.refused_count == reported_refusal_ || header.refused_generation == 0) return;
  reported_refusal_ = header.refused_count;
  on_event_(Level::error, "the dataplane refuses table " + std::to_string(header.refused_generation) + ": " +
                              text_of(header.refused_text));
}

std::string DataplaneWatch::slow_workers(uint64_t generation) const {
  std::string names;
  for (uint32_t i = 0; i < feedback_->header.worker_count; ++i) {
    const WorkerFeedback& worker = feedback_->workers[i];
    if (worker.acked_generation >= generation) continue;
    names += (names.empty() ? "worker " : ", worker ") + std::to_string(i) + " (CPU " +
             std::to_string(worker.cpu) + ")";
  }
  return names.empty() ? "the dataplane's main thread" : names;
}

void DataplaneWatch::note_acknowledgement(uint64_t generation, uint64_t now_ns) {
  // Until it runs it is on its way: ports and memory take longer than any table.
  const bool runs = is_working() && DataplaneState{feedback_->header.state} == DataplaneState::running;
  const bool waiting = runs && generation != 0 && adopted_ < generation && refused() < generation;
  if (!waiting) {
    if (!late_.empty()) on_event_(Level::info, "table " + std::to_string(adopted_) + " is in use");
    late_.clear();
    waiting_generation_ = 0;
    return;
  }
  if (waiting_generation_ == 0) {
    waiting_generation_ = generation;
    waiting_since_ns_ = now_ns;
  }
  if (!late_.empty() || now_ns < waiting_since_ns_ + kAcknowledgeNs) return;
  late_ = slow_workers(waiting_generation_);
  on_event_(Level::error,
            late_ + " has not taken table " + std::to_string(waiting_generation_) + " into use");
}

void DataplaneWatch::update_rates(uint64_t now_ns) {
  rates_at_ns_ = now_ns;
  for (uint32_t i = 0; i < kMaxServices; ++i) {
    const ServiceFeedback& from = feedback_->services[i];
    services_[i].new_flows.update(from.new_flows, now_ns);
    services_[i].bytes_in.update(from.bytes_in, now_ns);
    services_[i].bytes_out.update(from.bytes_out, now_ns);
    services_[i].missed.update(from.missed, now_ns);
  }
  for (uint32_t i = 0; i < kMaxBackends; ++i) {
    const BackendFeedback& from = feedback_->backends[i];
    backends_[i].new_flows.update(from.new_flows, now_ns);
    backends_[i].bytes_in.update(from.bytes_in, now_ns);
    backends_[i].bytes_out.update(from.bytes_out, now_ns);
  }
  for (uint32_t i = 0; i < kDropReasonCount; ++i) drops_[i].update(feedback_->drops[i], now_ns);
  for (uint32_t i = 0; i < feedback_->header.worker_count; ++i)
    busy_[i].update(feedback_->workers[i].busy_cycles, feedback_->workers[i].total_cycles, now_ns);
}

std::vector<std::string> DataplaneWatch::ports() const {
  std::vector<std::string> names;
  if (!result_.ok() || !may_be_alive(result_)) return names;
  for (uint32_t i = 0; i < feedback_->header.port_count; ++i)
    names.push_back(text_of(feedback_->ports[i].name));
  return names;
}

FlowReport DataplaneWatch::report() const {
  FlowReport report{.dataplane_alive = may_be_alive(result_),
                    .adopted_generation = result_.ok() ? adopted_ : 0,
                    .heartbeat_ns = feedback_->header.heartbeat_ns,
                    .flows = {}};
  return report;
}

FlowReport DataplaneWatch::service_flows() const {
  FlowReport of = report();
  of.flows = [this](uint16_t id) { return feedback_->services[id].flows; };
  return of;
}

FlowReport DataplaneWatch::backend_flows() const {
  FlowReport of = report();
  of.flows = [this](uint16_t id) { return feedback_->backends[id].flows; };
  return of;
}

std::vector<std::string> DataplaneWatch::warnings() const {
  if (!may_be_alive(result_))
    return {"no dataplane is running: nothing is forwarded; start it (systemctl start portico-dataplane)"};
  if (!result_.ok()) return {result_.text};
  if (result_.stale)
    return {"dataplane " + std::to_string(result_.pid) + " does not answer; see its log, then restart it"};
  std::vector<std::string> warnings;
  const FeedbackHeader& header = feedback_->header;
  if (refused() != 0)
    warnings.push_back("the dataplane refuses table " + std::to_string(refused()) + " and goes on with " +
                       std::to_string(adopted_) + ": " + text_of(header.refused_text));
  else if (RefusalReason{header.refused_reason} == RefusalReason::needs_restart)
    warnings.push_back("settings need a restart of the dataplane: " + text_of(header.refused_text));
  if (!is_forwarding())
    warnings.push_back("dataplane " + std::to_string(result_.pid) +
                       " does not forward yet: it is starting; if this stays, see its log");
  if (!late_.empty())
    warnings.push_back(late_ + " has not taken table " + std::to_string(waiting_generation_) +
                       " into use; if this stays, restart the dataplane");
  for (uint32_t i = 0; i < header.port_count; ++i)
    if (feedback_->ports[i].link_up == 0)
      warnings.push_back("port " + text_of(feedback_->ports[i].name) +
                         " has no link; check the cable and the peer");
  return warnings;
}

}  // namespace portico
