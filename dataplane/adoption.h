// SPDX-License-Identifier: Apache-2.0
// The way of a generation from the table file to the workers: look, copy and check (contract's Adopter),
// arrange, hand over, wait until every worker uses it, free the one before. Nothing here waits: each call
// does what can be done now. Steering follows: what a generation drops is no longer steered before the
// workers get it, what it adds is steered after they have it.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "contract/adopter.h"
#include "contract/log_limit.h"
#include "dataplane/flow_store.h"
#include "dataplane/steering.h"
#include "dataplane/worker_thread.h"

namespace portico {

// A worker that has not taken a new table up for this long is named. It sleeps 1 ms at most.
inline constexpr uint64_t kAcknowledgeDeadlineNs = 100'000'000;
// Tables that wait for a stuck worker at most; until it moves, newer generations stay in the file.
inline constexpr size_t kMaxRetiredTables = 4;
// Steering that failed is tried again this often.
inline constexpr uint64_t kSteeringRetryNs = 1'000'000'000;

struct AdoptionStatus {
  uint64_t table_epoch = 0;
  uint64_t adopted_generation = 0;  // in use by every worker
  uint64_t adopted_ns = 0;          // CLOCK_MONOTONIC
  uint64_t refused_generation = 0;
  uint64_t refused_count = 0;
  RefusalReason refused_reason = RefusalReason::none;
  std::string refused_text;
  std::string stuck_text;     // names the worker that the newest generation waits for; empty: none
  std::string steering_text;  // what the last change of the steering maps failed with; empty: nothing
};

class Adoption {
 public:
  // `steering` may be null: no port of ours is steered. The workers need not run yet.
  // `store` may be null: flows end with the process.
  Adoption(Adopter& adopter, std::vector<WorkerThread*> workers, Steering* steering,
           FlowStore* store = nullptr);

  // The snapshot with which the dataplane starts. Throws std::runtime_error if memory is short.
  void start_with(std::shared_ptr<const Snapshot> snapshot, uint64_t now_ns);

  // Main thread, every kAdoptIntervalUs.
  void tick(uint64_t now_ns);

  const AdoptionStatus& status() const { return status_; }

  // The newest generation given to the workers, for those who translate ids to names. Any thread.
  std::shared_ptr<const Snapshot> snapshot() const;
  // Main thread.
  const Table* table() const { return current_.get(); }

 private:
  void look(uint64_t now_ns);
  void take(const std::shared_ptr<const Snapshot>& snapshot, uint64_t now_ns);
  void note_backends(const Table& table);
  void give_to_workers(std::shared_ptr<const Table> table, uint64_t now_ns);
  void check_acknowledgements(uint64_t now_ns);
  void refuse(uint64_t generation, RefusalReason reason, const std::string& text);
  void note_restart(const Snapshot& next);
  void steer_new(uint64_t now_ns);
  void note_steering(const Steering::Failure& failure);

  Adopter& adopter_;
  FlowStore* const store_;
  const std::vector<WorkerThread*> workers_;
  Steering* const steering_;
  std::shared_ptr<const Snapshot> started_with_;
  std::shared_ptr<const Table> current_;
  std::deque<std::shared_ptr<const Table>> retired_;  // some worker may still use these
  bool is_acknowledged_ = false;                      // current_, by all
  bool is_steered_ = false;                           // what current_ adds
  bool has_warned_of_store_ = false;
  uint64_t given_ns_ = 0;        // current_, to the workers
  uint64_t steer_after_ns_ = 0;  // earliest next attempt
  AdoptionStatus status_;
  LogLimit refusal_log_;
  mutable std::mutex snapshot_lock_;
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace portico
