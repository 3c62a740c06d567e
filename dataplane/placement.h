// SPDX-License-Identifier: Apache-2.0
// Which CPU each worker runs on. Pure: a topology in, numbers out, so that machines that nobody here owns
// can be tested.
#pragma once

#include <hwloc.h>

#include <optional>
#include <string>
#include <vector>

namespace portico {

struct PlacementRequest {
  unsigned workers = 1;           // >= 1
  std::string worker_cpus;        // "2,3" or "2-5" (operating system's numbers); empty: choose
  std::vector<int> nodes;         // NUMA nodes of the ports, -1: unknown
  std::vector<unsigned> allowed;  // CPUs that this process may use; empty: all of the topology
};

struct Placement {
  std::vector<unsigned> worker_cpus;  // by worker index
  std::vector<int> worker_nodes;      // NUMA node of each; -1: unknown
  std::vector<std::string> reasons;   // why each worker runs there, in words
  std::vector<unsigned> main_cpus;    // for all other threads: cores without workers, else what is left
  std::vector<std::string> warnings;  // what a person should know: shared cores, other nodes
  std::string error;                  // not empty: there is no placement, and why
};

// One worker per physical core: cores of the node with most ports first, then of the other ports' nodes, then
// others (few nodes mean few copies of the table); the core of the lowest CPU last (it serves the kernel's
// interrupts and our main thread). When cores run out, their second hardware threads are used, and then CPUs
// are shared; both with a warning. An explicit list is taken as it is, in its order.
Placement place_workers(hwloc_topology_t topology, const PlacementRequest& request);

// How many physical cores the allowed CPUs make.
unsigned physical_cores(hwloc_topology_t topology, const std::vector<unsigned>& allowed);

// Parses "2,3" and "2-5,8"; nothing if it is not such a list or names a CPU above 4095.
std::optional<std::vector<unsigned>> parse_cpu_list(const std::string& text);

// CPUs in which the calling process may run now.
std::vector<unsigned> allowed_cpus();
// Lets the calling thread, and what it starts, run in these only, as far as the system allows.
void allow_cpus(const std::vector<unsigned>& cpus);

}  // namespace portico
