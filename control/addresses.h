// SPDX-License-Identifier: Apache-2.0
// Installs VIP and NAT addresses on the balancer's interfaces, so that the kernel answers ARP, neighbour
// solicitations and ping for them. Ours are told from others' by their protocol number (IFA_PROTO, Linux
// 5.18), so that a restarted control takes them over.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "contract/address.h"

namespace portico {

// Not thread-safe. Functions that can fail return what went wrong and the remedy, or nullopt.
class Addresses {
 public:
  using Failure = std::optional<std::string>;

  // Two instances on one host are told apart by a number made from `instance`.
  explicit Addresses(const std::string& instance);

  // Makes the installed addresses equal to `desired`: /32 and /128, no duplicate address detection, no prefix
  // route, never chosen as a source address (IPv6: deprecated). Each goes to the interface of `interfaces`,
  // or the one of `vlan_devices` on them, with the longest connected network that contains it, else it stays
  // on the one where it is or was last, else it goes to the first one. One of ours on another interface is
  // moved: first there, then no longer here. What the administrator installed is left alone. New and moved
  // ones are announced (gratuitous ARP, unsolicited neighbour advertisement). Goes on after a failure and
  // returns the first; a VLAN device that is gone is none. Cheap if nothing is to do.
  Failure apply(std::span<const Address> desired, std::span<const std::string> interfaces,
                std::span<const std::string> vlan_devices = {});

  // What the last apply() mended, for the log: addresses that were moved, and those that had vanished since
  // the apply() before.
  const std::vector<std::string>& mended() const { return mended_; }

  // Of the last apply(): those in no connected network of the interfaces, so that nobody there asks for them.
  const std::vector<Address>& unconnected() const { return unconnected_; }

  // Removes all of ours from all interfaces.
  Failure remove_all();

  // Ours as the kernel has them, ascending. Empty, too, if the kernel cannot be asked.
  std::vector<Address> installed() const;

 private:
  struct Run;
  void place(Run& run, const Address& address);

  uint8_t protocol_;
  std::map<Address, int> placed_;  // ours, and the ifindex where the last apply() left them
  std::vector<std::string> mended_;
  std::vector<Address> unconnected_;
};

}  // namespace portico
