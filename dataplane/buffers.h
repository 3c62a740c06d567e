// SPDX-License-Identifier: Apache-2.0
// How many packet buffers there are and how large. Pure arithmetic; the pools are made in ports.h.
#pragma once

#include <cstdint>

namespace portico {

// Descriptors of each RX and TX queue, where the driver lets us choose.
inline constexpr uint16_t kQueueDescriptors = 1024;

// Buffers that a thread keeps for itself.
inline constexpr uint32_t kPoolCache = 256;

// Packet buffers per NUMA node: what the queues of the ports hold, what is on its way in rings and caches or
// waits for further fragments,
// and as much again for bursts.
uint32_t choose_mbuf_count(uint32_t ports, uint32_t workers);

// Bytes of one packet buffer's data room for IP packets of `mtu` bytes.
uint16_t mbuf_data_room(uint32_t mtu);

// Bytes of memory that `count` buffers take, management included.
uint64_t mbuf_memory(uint32_t count, uint16_t data_room);

}  // namespace portico
