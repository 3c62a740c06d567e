// SPDX-License-Identifier: Apache-2.0
// portico-agent's configuration as people wrote it, with every default filled in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "contract/address.h"

namespace portico {

// Where the program is attached. `automatic`: the first of native, generic and tc that the interface allows.
enum class AttachWay : uint8_t { automatic, native, generic, tc };

// "auto", "native", "generic" or "tc".
const char* to_string(AttachWay way);

struct AgentConfig {
  std::string instance;          // names its pins and files; default: the interface
  std::string interface;         // where tunnel packets arrive
  std::string replies_leave_by;  // where SYN-ACKs leave; default: the same
  AttachWay attach = AttachWay::automatic;
  std::vector<Address> vips;
  std::vector<Prefix> balancers;  // outer sources
  std::vector<Address> peers;     // portals, this one may be among them
  bool ipip = true, gue = true;   // tunnels that are taken
  uint16_t gue_port = 0;          // host byte order
  bool second_chance = false;     // default: if there are peers
  bool clamp_mss = true;
  uint32_t mtu = 0;               // of the way from the balancers, bytes of IP packet; 0: the interface's
  std::string sockets_namespace;  // path of a network namespace; "": the interface's
  std::string metrics_file;       // Prometheus' textfile; "": none

  bool operator==(const AgentConfig&) const = default;
};

struct AgentConfigResult {
  std::optional<AgentConfig> config;  // absent if there is any error
  std::string messages;  // all errors and warnings, "FILE:LINE:COLUMN: error: ..." each on a line
};

// Reads and checks a configuration file. Never throws for what the file says. `check_system`: also that the
// interfaces and the namespace exist here.
AgentConfigResult load_agent_config(const std::string& path, bool check_system);
// The same for a text; `name` is for messages.
AgentConfigResult parse_agent_config(const std::string& text, const std::string& name, bool check_system);

// The most that a SYN-ACK may announce so that the client's packets fit `mtu` inside the widest tunnel that
// the configuration allows; 0: it does not matter. `inner`: the client's family.
uint16_t highest_mss(const AgentConfig& config, uint32_t mtu, Family inner);

}  // namespace portico
