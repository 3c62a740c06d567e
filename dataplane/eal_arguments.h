// SPDX-License-Identifier: Apache-2.0
// The arguments that DPDK's environment layer (EAL) is started with. Pure, so that tests can read them.
#pragma once

#include <string>
#include <vector>

#include "dataplane/log.h"
#include "dataplane/port_plan.h"

namespace portico {

struct EalRequest {
  std::string file_prefix;
  bool huge_pages = true;
  uint32_t memory_mb = 0;           // with huge pages off: reserved (not touched) at start
  std::vector<unsigned> main_cpus;  // where main and EAL's control threads may run; at least one
  std::vector<PortPlan> ports;
  LogLevel log_level = LogLevel::info;
};

// argv of rte_eal_init, program name first. Virtual devices are not in it: they are added one by one after
// start-up, so that a failure names its port.
std::vector<std::string> eal_arguments(const EalRequest& request);

// Where DPDK's telemetry socket appears below RUNTIME_DIRECTORY=`run_dir`.
std::string telemetry_socket_path(const std::string& run_dir, const std::string& file_prefix);

}  // namespace portico
