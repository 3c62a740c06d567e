// SPDX-License-Identifier: Apache-2.0
// Which frames of a port are the dataplane's, by the rules of bpf/steer.bpf.c. On a port that DPDK drives
// alone no XDP program decides that, so the packet path itself does: most frames need nothing but its own
// look-ups, the others are looked at here. tests/unit/steer_test.cc and tests/packet/kernel_path_test.cc run
// the same frames through both.
#pragma once

#include <cstdint>

#include "dataplane/table.h"

namespace portico {

// True: the dataplane's. False: the kernel's, whole frames that nobody can read included. `size`: bytes of
// the frame that can be read at `frame`.
bool is_for_dataplane(const Table& table, const uint8_t* frame, uint32_t size);

// Whether a frame is nobody's: neither TCP nor ICMP, fragments included, to a VIP or NAT address, behind
// which there is nothing else.
bool is_for_nobody(const Table& table, const uint8_t* frame, uint32_t size);

// Whether a frame for the kernel keeps the appliance going.
enum class Urgency : uint8_t {
  none,  // it may wait: what comes from afar, and all of ICMP but neighbour discovery, for anybody can ping
  claimed,  // its source is a backend, a router or of a directly connected network, if that is not forged
  certain,  // and nobody farther away can have sent it; also what is not IP (ARP), and neighbour discovery
};

// `claimed` and `certain` are health checks' answers and routing daemons' packets of whatever protocol (BGP,
// BFD, OSPF, VRRP). Certain of those are packets of hop limit 255 (RFC 5082), from or to link-local addresses
// (RFC 4291 section 2.5.6, RFC 5771 section 4), and those from the MAC address of the backend itself.
Urgency urgency_of(const Table& table, const uint8_t* frame, uint32_t size);

}  // namespace portico
