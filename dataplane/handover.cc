// SPDX-License-Identifier: Apache-2.0
#include "dataplane/handover.h"

#include <rte_errno.h>
#include <rte_mbuf.h>

#include <stdexcept>

namespace portico {

HandoverRings::HandoverRings(const std::string& name, const std::vector<int>& nodes)
    : workers_(static_cast<uint32_t>(nodes.size())), rings_(nodes.size() * nodes.size(), nullptr) {
  for (uint32_t to = 0; to < workers_; ++to) {
    for (uint32_t from = 0; from < workers_; ++from) {
      if (from == to) continue;
      const std::string ring_name = name + "-" + std::to_string(from) + "-" + std::to_string(to);
      rte_ring* created =
          rte_ring_create(ring_name.c_str(), kHandoverRingSize, nodes[to], RING_F_SP_ENQ | RING_F_SC_DEQ);
      if (created == nullptr) {
        free_rings();
        throw std::runtime_error(
            "no memory for the workers' hand-over rings: " + std::string(rte_strerror(rte_errno)) +
            "; reserve more huge pages (scripts/setup) or lower `workers`");
      }
      rings_[to * workers_ + from] = created;
    }
  }
}

HandoverRings::~HandoverRings() {
  free_rings();
}

void HandoverRings::free_rings() {
  for (rte_ring* ring : rings_) {
    if (ring == nullptr) continue;
    void* packet = nullptr;
    while (rte_ring_sc_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
    rte_ring_free(ring);
  }
}

}  // namespace portico
