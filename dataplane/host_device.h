// SPDX-License-Identifier: Apache-2.0
// The kernel's end of a port that DPDK drives alone.
#pragma once

#include <cstdint>

struct rte_mbuf;
struct rte_mempool;

namespace portico {

// Frames go over as they are on the wire, without offloads. One thread uses it.
class HostDevice {
 public:
  HostDevice() = default;
  virtual ~HostDevice() = default;
  HostDevice(const HostDevice&) = delete;
  HostDevice& operator=(const HostDevice&) = delete;

  // Gives frames to the kernel. Returns how many it took; the others it does not want (the interface is down,
  // the frame is broken or in too many pieces). The mbufs stay the caller's.
  virtual uint32_t write(rte_mbuf* const* packets, uint32_t count) = 0;
  // Takes what the kernel sends, at most `room` frames, in new mbufs of `pool`. Does not wait.
  struct Read {
    uint32_t count = 0;
    bool lacks_buffers = false;  // the pool was empty before it was known whether there is another frame
    uint32_t too_large = 0;      // frames thrown away: no buffer has room for them
  };
  virtual Read read(rte_mempool* pool, rte_mbuf** packets, uint32_t room) = 0;
  // Tells the kernel whether the port has a link.
  virtual void set_link(bool up) = 0;
  // For poll(2): readable when read() has something.
  virtual int fd() const = 0;
};

}  // namespace portico
