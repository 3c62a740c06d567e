// SPDX-License-Identifier: Apache-2.0
#include "dataplane/adoption.h"

#include <rte_cycles.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "dataplane/log.h"
#include "dataplane/prepare.h"
#include "dataplane/start_plan.h"

namespace portico {

Adoption::Adoption(Adopter& adopter, std::vector<WorkerThread*> workers, Steering* steering, FlowStore* store)
    : adopter_(adopter), store_(store), workers_(std::move(workers)), steering_(steering) {}

void Adoption::start_with(std::shared_ptr<const Snapshot> snapshot, uint64_t now_ns) {
  started_with_ = snapshot;
  status_.table_epoch = snapshot->epoch;
  std::shared_ptr<const Table> table = build_table(std::move(snapshot), nullptr);
  std::vector<Worker*> workers;
  for (WorkerThread* worker : workers_) workers.push_back(&worker->worker());
  prepare_workers(workers, *table, store_, rte_rdtsc());
  give_to_workers(std::move(table), now_ns);
}

void Adoption::tick(uint64_t now_ns) {
  check_acknowledgements(now_ns);
  if (retired_.size() < kMaxRetiredTables) look(now_ns);
}

std::shared_ptr<const Snapshot> Adoption::snapshot() const {
  const std::lock_guard lock(snapshot_lock_);
  return snapshot_;
}

void Adoption::look(uint64_t now_ns) {
  AdoptResult result = adopter_.poll();
  switch (result.kind) {
    case AdoptResult::Kind::no_table:  // control is gone or starts anew; the last good table serves
    case AdoptResult::Kind::unchanged:
      return;
    case AdoptResult::Kind::adopted:
      take(result.snapshot, now_ns);
      return;
    case AdoptResult::Kind::refused:
      refuse(result.generation, result.reason, result.text);
      return;
  }
}

void Adoption::take(const std::shared_ptr<const Snapshot>& snapshot, uint64_t now_ns) {
  const uint64_t generation = snapshot->generation;
  if (ports_conflict(*started_with_, *snapshot)) {
    refuse(generation, RefusalReason::ports_changed,
           "ports: a port means another device than before; restart portico-dataplane to use it");
    return;
  }
  std::shared_ptr<const Table> table;
  try {
    table = build_table(snapshot, current_.get());
    for (WorkerThread* worker : workers_) worker->worker().prepare(*table);
  } catch (const std::bad_alloc&) {
    refuse(generation, RefusalReason::no_memory, "no memory to arrange the table");
    return;
  } catch (const std::runtime_error& error) {
    refuse(generation, RefusalReason::no_memory, error.what());
    return;
  }
  note_backends(*table);
  if (status_.table_epoch != snapshot->epoch) status_.adopted_generation = 0;
  status_.table_epoch = snapshot->epoch;
  note_restart(*snapshot);
  if (steering_ != nullptr) note_steering(steering_->remove_stale(*snapshot));
  give_to_workers(std::move(table), now_ns);
}

// Before any flow can have a new id. Forwarding does not depend on it, so that a failure refuses nothing.
void Adoption::note_backends(const Table& table) {
  if (store_ == nullptr) return;
  try {
    store_->note_backends(table);
    has_warned_of_store_ = false;
  } catch (const std::runtime_error& error) {
    if (!std::exchange(has_warned_of_store_, true))
      log_warning(std::string("flows may not outlive the dataplane: ") + error.what());
  }
}

void Adoption::give_to_workers(std::shared_ptr<const Table> table, uint64_t now_ns) {
  for (WorkerThread* worker : workers_) worker->publish(table.get());
  if (current_ != nullptr) retired_.push_back(std::move(current_));
  current_ = std::move(table);
  given_ns_ = now_ns;
  is_acknowledged_ = false;
  is_steered_ = false;
  steer_after_ns_ = 0;
  const std::lock_guard lock(snapshot_lock_);
  // Shares the table's own, so that it lives as long as anybody reads names in it.
  snapshot_ = std::shared_ptr<const Snapshot>(current_, &current_->snapshot());
}

void Adoption::check_acknowledgements(uint64_t now_ns) {
  if (current_ == nullptr || (is_acknowledged_ && is_steered_)) return;
  // Acquire pairs with the worker's release: it has let go of every earlier table.
  const auto behind = std::find_if(workers_.begin(), workers_.end(), [this](const WorkerThread* worker) {
    return worker->status().table.load(std::memory_order_acquire) != current_.get();
  });
  if (behind == workers_.end()) {
    if (!is_acknowledged_) {
      retired_.clear();
      is_acknowledged_ = true;
      status_.stuck_text.clear();
      status_.adopted_generation = current_->generation();
      status_.adopted_ns = now_ns;
      log_debug("generation " + std::to_string(current_->generation()) + " is in use by all workers");
    }
  } else {
    if (now_ns - given_ns_ < kAcknowledgeDeadlineNs) return;
    if (status_.stuck_text.empty()) {
      status_.stuck_text = "worker " + std::to_string((*behind)->index()) + " on CPU " +
                           std::to_string((*behind)->cpu()) + " has not taken up generation " +
                           std::to_string(current_->generation());
      log_warning(status_.stuck_text + "; something else may hold its CPU");
    }
  }
  // A stuck worker does not keep a new service from the others.
  steer_new(now_ns);
}

void Adoption::steer_new(uint64_t now_ns) {
  if (is_steered_ || now_ns < steer_after_ns_) return;
  const auto failure = steering_ != nullptr ? steering_->add_new(current_->snapshot()) : std::nullopt;
  note_steering(failure);
  is_steered_ = !failure;
  steer_after_ns_ = now_ns + kSteeringRetryNs;
}

void Adoption::refuse(uint64_t generation, RefusalReason reason, const std::string& text) {
  status_.refused_generation = generation;
  ++status_.refused_count;
  status_.refused_reason = reason;
  status_.refused_text = text;
  if (const auto more = refusal_log_.admit(text, monotonic_ns()))
    log_error("generation " + std::to_string(generation) + " refused: " + text +
              "; the last good one stays in use" + *more);
}

// A later good generation ends a refusal; a [start] setting stays shown until the restart.
void Adoption::note_restart(const Snapshot& next) {
  // A refused number above ours was another file's, or garbage.
  if (status_.refused_generation > next.generation) status_.refused_generation = 0;
  const auto changed = restart_needed(*started_with_, next);
  const RefusalReason before = status_.refused_reason;
  if (!changed) {
    status_.refused_reason = RefusalReason::none;
    status_.refused_text.clear();
    return;
  }
  const std::string text = "restart portico-dataplane to apply: " + *changed;
  if (before != RefusalReason::needs_restart || text != status_.refused_text) log_warning(text);
  status_.refused_reason = RefusalReason::needs_restart;
  status_.refused_text = text;
}

void Adoption::note_steering(const Steering::Failure& failure) {
  if (failure && *failure != status_.steering_text) log_error("steering: " + *failure);
  status_.steering_text = failure.value_or("");
}

}  // namespace portico
