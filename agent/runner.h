// SPDX-License-Identifier: Apache-2.0
// The running agent: loads and attaches what the configuration says, and follows the host's addresses, its
// neighbours and its interfaces. Packets do not need it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agent/attachment.h"
#include "agent/config.h"
#include "agent/object.h"
#include "agent/peers.h"
#include "agent/report.h"

namespace portico {

class Runner {
 public:
  Runner(std::string config_path, AgentConfig config, AgentPaths paths, NetlinkSocket socket);

  // Loads and attaches. nullopt, or why not; what was attached before is then untouched.
  std::optional<std::string> start();
  // Until SIGTERM or SIGINT, which leave everything attached. SIGHUP reads the configuration again; with any
  // error, nothing changes. Blocks these signals. Returns an exit status.
  int run();

 private:
  std::optional<agent_settings> settings_for(const AgentConfig& config, std::string& failure);
  std::vector<AttachWay> ways(const AgentConfig& config, int ifindex) const;
  std::optional<std::string> attach(const AgentConfig& config);
  std::optional<std::string> attach_by(const AgentConfig& config, const agent_settings& settings, int ifindex,
                                       AttachWay way);
  std::vector<Address> host_addresses();
  void follow();
  void attach_again_if_needed();
  void reload();
  void tell(const std::string& news);
  void write_metrics();

  const std::string config_path_;
  AgentConfig config_;
  const AgentPaths paths_;
  NetlinkSocket socket_;
  const Attachment attachment_;
  std::optional<AgentObject> object_;
  std::optional<Peers> peers_;
  agent_settings settings_{};
  AttachWay way_ = AttachWay::automatic;               // that it is attached by
  std::string told_;                                   // the last complaint, not to be repeated
  std::chrono::steady_clock::time_point metrics_due_;  // when the next ones are
};

}  // namespace portico
