// SPDX-License-Identifier: Apache-2.0
// What the kernel says of network devices, memory and our rights, asked before DPDK is started so that a
// refusal can name its remedy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "contract/interface_facts.h"
#include "dataplane/port_plan.h"

namespace portico {

// NUMA node of the port's hardware; -1: none or not known.
int numa_node_of(const PortPlan& port);

// Bytes of free huge pages, all sizes and nodes.
uint64_t free_huge_page_bytes();

// True if this process holds what AF_XDP and raw ports need: CAP_NET_ADMIN, CAP_NET_RAW, and CAP_BPF or
// CAP_SYS_ADMIN.
bool has_network_rights();

// Has the driver of a kernel interface leave VLAN tags in received frames. A NIC that takes them out puts
// them beside the frame, where no XDP program of every kernel and no AF_XDP socket sees them: a frame of any
// VLAN would pass for an untagged one. Returns what was changed (empty: nothing). Throws std::runtime_error
// if the interface keeps taking them out.
std::string keep_vlan_tags(const std::string& interface);

// The largest MTU of an interface that AF_XDP can have: a frame with two tags, what stands before it and what
// the kernel puts behind it share a page of 4 KiB.
inline constexpr uint32_t kMostAfXdpMtu = 3498;

// Why the port cannot work with `workers` queue pairs and what to do; nothing if no reason is known.
std::optional<std::string> objection_to(const PortPlan& port, uint32_t workers);
// The same of a kernel interface that exists, by what the kernel says of it.
std::optional<std::string> objection_to(const PortPlan& port, const InterfaceFacts& facts, uint32_t workers);

}  // namespace portico
