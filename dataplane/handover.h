// SPDX-License-Identifier: Apache-2.0
// The rings by which a worker gives packets to the worker that owns their flow: NAT replies, ICMP errors.
// One single-producer single-consumer ring for each ordered pair, so nobody contends.
#pragma once

#include <rte_ring.h>

#include <cstdint>
#include <string>
#include <vector>

struct rte_mbuf;

namespace portico {

inline constexpr uint32_t kHandoverRingSize = 1024;  // slots; power of two

class HandoverRings {
 public:
  // `nodes`: the NUMA node of each worker; a ring stands where its reader runs. `name` is unique in the
  // process and short (rings are named after it). Throws std::runtime_error if memory is short.
  HandoverRings(const std::string& name, const std::vector<int>& nodes);
  ~HandoverRings();
  HandoverRings(const HandoverRings&) = delete;
  HandoverRings& operator=(const HandoverRings&) = delete;

  // Worker `from` only. Returns how many of `count` were taken over; the rest found no room.
  uint32_t give(uint32_t from, uint32_t to, rte_mbuf** packets, uint32_t count) {
    return rte_ring_sp_enqueue_burst(ring(from, to), reinterpret_cast<void**>(packets), count, nullptr);
  }

  // Worker `to` only. Returns how many packets were taken, at most `room`.
  uint32_t take(uint32_t from, uint32_t to, rte_mbuf** packets, uint32_t room) {
    return rte_ring_sc_dequeue_burst(ring(from, to), reinterpret_cast<void**>(packets), room, nullptr);
  }

  uint32_t workers() const { return workers_; }

 private:
  rte_ring* ring(uint32_t from, uint32_t to) const { return rings_[to * workers_ + from]; }
  void free_rings();

  uint32_t workers_;
  std::vector<rte_ring*> rings_;  // by reader, then by writer; null on the diagonal
};

}  // namespace portico
