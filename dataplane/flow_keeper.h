// SPDX-License-Identifier: Apache-2.0
// The process's side of flows that outlive it: opens their store, gives it to the workers, shows every few
// milliseconds that we live, and tells what was taken up and for how long nothing was forwarded.
#pragma once

#include <memory>
#include <vector>

#include "contract/feedback.h"
#include "dataplane/flow_store.h"
#include "dataplane/options.h"
#include "dataplane/report.h"
#include "dataplane/start_plan.h"
#include "dataplane/worker_thread.h"

namespace portico {

class FlowKeeper {
 public:
  // Never fails: without a store flows end with the process, and the log says so.
  FlowKeeper(const StartPlan& plan, const Options& options);

  void configure(WorkerConfig& config) const;
  FlowStore* store() { return store_.get(); }

  // Main thread, every kFeedbackIntervalMs. `is_forwarding`: the workers have their first table.
  void turn(bool is_forwarding, const std::vector<WorkerThread*>& workers, Report& report);

 private:
  void tell(const std::vector<WorkerThread*>& workers, Report& report);

  std::unique_ptr<FlowStore> store_;
  uint64_t earlier_alive_ns_ = 0;
  uint32_t tick_offset_ = 0;
  Clock clock_;
  bool is_told_ = false;
};

}  // namespace portico
