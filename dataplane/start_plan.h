// SPDX-License-Identifier: Apache-2.0
// Everything that is decided once, when the dataplane starts: from the [start] settings of the table and what
// the host has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "contract/snapshot.h"
#include "dataplane/eal_arguments.h"
#include "dataplane/options.h"
#include "dataplane/placement.h"

namespace portico {

struct StartPlan {
  uint32_t workers = 1;
  Placement placement;
  std::string machine;  // "2 NUMA nodes, 8 cores, 16 CPUs"
  std::vector<PortPlan> ports;
  std::vector<int> port_nodes;          // NUMA node of each port's hardware; -1: none or not known
  std::vector<std::string> objections;  // why these ports cannot work, each with its remedy
  std::vector<uint32_t> mtus;           // wanted, by port; 0: the device's
  uint32_t mbufs = 0;                   // per NUMA node
  uint16_t data_room = 0;               // bytes of a packet buffer
  uint32_t flows_per_worker = 0;
  bool huge_pages = true;
  uint64_t memory = 0;  // bytes for packet buffers and rings
  EalRequest eal;
};

// What would be started. Touches nothing. Throws std::runtime_error with the remedy if there is no plan at
// all; what is wrong with single ports of this machine stands in `objections`. `xdp_program`: see plan_port.
StartPlan draw_plan(const Snapshot& snapshot, const Options& options, const std::string& xdp_program);

// The same to start by: throws the first objection, too.
StartPlan make_start_plan(const Snapshot& snapshot, const Options& options, const std::string& xdp_program);

// Which [start] settings of `next` differ from those in use, "workers, ports"; nothing if none does.
std::optional<std::string> restart_needed(const Snapshot& running, const Snapshot& next);

// True if a port index of `next` means another device than in `running`: then its next hops cannot be used
// before a restart. Ports added at the end are no conflict.
bool ports_conflict(const Snapshot& running, const Snapshot& next);

// How many workers run if the settings leave it open: as many as every port has queues for, at most one per
// physical core but one; `queues[i]` 0: port i does not say.
uint32_t choose_workers(const std::vector<uint32_t>& queues, unsigned cores);

}  // namespace portico
