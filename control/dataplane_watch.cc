// SPDX-License-Identifier: Apache-2.0
#include "control/dataplane_watch.h"

#include <algorithm>
#include <array>
#include <utility>

#include "control/printable.h"

namespace portico {
namespace {

// A generation that is not in use by then has a stuck worker or a dataplane that does not look.
constexpr uint64_t kAcknowledgeNs = 1'000'000'000;
constexpr uint64_t kRecentNs = 1'000'000'000;
constexpr uint64_t kRateIntervalNs = 500'000'000;
// What contradicted itself is told of until all has agreed for so long, and logged once a minute.
constexpr uint64_t kToldNs = 10'000'000'000;
constexpr uint64_t kLogAgainNs = 60'000'000'000;

// It goes to logs and terminals, and anybody may have written it who can write the file.
template <size_t N>
std::string text_of(const char (&field)[N]) {
  return to_printable({field, std::find(field, field + N - 1, '\0')});
}

// Only the lock tells that nobody is there: a file that cannot be read may belong to a living process.
bool may_be_alive(const FeedbackResult& result) {
  return result.writer_alive || result.status == FeedbackStatus::unreadable;
}

// Feeds counters of three consecutive readings to rates. Whoever else writes to the file (it is open to
// nobody, but that may be a mistake away) is overwritten by the dataplane before the next reading: so a value
// counts only once it lies between its neighbours', and then it is right or harmless, whichever of the three
// was spoiled.
class Follower {
 public:
  Follower(const Feedback& earlier, const Feedback& middle, const Feedback& later, uint64_t middle_ns)
      : earlier_(earlier), middle_(middle), later_(later), middle_ns_(middle_ns) {}

  // `get(feedback)`: the counter in a reading.
  template <typename Get>
  void follow(Rate& rate, Get get) {
    if (!is_between(get) || !rate.update(get(middle_), middle_ns_)) ++contradictions_;
  }
  template <typename GetPart, typename GetWhole>
  void follow(Share& share, GetPart part, GetWhole whole) {
    if (!is_between(part) || !is_between(whole) || !share.update(part(middle_), whole(middle_), middle_ns_))
      ++contradictions_;
  }
  uint64_t contradictions() const { return contradictions_; }

 private:
  template <typename Get>
  bool is_between(Get get) const {
    return get(earlier_) <= get(middle_) && get(middle_) <= get(later_);
  }

