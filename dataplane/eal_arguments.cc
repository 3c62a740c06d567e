// SPDX-License-Identifier: Apache-2.0
#include "dataplane/eal_arguments.h"

#include <algorithm>

namespace portico {

std::vector<std::string> eal_arguments(const EalRequest& request) {
  // Neither leaves a file behind, so that nothing stale stops a restart and huge pages return at once.
  // DPDK refuses --in-memory together with --no-huge.
  std::vector<std::string> arguments = {"portico-dataplane",
                                        request.huge_pages ? "--in-memory" : "--no-shconf",
                                        "--file-prefix=" + request.file_prefix};

  // One EAL core, "0@(2,3)": id 0 floats over these CPUs. Workers are our own threads, registered later.
  std::string lcores = "--lcores=0@(";
  for (const unsigned cpu : request.main_cpus) {
    if (lcores.back() != '(') lcores += ',';
    lcores += std::to_string(cpu);
  }
  arguments.push_back(lcores + ")");

  if (!request.huge_pages) {
    arguments.push_back("--no-huge");
    arguments.push_back("-m");
    arguments.push_back(std::to_string(request.memory_mb));
  }

  const bool any_pci = std::any_of(request.ports.begin(), request.ports.end(),
                                   [](const PortPlan& port) { return port.kind == PortKind::pci; });
  if (!any_pci) {
    arguments.push_back("--no-pci");
    // Virtual addresses as I/O addresses: an AF_XDP port wants its packet buffers in one piece.
    arguments.push_back("--iova-mode=va");
  }
  for (const PortPlan& port : request.ports) {
    if (port.kind != PortKind::pci) continue;
    arguments.push_back("--allow=" + port.device + (port.arguments.empty() ? "" : "," + port.arguments));
  }
  // The first pattern that fits decides. Telemetry warns on every start that it has no legacy socket.
  arguments.push_back("--log-level=lib.telemetry:error");
  arguments.push_back(std::string("--log-level=*:") +
                      (request.log_level == LogLevel::debug ? "info" : "warning"));
  return arguments;
}

std::string telemetry_socket_path(const std::string& run_dir, const std::string& file_prefix) {
  return run_dir + "/dpdk/" + file_prefix + "/dpdk_telemetry.v2";
}

}  // namespace portico
