// SPDX-License-Identifier: Apache-2.0
// What the kernel says of a network interface in this network namespace. Both processes judge by it whether
// an interface can be a port, and must find the same. Needs no rights.
#pragma once

#include <cstdint>
#include <string>

struct ifreq;

namespace portico {

struct InterfaceFacts {
  bool exists = false;
  bool is_up = false;
  bool is_loopback = false;
  uint32_t mtu = 0;                 // bytes of IP packet
  uint32_t rx_queues = 0;           // that receive; 0: the driver does not say
  uint32_t spread_queues = 0;       // the first so many, over which its RSS table spreads; 0: it does not say
  bool has_combined_queues = true;  // false: receive and transmit queues are counted apart
  std::string driver;               // "ixgbe", "veth"; empty: not known

  // Queues on which packets arrive; 0: the driver does not say.
  uint32_t arrival_queues() const { return spread_queues != 0 ? spread_queues : rx_queues; }
};

// Never fails: what is not known stays as above.
InterfaceFacts interface_facts(const std::string& interface);

// The command that has packets arrive on so many queues: "ethtool -L eth0 combined 4", or spread_command() if
// the interface has them.
std::string queues_command(const std::string& interface, const InterfaceFacts& facts, uint32_t queues);
// The command that spreads packets over the first so many of its queues: "ethtool -X eth0 equal 4".
std::string spread_command(const std::string& interface, uint32_t queues);

// An ioctl about an interface; fills in its name. False: refused, or no such interface.
bool interface_ioctl(unsigned long request, const std::string& interface, ifreq& ask);

}  // namespace portico
