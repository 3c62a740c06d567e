// SPDX-License-Identifier: Apache-2.0
// Tells the neighbours on a link that an address is here now, so that they do not send to where it was
// before.
#pragma once

#include "control/link_frames.h"

namespace portico {

// Sends one announcement on the interface: an ARP announcement (RFC 5227 section 3) or an unsolicited
// neighbour advertisement with the override flag (RFC 4861 section 7.2.6). False and errno if it cannot be
// sent. Interfaces without Ethernet have nobody to tell: true.
bool announce(const Address& address, int ifindex);

// The frame that announce sends from an interface with this MAC.
Frame announcement(const Address& address, const MacAddress& mac);

}  // namespace portico
