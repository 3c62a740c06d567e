// SPDX-License-Identifier: Apache-2.0
// Start and end of DPDK's environment layer in this process.
#pragma once

#include <string>

#include "dataplane/eal_arguments.h"

namespace portico {

// While it lives, DPDK's environment is up. Only one per process, ever: DPDK cannot be started twice.
class Eal {
 public:
  // Starts it with its files below `run_dir` and its messages in our log. Throws std::runtime_error with the
  // remedy: no huge pages, no permission, a device that does not probe.
  Eal(const EalRequest& request, const std::string& run_dir);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;
};

// Throws std::runtime_error with the remedy unless `bytes` of huge pages are free.
void require_huge_pages(uint64_t bytes);

}  // namespace portico
