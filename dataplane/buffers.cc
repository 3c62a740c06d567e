// SPDX-License-Identifier: Apache-2.0
#include "dataplane/buffers.h"

#include <rte_mbuf.h>

#include <algorithm>

#include "dataplane/fragment_table.h"
#include "dataplane/handover.h"

namespace portico {
namespace {

constexpr uint32_t kFillRing = 2048;     // net_af_xdp's fill ring per queue, whatever we ask for
constexpr uint32_t kXdpHeadroom = 256;   // the kernel's, in an AF_XDP frame
constexpr uint32_t kFrameOverhead = 26;  // Ethernet header, two tags, FCS

}  // namespace

uint32_t choose_mbuf_count(uint32_t ports, uint32_t workers) {
  const uint32_t per_queue = kFillRing + 3 * kQueueDescriptors;
  const uint32_t per_worker = 2 * kPoolCache + kHandoverRingSize + kMostDatagrams;
  return ports * workers * per_queue + workers * per_worker + 2047;
}

uint16_t mbuf_data_room(uint32_t mtu) {
  const uint32_t room = RTE_PKTMBUF_HEADROOM + kXdpHeadroom + mtu + kFrameOverhead;
  return static_cast<uint16_t>(std::clamp<uint32_t>(room, RTE_MBUF_DEFAULT_BUF_SIZE, UINT16_MAX & ~63u));
}

uint64_t mbuf_memory(uint32_t count, uint16_t data_room) {
  // Object header and alignment; the ring of free ones.
  return static_cast<uint64_t>(count) * (data_room + sizeof(rte_mbuf) + 128 + 2 * sizeof(void*));
}

}  // namespace portico