  const Feedback &earlier_, &middle_, &later_;
  const uint64_t middle_ns_;
  uint64_t contradictions_ = 0;
};

}  // namespace

DataplaneWatch::DataplaneWatch(const std::filesystem::path& run_dir, Event on_event)
    : reader_(run_dir),
      on_event_(std::move(on_event)),
      feedback_(std::make_unique<Feedback>()),
      before_(std::make_unique<Feedback>()),
      earlier_(std::make_unique<Feedback>()),
      settled_(std::make_unique<Feedback>()),
      counted_out_(kMaxBackends),
      sent_at_ns_(kMaxBackends),
      services_(kMaxServices),
      backends_(kMaxBackends),
      drops_(kMaxDropReasons),
      busy_(kMaxWorkers) {}

void DataplaneWatch::poll(uint64_t table_epoch, uint64_t generation, uint64_t now_ns) {
  auto result = reader_.read(*earlier_);
  readings_ = std::min(readings_, 2u);  // what that overwrote is gone
  // A writer in the middle of an update is no news; one that died there is.
  if (result.status == FeedbackStatus::busy && result.writer_alive && result_.ok()) return;
  keep(std::move(result), now_ns);
  const bool ours = result_.ok() && feedback_->header.table_epoch == table_epoch;
  adopted_ = ours ? feedback_->header.adopted_generation : 0;
  note_presence();
  if (!result_.ok()) return;
  note_epoch();
  note_refusal(now_ns);
  note_acknowledgement(generation, now_ns);
  if (may_update_rates(now_ns)) update_rates();
}

// earlier_ holds what was read.
void DataplaneWatch::keep(FeedbackResult result, uint64_t now_ns) {
  result_ = std::move(result);
  if (!result_.ok()) {
    readings_ = 0;
    return;
  }
  std::swap(earlier_, before_);
  std::swap(before_, feedback_);
  before_ns_ = std::exchange(read_ns_, now_ns);
  if (readings_ != 0 && before_->header.epoch == feedback_->header.epoch)
    ++readings_;
  else
    readings_ = 1;
  feedback_->header.worker_count = std::min(feedback_->header.worker_count, kMaxWorkers);
  feedback_->header.port_count = std::min(feedback_->header.port_count, kMaxPorts);
  settle();
  note_packets_out(now_ns);
}

namespace {

// What a worker says of its fullest endpoint belongs together, so it is that of the reading in the middle.
void settle_fullest(WorkerFeedback& out, std::array<const WorkerFeedback*, 3> readings) {
  const auto used = [](const WorkerFeedback* w) {
    return static_cast<double>(w->nat_fullest_used) /
           static_cast<double>(std::max<uint64_t>(w->nat_fullest_ports, 1));
  };
  std::ranges::stable_sort(readings, {}, used);
  out.nat_fullest_backend = readings[1]->nat_fullest_backend;
  out.nat_fullest_used = readings[1]->nat_fullest_used;
  out.nat_fullest_ports = readings[1]->nat_fullest_ports;
}

}  // namespace

// Word by word: the fields are as wide, or several of them are.
void DataplaneWatch::settle() {
  static_assert(sizeof(Feedback) % sizeof(uint64_t) == 0 && alignof(Feedback) >= sizeof(uint64_t));
  if (readings_ < 3) {
    *settled_ = *feedback_;
    return;
  }
  const auto words = [](const std::unique_ptr<Feedback>& of) {
    return reinterpret_cast<uint64_t*>(of.get());
  };
  const uint64_t *a = words(earlier_), *b = words(before_), *c = words(feedback_);
  uint64_t* out = words(settled_);
  for (size_t i = 0; i < sizeof(Feedback) / sizeof(uint64_t); ++i)
    out[i] = std::max(std::min(a[i], b[i]), std::min(std::max(a[i], b[i]), c[i]));
  for (uint32_t i = 0; i < kMaxWorkers; ++i)
    settle_fullest(settled_->workers[i],
                   {&earlier_->workers[i], &before_->workers[i], &feedback_->workers[i]});
}

// Another process: what it counts begins at 0.
void DataplaneWatch::note_epoch() {
  if (feedback_->header.epoch == epoch_) return;
  epoch_ = feedback_->header.epoch;
  reported_refusal_ = 0;
  waiting_generation_ = 0;
  std::ranges::fill(services_, ServiceRates{});
  std::ranges::fill(backends_, BackendRates{});
  std::ranges::fill(drops_, Rate{});
  std::ranges::fill(busy_, Share{});
}

bool DataplaneWatch::may_update_rates(uint64_t now_ns) const {
  return readings_ >= 3 && now_ns >= rates_at_ns_ + kRateIntervalNs;
}

void DataplaneWatch::note_packets_out(uint64_t now_ns) {
  if (readings_ < 3) return;
  const bool is_first = std::exchange(counted_epoch_, feedback_->header.epoch) != feedback_->header.epoch;
  for (uint32_t i = 0; i < kMaxBackends; ++i) {
    const uint64_t before = std::exchange(counted_out_[i], settled_->backends[i].packets_out);
    if (!is_first && counted_out_[i] > before) sent_at_ns_[i] = now_ns;
  }
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

void DataplaneWatch::note_refusal(uint64_t now_ns) {
  const FeedbackHeader& header = feedback_->header;
  if (header.refused_count == reported_refusal_ || header.refused_generation == 0) return;
  reported_refusal_ = header.refused_count;
  const std::string text = text_of(header.refused_text);
  const auto more = refusal_log_.admit(text, now_ns);
  if (!more) return;
  on_event_(Level::error,
            "the dataplane refuses table " + std::to_string(header.refused_generation) + ": " + text + *more);
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

void DataplaneWatch::update_rates() {
  rates_at_ns_ = read_ns_;
  Follower to(*earlier_, *before_, *feedback_, before_ns_);
  for (uint32_t i = 0; i < kMaxServices; ++i) {
    const auto field = [i](auto member) { return [=](const Feedback& f) { return f.services[i].*member; }; };
    to.follow(services_[i].new_flows, field(&ServiceFeedback::new_flows));
    to.follow(services_[i].bytes_in, field(&ServiceFeedback::bytes_in));
    to.follow(services_[i].bytes_out, field(&ServiceFeedback::bytes_out));
    to.follow(services_[i].missed, field(&ServiceFeedback::missed));
  }
  for (uint32_t i = 0; i < kMaxBackends; ++i) {
    const auto field = [i](auto member) { return [=](const Feedback& f) { return f.backends[i].*member; }; };
    to.follow(backends_[i].new_flows, field(&BackendFeedback::new_flows));
    to.follow(backends_[i].bytes_in, field(&BackendFeedback::bytes_in));
    to.follow(backends_[i].bytes_out, field(&BackendFeedback::bytes_out));
  }
  for (uint32_t i = 0; i < kDropReasonCount; ++i)
    to.follow(drops_[i], [i](const Feedback& f) { return f.drops[i]; });
  for (uint32_t i = 0; i < feedback_->header.worker_count; ++i)
    to.follow(
        busy_[i], [i](const Feedback& f) { return f.workers[i].busy_cycles; },
        [i](const Feedback& f) { return f.workers[i].total_cycles; });
  note_contradictions(to.contradictions(), read_ns_);
}

void DataplaneWatch::note_contradictions(uint64_t found, uint64_t now_ns) {
  if (found == 0) return;
  const bool is_first = contradictions_ == 0;
  contradictions_ += found;
  contradicted_ns_ = now_ns;
  if (!is_first && now_ns < contradiction_logged_ns_ + kLogAgainNs) return;
  contradiction_logged_ns_ = now_ns;
  on_event_(Level::error, contradiction_text());
}

std::string DataplaneWatch::contradiction_text() const {
  return std::to_string(contradictions_) +
         " counters in the run directory's `feedback` contradicted themselves, their rates begin anew: "
         "something "
         "else than portico-dataplane writes there; look for who may (its mode should be 0640)";
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

// An id that flows carry must not get another meaning: none counts as free by one reading.
uint64_t DataplaneWatch::flows_of(uint64_t settled, uint64_t newest) const {
  return readings_ < 3 ? 1 : std::max(settled, newest);
}

FlowReport DataplaneWatch::service_flows() const {
  FlowReport of = report();
  of.flows = [this](uint16_t id) {
    return flows_of(settled_->services[id].flows, feedback_->services[id].flows);
  };
  return of;
}

FlowReport DataplaneWatch::backend_flows() const {
  FlowReport of = report();
  of.flows = [this](uint16_t id) {
    return flows_of(settled_->backends[id].flows, feedback_->backends[id].flows);
  };
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
  if (contradictions_ != 0 && read_ns_ < contradicted_ns_ + kToldNs) warnings.push_back(contradiction_text());
  for (uint32_t i = 0; i < header.port_count; ++i)
    if (feedback_->ports[i].link_up == 0)
      warnings.push_back("port " + text_of(feedback_->ports[i].name) +
                         " has no link; check the cable and the peer");
  return warnings;
}

}  // namespace portico
