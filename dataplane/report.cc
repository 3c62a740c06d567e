// SPDX-License-Identifier: Apache-2.0
#include "dataplane/report.h"

#include <rte_cycles.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "dataplane/log.h"

namespace portico {
namespace {

// What costs system calls of drivers, or a long look: ten times a second is enough for people.
constexpr uint32_t kTurnsPerSlowRead = 10;
// A resolve request that nobody repeats is over.
constexpr uint64_t kResolveLifeNs = 10'000'000'000;

template <size_t N>
void set_text(char (&field)[N], const std::string& text) {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(field, text.data(), length);
  std::memset(field + length, 0, N - length);
}

void learn(std::vector<uint16_t>& ids, uint16_t id) {
  const auto at = std::lower_bound(ids.begin(), ids.end(), id);
  if (at == ids.end() || *at != id) ids.insert(at, id);
}

// All counters of these structs are 64-bit words.
template <typename T>
void add_words(T& sum, const T& part) {
  static_assert(sizeof(T) % sizeof(uint64_t) == 0);
  uint64_t words[sizeof(T) / sizeof(uint64_t)];
  std::memcpy(words, &sum, sizeof sum);
  const auto* other = reinterpret_cast<const uint64_t*>(&part);
  for (size_t i = 0; i < std::size(words); ++i) words[i] += load_counter(other[i]);
  std::memcpy(&sum, words, sizeof sum);
}

uint64_t relaxed(const std::atomic<uint64_t>& value) {
  return value.load(std::memory_order_relaxed);
}

}  // namespace

Report::Report(const std::filesystem::path& run_dir)
    : file_(run_dir, PORTICO_VERSION),
      start_realtime_ns_(realtime_ns()),
      gathered_(std::make_unique<Feedback>()) {
  std::memset(static_cast<void*>(gathered_.get()), 0, sizeof(Feedback));
  const FeedbackHeader& written = file_.view().header;
  gathered_->header.epoch = written.epoch;
  gathered_->header.pid = static_cast<uint64_t>(getpid());
  gathered_->header.start_realtime_ns = start_realtime_ns_;
  set_text(gathered_->header.version, PORTICO_VERSION);
}

void Report::set_pending(uint64_t epoch, uint64_t generation) {
  Feedback& out = file_.begin();
  if (generation != 0 && out.header.table_epoch != epoch) {
    out.header.table_epoch = epoch;
    out.header.adopted_generation = 0;  // the number belongs to the old epoch
  }
  out.header.pending_generation = generation;
  finish();
}

void Report::set_take_over(const TakeOverFeedback& take_over) {
  const std::lock_guard lock(lock_);
  gathered_->take_over = take_over;
}

void Report::write_state(DataplaneState state, const AdoptionStatus& adoption) {
  const std::lock_guard lock(lock_);
  gather_header(state, adoption);
  copy_out(file_.begin());
  finish();
}

void Report::write(DataplaneState state, Adoption& adoption, const std::vector<WorkerThread*>& workers,
                   const Ports& ports, const Steering& steering, const HostPath* host) {
  const Table& table = *adoption.table();
  learn_ids(table.snapshot());
  const uint64_t now_ns = monotonic_ns();
  const std::lock_guard lock(lock_);
  Feedback& sum = *gathered_;
  std::memset(sum.drops, 0, sizeof sum.drops);
  sum.to_kernel = 0;
  sum.answered = 0;
  sum.forwarded = 0;
  sum.originated = 0;
  sum.reassembled = 0;
  sum.fragments_joined = 0;
  sum.fragments_held = 0;
  sum.fragmented = 0;
  sum.fragments_sent = 0;
  for (const uint16_t id : services_) sum.services[id] = {};
  for (const uint16_t id : backends_) sum.backends[id] = {};
  for (WorkerThread* worker : workers) gather_worker(worker->index(), *worker, now_ns);
  if (host != nullptr) gather_host(host->counters());
  for (ResolveRequest& request : sum.resolve) {
    if (request.requested_ns != 0 && now_ns - request.requested_ns > kResolveLifeNs) request = {};
  }
  if (turns_++ % kTurnsPerSlowRead == 0) {
    for (size_t i = 0; i < ports.list().size(); ++i) sum.ports[i] = ports.feedback(i);
    const SteeringStats steered = steering.stats();
    sum.steered_to_dataplane = steered.to_dataplane;
    sum.steered_to_kernel = steered.to_kernel;
    sum.steered_no_socket = steered.no_socket;
  }
  gather_header(state, adoption.status());
  sum.header.worker_count = static_cast<uint32_t>(workers.size());
  sum.header.port_count = static_cast<uint32_t>(ports.list().size());
  sum.header.tsc_hz = rte_get_tsc_hz();
  sum.header.nat_ports_total = table.nat_ports_total();
  copy_out(file_.begin());
  finish();
}

void Report::learn_ids(const Snapshot& snapshot) {
  if (snapshot.epoch == known_epoch_ && snapshot.generation == known_generation_) return;
  known_epoch_ = snapshot.epoch;
  known_generation_ = snapshot.generation;
  for (const ServiceRecord& service : snapshot.services->records<ServiceRecord>())
    learn(services_, service.id);
  for (const Snapshot::Pool& pool : snapshot.pools) {
    for (const BackendRecord& backend : pool.backends->records<BackendRecord>()) learn(backends_, backend.id);
  }
}

void Report::gather_worker(uint32_t index, WorkerThread& worker, uint64_t now_ns) {
  const WorkerStatus& status = worker.status();
  const WorkerCounters& counters = worker.worker().counters();
  WorkerFeedback& out = gathered_->workers[index];
  const uint64_t heartbeat = relaxed(status.heartbeat_tsc);
  const uint64_t now_tsc = rte_rdtsc();
  const uint64_t age_cycles = now_tsc > heartbeat ? now_tsc - heartbeat : 0;
  const double age_ns = static_cast<double>(age_cycles) * 1e9 / static_cast<double>(rte_get_tsc_hz());
  out.heartbeat_ns = heartbeat == 0 ? 0 : now_ns - std::min(now_ns, static_cast<uint64_t>(age_ns));
  // Valid: a table lives at least until this worker shows another one, and this thread frees it.
  const Table* table = status.table.load(std::memory_order_acquire);
  out.acked_generation = table == nullptr ? 0 : table->generation();
  out.busy_cycles = relaxed(status.busy_cycles);
  out.total_cycles = relaxed(status.total_cycles);
  out.rx_packets = relaxed(status.rx_packets);
  out.tx_packets = relaxed(status.tx_packets);
  out.sleeps = relaxed(status.sleeps);
  out.flows_uninserted = load_counter(counters.flows_uninserted);
  out.evictions = load_counter(counters.evictions);
  out.handed_over = load_counter(counters.handed_over);
  out.flows = load_counter(counters.flows);
  out.flow_capacity = load_counter(counters.flow_capacity);
  out.nat_ports_used = load_counter(counters.nat_ports_used);
  if (table != nullptr && turns_ % kTurnsPerSlowRead == 0) {
    const NatFullest fullest = worker.worker().nat_fullest(*table);
    out.nat_fullest_backend = fullest.backend;
    out.nat_fullest_used = fullest.used;
    out.nat_fullest_ports = fullest.ports;
  }
  out.cpu = static_cast<uint32_t>(std::max(worker.cpu(), 0));
  gather_counters(counters);
  gather_resolve(worker.worker().resolve_queue(), now_ns);
}

void Report::gather_counters(const WorkerCounters& counters) {
  Feedback& sum = *gathered_;
  for (uint32_t reason = 0; reason < kDropReasonCount; ++reason) {
    sum.drops[reason] += load_counter(counters.drops[reason]);
  }
  sum.to_kernel += load_counter(counters.to_kernel);
  sum.answered += load_counter(counters.answered);
  for (const uint16_t id : services_) add_words(sum.services[id], counters.services[id]);
  for (const uint16_t id : backends_) add_words(sum.backends[id], counters.backends[id]);
  sum.forwarded += load_counter(counters.forwarded);
  sum.originated += load_counter(counters.originated);
  sum.reassembled += load_counter(counters.reassembled);
  sum.fragments_joined += load_counter(counters.fragments_joined);
  sum.fragments_held += load_counter(counters.fragments_held);
  sum.fragmented += load_counter(counters.fragmented);
  sum.fragments_sent += load_counter(counters.fragments_sent);
}

void Report::gather_host(const HostCounters& counters) {
  Feedback& sum = *gathered_;
  sum.kernel_taken = relaxed(counters.delivered);
  sum.from_kernel = relaxed(counters.from_kernel);
  sum.kernel_waits = relaxed(counters.waits);
  sum.drops[static_cast<uint32_t>(DropReason::kernel_refused)] += relaxed(counters.refused);
  sum.drops[static_cast<uint32_t>(DropReason::from_kernel_full)] += relaxed(counters.lost);
  sum.drops[static_cast<uint32_t>(DropReason::exceeds_mtu)] += relaxed(counters.too_large);
}

// One entry per address and port; a new one takes the entry that was asked for longest ago.
void Report::gather_resolve(ResolveQueue& queue, uint64_t now_ns) {
  while (const auto wanted = queue.pop()) {
    ResolveRequest* entry = nullptr;
    for (ResolveRequest& request : gathered_->resolve) {
      if (request.requested_ns != 0 && request.address == wanted->address && request.port == wanted->port) {
        entry = &request;
        break;
      }
      if (entry == nullptr || request.requested_ns < entry->requested_ns) entry = &request;
    }
    *entry = {wanted->address, now_ns, wanted->port, 0};
  }
}

void Report::gather_header(DataplaneState state, const AdoptionStatus& adoption) {
  FeedbackHeader& header = gathered_->header;
  header.state = static_cast<uint32_t>(state);
  header.heartbeat_ns = monotonic_ns();
  header.table_epoch = adoption.table_epoch;
  header.adopted_generation = adoption.adopted_generation;
  header.adopted_monotonic_ns = adoption.adopted_ns;
  header.refused_generation = adoption.refused_generation;
  header.refused_count = adoption.refused_count;
  header.refused_reason = static_cast<uint32_t>(adoption.refused_reason);
  set_text(header.refused_text, adoption.refused_text);
}

// Writes the file. Trouble with it is none with packets.
void Report::finish() {
  const auto count = [](const std::vector<uint16_t>& ids) {
    return ids.empty() ? size_t{0} : ids.back() + size_t{1};
  };
  file_.end({.services = count(services_), .backends = count(backends_)});
  if (file_.trouble() == told_) return;
  told_ = file_.trouble();
  if (!told_.empty()) log_warning(told_);
}

// The file's own fields (magic to epoch, sequence, pid) and pending_generation are written elsewhere.
void Report::copy_out(Feedback& out) const {
  const Feedback& in = *gathered_;
  FeedbackHeader& header = out.header;
  header.start_realtime_ns = in.header.start_realtime_ns;
  header.table_epoch = in.header.table_epoch;
  header.adopted_generation = in.header.adopted_generation;
  header.adopted_monotonic_ns = in.header.adopted_monotonic_ns;
  header.refused_generation = in.header.refused_generation;
  header.refused_count = in.header.refused_count;
  header.refused_reason = in.header.refused_reason;
  header.state = in.header.state;
  header.worker_count = in.header.worker_count;
  header.port_count = in.header.port_count;
  header.tsc_hz = in.header.tsc_hz;
  header.nat_ports_total = in.header.nat_ports_total;
  std::memcpy(header.refused_text, in.header.refused_text, sizeof header.refused_text);
  std::memcpy(out.drops, in.drops, sizeof out.drops);
  out.to_kernel = in.to_kernel;
  out.answered = in.answered;
  out.kernel_taken = in.kernel_taken;
  out.from_kernel = in.from_kernel;
  out.kernel_waits = in.kernel_waits;
  out.forwarded = in.forwarded;
  out.originated = in.originated;
  out.reassembled = in.reassembled;
  out.fragments_joined = in.fragments_joined;
  out.fragments_held = in.fragments_held;
  out.fragmented = in.fragmented;
  out.fragments_sent = in.fragments_sent;
  out.steered_to_dataplane = in.steered_to_dataplane;
  out.steered_to_kernel = in.steered_to_kernel;
  out.steered_no_socket = in.steered_no_socket;
  out.take_over = in.take_over;
  std::memcpy(out.ports, in.ports, in.header.port_count * sizeof in.ports[0]);
  std::memcpy(out.workers, in.workers, in.header.worker_count * sizeof in.workers[0]);
  for (const uint16_t id : services_) out.services[id] = in.services[id];
  for (const uint16_t id : backends_) out.backends[id] = in.backends[id];
  std::memcpy(out.resolve, in.resolve, sizeof out.resolve);
}

}  // namespace portico
