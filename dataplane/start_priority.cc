// SPDX-License-Identifier: Apache-2.0
#include "dataplane/start_priority.h"

#include <sched.h>

#include <cstdlib>
#include <filesystem>

namespace portico {

// Real-time, because nice values count only among the processes of one session or control group (sched(7),
// "The autogroup feature"). A start that never came to its end would still leave 5% of the processor to
// others (sched_rt_runtime_us). DPDK's threads inherit it: their maker waits for them by sched_yield(), which
// lets nobody of lower priority run.
StartPriority::StartPriority() {
  if (sched_getscheduler(0) != SCHED_OTHER) return;  // somebody chose a policy for this process
  const sched_param lowest{.sched_priority = sched_get_priority_min(SCHED_RR)};
  raised_ = sched_setscheduler(0, SCHED_RR, &lowest) == 0;
}

void StartPriority::end() {
  if (!raised_) return;
  raised_ = false;
  const sched_param none{.sched_priority = 0};
  std::error_code error;
  // Until a pass finds nothing: a thread may start another while its own turn is still to come.
  for (bool any = true; any;) {
    any = false;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task", error)) {
      const int id = std::atoi(thread.path().filename().c_str());
      any |= sched_getscheduler(id) == SCHED_RR && sched_setscheduler(id, SCHED_OTHER, &none) == 0;
    }
  }
}

}  // namespace portico
