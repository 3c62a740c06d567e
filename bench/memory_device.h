// SPDX-License-Identifier: Apache-2.0
// An in-memory device with one queue: a ring of received packets, and a ring to which sent ones go and from
// which the generator takes its buffers. Both are single-producer, single-consumer rings of pointers, as in
// DPDK's net_ring, called without rte_ethdev: rx and tx cost as little as a device can.
#pragma once

#include <rte_mbuf.h>
#include <rte_ring.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace portico::bench {

class MemoryDevice {
 public:
  // `buffers`: a power of two; so many packets circulate. `number`: of the devices in this process.
  MemoryDevice(rte_mempool* pool, uint32_t buffers, uint32_t number = 0)
      : received_(ring("received", number, buffers)), sent_(ring("sent", number, buffers)) {
    for (uint32_t i = 0; i < buffers; ++i) {
      rte_mbuf* const m = rte_pktmbuf_alloc(pool);
      if (m == nullptr) throw std::runtime_error("the packet pool is too small");
      rte_ring_sp_enqueue(sent_, m);
    }
  }
  ~MemoryDevice() {
    for (rte_ring* const ring : {received_, sent_}) {
      void* m = nullptr;
      while (rte_ring_sc_dequeue(ring, &m) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
      rte_ring_free(ring);
    }
  }
  MemoryDevice(const MemoryDevice&) = delete;
  MemoryDevice& operator=(const MemoryDevice&) = delete;

  uint32_t receive(rte_mbuf** packets, uint32_t n) {
    return rte_ring_sc_dequeue_burst(received_, reinterpret_cast<void**>(packets), n, nullptr);
  }
  void transmit(rte_mbuf** packets, uint32_t n) {
    if (rte_ring_sp_enqueue_bulk(sent_, reinterpret_cast<void**>(packets), n, nullptr) != n)
      throw std::runtime_error("the device has lost count of its buffers");
  }

  // The other end: buffers to fill, and filled ones to be received.
  uint32_t take_buffers(rte_mbuf** packets, uint32_t n) {
    return rte_ring_sc_dequeue_burst(sent_, reinterpret_cast<void**>(packets), n, nullptr);
  }
  void arrive(rte_mbuf** packets, uint32_t n) {
    rte_ring_sp_enqueue_bulk(received_, reinterpret_cast<void**>(packets), n, nullptr);
  }

 private:
  static rte_ring* ring(const std::string& name, uint32_t number, uint32_t size) {
    rte_ring* const r = rte_ring_create((name + std::to_string(number)).c_str(), size * 2, SOCKET_ID_ANY,
                                        RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (r == nullptr) throw std::runtime_error("no memory for a ring");
    return r;
  }

  rte_ring* received_;
  rte_ring* sent_;
};

}  // namespace portico::bench
