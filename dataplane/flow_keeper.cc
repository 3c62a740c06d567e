// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_keeper.h"

#include <rte_cycles.h>

#include <algorithm>
#include <stdexcept>

#include "dataplane/flow_place.h"
#include "dataplane/log.h"

namespace portico {
namespace {

constexpr const char* kNotKept = "; connections end with this process";

std::unique_ptr<FlowStore> open_store(const StartPlan& plan, const Options& options) {
  const auto place = choose_flow_place(options.run_dir, options.file_prefix, plan.huge_pages);
  if (place.empty()) {
    log_warning(std::string("no hugetlbfs with pages of 2 MiB is mounted (mount -t hugetlbfs none "
                            "/dev/hugepages)") +
                kNotKept);
    return nullptr;
  }
  try {
    return std::make_unique<FlowStore>(FlowStoreRequest{.run_dir = options.run_dir,
                                                        .place = place,
                                                        .workers = plan.workers,
                                                        .flows_per_worker = plan.flows_per_worker,
                                                        .now_ns = monotonic_ns()});
  } catch (const std::runtime_error& error) {
    log_warning(error.what() + std::string(kNotKept));
    return nullptr;
  }
}

}  // namespace

FlowKeeper::FlowKeeper(const StartPlan& plan, const Options& options)
    : store_(open_store(plan, options)), clock_(rte_get_tsc_hz()) {
  if (store_ == nullptr) return;
  if (!store_->note().empty()) log_warning(store_->note());
  earlier_alive_ns_ = store_->earlier_alive_ns();
  tick_offset_ = store_->tick_offset(clock_, rte_rdtsc(), monotonic_ns());
  clock_ = Clock(rte_get_tsc_hz(), tick_offset_);
}

void FlowKeeper::configure(WorkerConfig& config) const {
  config.store = store_.get();
  config.tick_offset = tick_offset_;
}

void FlowKeeper::turn(bool is_forwarding, const std::vector<WorkerThread*>& workers, Report& report) {
  if (store_ == nullptr || !is_forwarding) return;
  if (!is_told_) tell(workers, report);
  store_->note_alive(monotonic_ns(), clock_.tick(rte_rdtsc()));
}

void FlowKeeper::tell(const std::vector<WorkerThread*>& workers, Report& report) {
  is_told_ = true;
  if (earlier_alive_ns_ == 0) return;
  TakeOverFeedback told{};
  uint64_t lost = 0;
  told.stop_ns = monotonic_ns() - earlier_alive_ns_;
  for (WorkerThread* worker : workers) {
    const WorkerCounters& counters = worker->worker().counters();
    told.flows_kept += load_counter(counters.flows_kept);
    for (uint32_t i = 0; i < kFlowLossCount; ++i) {
      told.flows_lost[i] += load_counter(counters.flows_lost[i]);
      lost += load_counter(counters.flows_lost[i]);
    }
  }
  report.set_take_over(told);
  log_info("took " + std::to_string(told.flows_kept) +
           " connections up from the process before and dropped " + std::to_string(lost) +
           "; nothing was forwarded for " + std::to_string(told.stop_ns / 1'000'000) + " ms");
}

}  // namespace portico
