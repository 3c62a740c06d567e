// SPDX-License-Identifier: Apache-2.0
// What the dataplane tells the world: gathers the workers' counters and the main thread's state, and writes
// them to the `feedback` file. Telemetry reads the same numbers.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "contract/feedback_file.h"
#include "dataplane/adoption.h"
#include "dataplane/host_path.h"
#include "dataplane/ports.h"
#include "dataplane/steering.h"
#include "dataplane/worker_thread.h"

namespace portico {

class Report {
 public:
  // Takes the run directory's feedback file; throws std::runtime_error if another dataplane has it.
  explicit Report(const std::filesystem::path& run_dir);

  // For Adopter: writes at once, since control must see it before blocks are copied.
  void set_pending(uint64_t epoch, uint64_t generation);

  // What was taken up from the process before: once, at the start.
  void set_take_over(const TakeOverFeedback& take_over);

  // Before there are workers, and at the end.
  void write_state(DataplaneState state, const AdoptionStatus& adoption);

  // Everything. Main thread, every kFeedbackIntervalMs. `host` may be null.
  void write(DataplaneState state, Adoption& adoption, const std::vector<WorkerThread*>& workers,
             const Ports& ports, const Steering& steering, const HostPath* host);

  // Calls `look(const Feedback&)` on what was last written. Any thread; keep it short.
  template <typename Look>
  void read(const Look& look) const {
    const std::lock_guard lock(lock_);
    look(*gathered_);
  }

 private:
  void learn_ids(const Snapshot& snapshot);
  void gather_worker(uint32_t index, WorkerThread& worker, uint64_t now_ns);
  void gather_counters(const WorkerCounters& counters);
  void gather_host(const HostCounters& counters);
  void gather_resolve(ResolveQueue& queue, uint64_t now_ns);
  void gather_header(DataplaneState state, const AdoptionStatus& adoption);
  void copy_out(Feedback& out) const;
  void finish();

  FeedbackWriter file_;
  const uint64_t start_realtime_ns_;
  mutable std::mutex lock_;             // gathered_
  std::unique_ptr<Feedback> gathered_;  // by the main thread
  std::vector<uint16_t> services_,
      backends_;  // ids seen since start, ascending: gathering costs what is used
  uint64_t known_epoch_ = 0, known_generation_ = 0;  // of the snapshot whose ids were added last
  uint32_t turns_ = 0;
  std::string told_;  // of the file's trouble, to say it once
};

}  // namespace portico
