// SPDX-License-Identifier: Apache-2.0
// Installs VIP and NAT addresses on the balancer's interfaces, so that the kernel answers ARP, neighbour
// solicitations and ping for them. Ours are told from others' by their protocol number (IFA_PROTO, Linux
// 5.18), so that a restarted control takes them over.
#pragma once

#include <cstdint>
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
  // route, never chosen as a source address (IPv6: deprecated). Each goes to the interface of `interfaces`
  // whose connected network contains it, else to the first one. What is there already, ours or the
  // administrator's, is left alone; new ones are announced (gratuitous ARP, unsolicited neighbour
  // advertisement). Goes on after a failure and returns the first.
  Failure apply(std::span<const Address> desired, std::span<const std::string> interfaces);

  // Removes all of ours from all interfaces.
  Failure remove_all();

  // Ours as the kernel has them, ascending. Empty, too, if the kernel cannot be asked.
  std::vector<Address> installed() const;

 private:
  uint8_t protocol_;
};

}  // namespace portico
