// SPDX-License-Identifier: Apache-2.0
// This machine as hwloc sees it: CPUs, NUMA nodes, and which node each NIC is attached to. The environment's
// HWLOC_XMLFILE names a file of `lstopo --of xml` to plan for another machine.
#pragma once

#include <hwloc.h>

#include <memory>
#include <string>
#include <vector>

#include "dataplane/port_plan.h"

namespace portico {

using Topology = std::unique_ptr<hwloc_topology, decltype(&hwloc_topology_destroy)>;

// With I/O devices. Throws std::runtime_error with the remedy.
Topology load_topology();

// "2 NUMA nodes, 8 cores, 16 CPUs".
std::string describe_machine(hwloc_topology_t topology);

// CPUs that this process may use; empty, which means all, for a topology of another machine.
std::vector<unsigned> usable_cpus(hwloc_topology_t topology);

// The NUMA node that the port's hardware is attached to; -1: none, or nobody knows.
int node_of_port(hwloc_topology_t topology, const PortPlan& port);

}  // namespace portico
