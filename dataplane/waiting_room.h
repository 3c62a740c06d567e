// SPDX-License-Identifier: Apache-2.0
// Packets that wait until their next hop's MAC address is known (RFC 1122 section 2.3.2.2, RFC 4861 section
// 7.2.2). Without it the first answer to every client of a directly connected network would be lost, and its
// connection would begin a second late.
#pragma once

#include <array>
#include <cstdint>

#include "contract/address.h"
#include "dataplane/packet.h"

namespace portico {

inline constexpr uint32_t kMostWaiting = 256;       // per worker; each holds an mbuf
inline constexpr uint32_t kMostWaitingPerHop = 64;  // so that one dead neighbour does not take all places
inline constexpr uint32_t kLongestWaitMs = 800;     // a client's first SYN is repeated after 1 s

struct WaitingPacket {
  Packet packet;
  Address hop;     // the neighbour, which is the destination itself where that is on the link
  uint32_t since;  // tick
};

// In the order of arrival.
struct WaitingRoom {
  uint32_t count = 0;
  uint64_t generation = 0;  // of the table under which the last visit was made
  std::array<WaitingPacket, kMostWaiting> packets;
};

}  // namespace portico
