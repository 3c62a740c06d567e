// SPDX-License-Identifier: Apache-2.0
// The running process gives way to the program that now has its name: the same process id, so that whoever
// supervises it notices nothing. The new program is tried first, without ports; only if it can read the table
// and plan its start are the workers stopped. Flows stay where they are (flow_store.h).
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "dataplane/options.h"

namespace portico {

// How long the new program may take to plan its start.
inline constexpr uint64_t kTrialNs = 10'000'000'000;
// From the answer to who asked until the workers stop: it has to get through the telemetry socket.
inline constexpr uint64_t kUpgradeDelayNs = 50'000'000;

class Upgrade {
 public:
  // Remembers what runs, before an update of the file can change what /proc says, and where it may run,
  // before DPDK keeps the main thread from the workers' CPUs. `arguments`: of main().
  Upgrade(std::vector<std::string> arguments, const Options& options);

  // Tries the program, kTrialNs at most; empty: it is good, and is_due() will say so. Else what is wrong. Any
  // thread, one at a time.
  std::string request();

  // Main thread: whether to stop and replace() now.
  bool is_due(uint64_t now_ns) const;

  // Becomes the new program. Returns only if that fails, with the reason.
  std::string replace() const;

  const std::string& program() const { return program_; }

 private:
  std::string program_;
  std::vector<std::string> arguments_;
  const Options options_;
  const std::vector<unsigned> cpus_;
  std::atomic<uint64_t> asked_ns_{0};  // CLOCK_MONOTONIC; 0: not asked. Relaxed
};

}  // namespace portico
