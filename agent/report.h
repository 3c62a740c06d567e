// SPDX-License-Identifier: Apache-2.0
// What an instance does now, as its maps and pins in the kernel say: it need not run to be asked.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/attachment.h"
#include "agent/counters.h"

namespace portico {

// Where instances leave their traces.
struct AgentPaths {
  std::filesystem::path bpffs = "/sys/fs/bpf", run_dir = "/run/portico-agent";
  std::filesystem::path lock(const std::string& instance) const { return run_dir / (instance + ".lock"); }
};

// The lock that a running agent holds, with its process id in the file.
// Locks it for this process. Not open and a text in `failure` if it runs already, or the file cannot be made.
FileHandle lock_instance(const AgentPaths& paths, const std::string& instance, std::string& failure);
// The process that holds it; 0: none.
pid_t running_agent(const AgentPaths& paths, const std::string& instance);

struct PeerStatus {
  Address address{};
  std::string interface, mac;  // "": not resolved
};

struct AgentStatus {
  std::string instance;
  pid_t pid = 0;                 // 0: does not run
  std::optional<AttachWay> way;  // nullopt: not attached
  std::string interface, clamp_interface;
  uint32_t program_id = 0;
  std::vector<Address> vips;
  std::vector<PeerStatus> peers;
  CounterValues counters{};

  // 0: well; 1: takes packets, but nobody follows peers, or one has no MAC; 2: nothing is attached.
  int exit_status() const;
};

AgentStatus agent_status(const AgentPaths& paths, const std::string& instance);

std::string status_text(const AgentStatus& status);
std::string status_json(const AgentStatus& status);
// In Prometheus' text format, of all the instances.
std::string metrics_text(const std::vector<AgentStatus>& all);

}  // namespace portico
