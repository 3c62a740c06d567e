// SPDX-License-Identifier: Apache-2.0
#include "dataplane/topology.h"

#include <stdexcept>

#include "dataplane/device.h"
#include "dataplane/placement.h"

namespace portico {
namespace {

hwloc_obj_t find_device(hwloc_topology_t topology, const PortPlan& port) {
  if (port.kind == PortKind::pci) return hwloc_get_pcidev_by_busidstring(topology, port.device.c_str());
  if (port.interface.empty()) return nullptr;
  hwloc_obj_t device = nullptr;
  while ((device = hwloc_get_next_osdev(topology, device)) != nullptr) {
    if (device->name != nullptr && port.interface == device->name) return device;
  }
  return nullptr;
}

}  // namespace

Topology load_topology() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) throw std::runtime_error("no memory to read this machine's CPUs");
  Topology topology(raw, hwloc_topology_destroy);
  // Devices without a driver of the kernel's, such as NICs on vfio-pci, have no name but are PCI devices.
  hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  if (hwloc_topology_load(raw) != 0) {
    throw std::runtime_error("hwloc cannot read this machine's CPUs; is /sys mounted?");
  }
  return topology;
}

std::string describe_machine(hwloc_topology_t topology) {
  const auto count = [topology](hwloc_obj_type_t type, const char* name) {
    const int n = hwloc_get_nbobjs_by_type(topology, type);
    return std::to_string(n) + " " + name + (n == 1 ? "" : "s");
  };
  return count(HWLOC_OBJ_NUMANODE, "NUMA node") + ", " + count(HWLOC_OBJ_CORE, "core") + ", " +
         count(HWLOC_OBJ_PU, "CPU");
}

std::vector<unsigned> usable_cpus(hwloc_topology_t topology) {
  return hwloc_topology_is_thissystem(topology) != 0 ? allowed_cpus() : std::vector<unsigned>();
}

int node_of_port(hwloc_topology_t topology, const PortPlan& port) {
  const hwloc_obj_t device = find_device(topology, port);
  if (device == nullptr) return hwloc_topology_is_thissystem(topology) != 0 ? numa_node_of(port) : -1;
  const hwloc_obj_t place = hwloc_get_non_io_ancestor_obj(topology, device);
  // A device below the whole machine is as near to one node as to another.
  if (place == nullptr || hwloc_bitmap_weight(place->nodeset) != 1) return -1;
  return hwloc_bitmap_first(place->nodeset);
}

}  // namespace portico
