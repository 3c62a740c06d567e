// SPDX-License-Identifier: Apache-2.0
// Frames of ARP and neighbour discovery, by which the stations of a link ask and tell who has an address.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <span>
#include <vector>

#include "contract/address.h"
#include "control/neighbours.h"

namespace portico {

using Frame = std::vector<uint8_t>;

// A request to all (RFC 826) from a station with this MAC. IPv4 addresses; `sender` 0.0.0.0 is for a probe,
// of which nobody learns anything (RFC 5227 section 2.1.1).
Frame arp_request(const Address& sender, const Address& target, const MacAddress& mac);

// A message of neighbour discovery (RFC 4861), which gets its checksum here: it holds 0 in that place.
Frame discovery_frame(const MacAddress& from, const MacAddress& to, const in6_addr& source,
                      const in6_addr& destination, std::span<const uint8_t> message);

}  // namespace portico
