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

// Whether a frame for the kernel keeps the appliance going: what is not IP (ARP), ICMP (neighbour discovery),
// TCP from backends (health checks) and from directly connected networks (routing daemons).
bool is_urgent(const Table& table, const uint8_t* frame, uint32_t size);

}  // namespace portico
