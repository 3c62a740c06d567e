// SPDX-License-Identifier: Apache-2.0
#include "dataplane/placement.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <set>

namespace portico {
namespace {

constexpr unsigned kMaxCpu = 4095;

// A physical core with those of its hardware threads that we may use, in the system's order.
struct Core {
  std::vector<unsigned> cpus;
  int node = -1;
};

int node_of(hwloc_topology_t topology, hwloc_obj_t pu) {
  hwloc_obj_t node = nullptr;
  while ((node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr) {
    if (hwloc_bitmap_isset(node->cpuset, pu->os_index) != 0) return static_cast<int>(node->os_index);
  }
  return -1;
}

std::vector<Core> cores_of(hwloc_topology_t topology, const std::vector<unsigned>& allowed) {
  std::vector<Core> cores;
  std::vector<hwloc_obj_t> seen;
  hwloc_obj_t pu = nullptr;
  while ((pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu)) != nullptr) {
    if (!allowed.empty() && std::find(allowed.begin(), allowed.end(), pu->os_index) == allowed.end())
      continue;
    // Virtual machines may have CPUs without cores; then each counts as one.
    hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_CORE, pu);
    if (core == nullptr) core = pu;
    const auto found = std::find(seen.begin(), seen.end(), core);
    if (found == seen.end()) {
      seen.push_back(core);
      cores.push_back({{pu->os_index}, node_of(topology, pu)});
    } else {
      cores[static_cast<size_t>(found - seen.begin())].cpus.push_back(pu->os_index);
    }
  }
  for (Core& core : cores) std::sort(core.cpus.begin(), core.cpus.end());
  return cores;
}

bool any_known(const std::vector<int>& nodes) {
  return std::any_of(nodes.begin(), nodes.end(), [](int node) { return node >= 0; });
}

unsigned lowest_cpu(const std::vector<Core>& cores) {
  unsigned lowest = ~0u;
  for (const Core& core : cores) lowest = std::min(lowest, core.cpus.front());
  return lowest;
}

// Cores in the order in which workers should take them.
void order_cores(std::vector<Core>& cores, const std::vector<int>& nodes) {
  const unsigned lowest = lowest_cpu(cores);
  const auto ports_near = [&nodes](const Core& core) {
    return core.node < 0 ? 0 : std::count(nodes.begin(), nodes.end(), core.node);
  };
  std::stable_sort(cores.begin(), cores.end(), [&](const Core& a, const Core& b) {
    const bool a_last = a.cpus.front() == lowest, b_last = b.cpus.front() == lowest;
    if (a_last != b_last) return b_last;
    return ports_near(a) > ports_near(b);
  });
}

void choose(const std::vector<Core>& cores, unsigned workers, Placement& placement) {
  // Round 0: first threads of the cores; round 1: second threads; and so on.
  for (size_t thread = 0; placement.worker_cpus.size() < workers; ++thread) {
    bool any = false;
    for (const Core& core : cores) {
      if (thread >= core.cpus.size()) continue;
      any = true;
      if (placement.worker_cpus.size() == workers) break;
      placement.worker_cpus.push_back(core.cpus[thread]);
    }
    if (!any) break;
  }
  const size_t distinct = placement.worker_cpus.size();
  for (size_t i = 0; placement.worker_cpus.size() < workers; ++i) {
    placement.worker_cpus.push_back(placement.worker_cpus[i % distinct]);
  }
}

std::string take_list(const std::vector<Core>& cores, const PlacementRequest& request, Placement& placement) {
  const auto list = parse_cpu_list(request.worker_cpus);
  if (!list) {
    return "worker_cpus: '" + request.worker_cpus + "' is not a list of CPUs such as \"2,3\" or \"2-5\"";
  }
  for (const unsigned cpu : *list) {
    const bool usable = std::any_of(cores.begin(), cores.end(), [cpu](const Core& core) {
      return std::find(core.cpus.begin(), core.cpus.end(), cpu) != core.cpus.end();
    });
    if (!usable) {
      return "worker_cpus: this process has no CPU " + std::to_string(cpu) +
             "; name CPUs that `nproc --all` and the process's affinity (taskset, cpuset) allow";
    }
  }
  for (size_t i = 0; i < request.workers; ++i) placement.worker_cpus.push_back((*list)[i % list->size()]);
  if (list->size() > request.workers) {
    placement.warnings.push_back(
        "worker_cpus names more CPUs than there are workers; the last ones are not used");
  }
  return "";
}

void warn_of_sharing(const std::vector<Core>& cores, const std::vector<int>& nodes, Placement& placement) {
  const std::vector<unsigned>& cpus = placement.worker_cpus;
  const std::set<unsigned> distinct(cpus.begin(), cpus.end());
  if (distinct.size() < cpus.size()) {
    placement.warnings.push_back(std::to_string(cpus.size()) + " workers share " +
                                 std::to_string(distinct.size()) +
                                 " CPUs: they slow each other down; lower `workers` or add CPUs");
  }
  unsigned used_cores = 0;
  for (const Core& core : cores) {
    used_cores +=
        std::any_of(core.cpus.begin(), core.cpus.end(), [&](unsigned c) { return distinct.contains(c); });
  }
  if (used_cores < distinct.size()) {
    placement.warnings.push_back("some workers share a physical core with another worker's hardware thread");
  }
  for (const Core& core : cores) {
    const bool used =
        std::any_of(core.cpus.begin(), core.cpus.end(), [&](unsigned c) { return distinct.contains(c); });
    if (used && any_known(nodes) && std::find(nodes.begin(), nodes.end(), core.node) == nodes.end()) {
      placement.warnings.push_back("a worker runs on another NUMA node (" + std::to_string(core.node) +
                                   ") than the ports");
      return;
    }
  }
}

// What distinguishes the CPU of worker `index`, the best first.
std::string reason_of(const Core& core, const std::vector<Core>& cores, const PlacementRequest& request,
                      const std::vector<unsigned>& taken, size_t index) {
  const auto before = taken.begin() + static_cast<std::ptrdiff_t>(index);
  const auto shared = std::find(taken.begin(), before, taken[index]);
  const auto sibling = std::find_if(taken.begin(), before, [&core](unsigned cpu) {
    return std::find(core.cpus.begin(), core.cpus.end(), cpu) != core.cpus.end();
  });
  const auto worker = [&taken](auto it) { return "worker " + std::to_string(it - taken.begin()); };
  std::string text;
  if (!request.worker_cpus.empty()) text = "named in worker_cpus; ";
  if (!any_known(request.nodes)) {
    text += "the ports' node is not known";
  } else if (std::find(request.nodes.begin(), request.nodes.end(), core.node) != request.nodes.end()) {
    text += "on a port's node";
  } else {
    text += request.worker_cpus.empty() ? "no core is left on the ports' nodes" : "far from the ports";
  }
  if (shared != before) return text + ", no CPU is left: shares that of " + worker(shared);
  if (sibling != before) return text + ", no core is left: shares that of " + worker(sibling);
  text += ", a physical core of its own";
  if (core.cpus.front() == lowest_cpu(cores)) text += ", the one that serves the kernel, too";
  return text;
}

void explain_choice(const std::vector<Core>& cores, const PlacementRequest& request, Placement& placement) {
  const std::vector<unsigned>& taken = placement.worker_cpus;
  for (size_t i = 0; i < taken.size(); ++i) {
    for (const Core& core : cores) {
      if (std::find(core.cpus.begin(), core.cpus.end(), taken[i]) == core.cpus.end()) continue;
      placement.worker_nodes.push_back(core.node);
      placement.reasons.push_back(reason_of(core, cores, request, taken, i));
    }
  }
}

// A hardware thread beside a worker takes from its core, so the others run there only if there is no choice.
std::vector<unsigned> choose_main_cpus(const std::vector<Core>& cores, const std::vector<unsigned>& taken) {
  std::vector<unsigned> apart, beside, all;
  for (const Core& core : cores) {
    const auto is_taken = [&taken](unsigned c) {
      return std::find(taken.begin(), taken.end(), c) != taken.end();
    };
    const bool has_worker = std::any_of(core.cpus.begin(), core.cpus.end(), is_taken);
    for (const unsigned cpu : core.cpus) {
      all.push_back(cpu);
      if (!has_worker) apart.push_back(cpu);
      if (!is_taken(cpu)) beside.push_back(cpu);
    }
  }
  std::vector<unsigned>& chosen = !apart.empty() ? apart : !beside.empty() ? beside : all;
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace

Placement place_workers(hwloc_topology_t topology, const PlacementRequest& request) {
  Placement placement;
  std::vector<Core> cores = cores_of(topology, request.allowed);
  if (cores.empty()) {
    placement.error = "no usable CPU; check the process's affinity (taskset, cpuset)";
    return placement;
  }
  order_cores(cores, request.nodes);
  if (request.worker_cpus.empty()) {
    choose(cores, request.workers, placement);
  } else {
    placement.error = take_list(cores, request, placement);
    if (!placement.error.empty()) return placement;
  }
  warn_of_sharing(cores, request.nodes, placement);
  explain_choice(cores, request, placement);
  placement.main_cpus = choose_main_cpus(cores, placement.worker_cpus);
  return placement;
}

unsigned physical_cores(hwloc_topology_t topology, const std::vector<unsigned>& allowed) {
  return static_cast<unsigned>(cores_of(topology, allowed).size());
}

std::optional<std::vector<unsigned>> parse_cpu_list(const std::string& text) {
  std::vector<unsigned> cpus;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto number = [&at, end](unsigned& value) {
    const auto parsed = std::from_chars(at, end, value);
    if (parsed.ec != std::errc() || value > kMaxCpu) return false;
    at = parsed.ptr;
    return true;
  };
  for (;;) {
    unsigned first = 0, last = 0;
    if (!number(first)) return std::nullopt;
    last = first;
    if (at != end && *at == '-') {
      ++at;
      if (!number(last) || last < first) return std::nullopt;
    }
    for (unsigned cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (at == end) return cpus;
    if (*at++ != ',') return std::nullopt;
  }
}

std::vector<unsigned> allowed_cpus() {
  std::vector<unsigned> cpus;
  cpu_set_t* set = CPU_ALLOC(kMaxCpu + 1);
  if (set == nullptr) return cpus;
  const size_t size = CPU_ALLOC_SIZE(kMaxCpu + 1);
  CPU_ZERO_S(size, set);
  if (sched_getaffinity(0, size, set) == 0) {
    for (unsigned cpu = 0; cpu <= kMaxCpu; ++cpu) {
      if (CPU_ISSET_S(cpu, size, set)) cpus.push_back(cpu);
    }
  }
  CPU_FREE(set);
  return cpus;
}

void allow_cpus(const std::vector<unsigned>& cpus) {
  cpu_set_t* set = CPU_ALLOC(kMaxCpu + 1);
  if (set == nullptr) return;
  const size_t size = CPU_ALLOC_SIZE(kMaxCpu + 1);
  CPU_ZERO_S(size, set);
  for (const unsigned cpu : cpus) CPU_SET_S(cpu, size, set);
  sched_setaffinity(0, size, set);
  CPU_FREE(set);
}

}  // namespace portico
