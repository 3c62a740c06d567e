// SPDX-License-Identifier: Apache-2.0
// The way between ports that DPDK drives alone and the kernel: what is not the dataplane's goes out by the
// port's tap (ARP, ND, ping, SSH, BGP), what the kernel sends goes out by the port.
//
// Writing to a tap is a system call per frame, so no worker does it. A thread of its own, on the CPUs that
// the workers leave, exchanges packets with each worker over single-producer single-consumer rings; a
// flood of packets for the kernel fills a ring, not a worker's time. The thread sleeps in poll(2); a worker
// wakes it only if it sleeps, once per sleep.
#pragma once

#include <rte_ring.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "contract/run_dir.h"
#include "dataplane/host_device.h"

namespace portico {

// Written by the host path's thread, relaxed; any thread may read.
struct HostCounters {
  std::atomic<uint64_t> delivered{0};    // frames that the kernel took
  std::atomic<uint64_t> refused{0};      // that it did not, as HostDevice::write() says; kernel_refused
  std::atomic<uint64_t> from_kernel{0};  // frames given to workers to send
  std::atomic<uint64_t> lost{0};       // frames of the kernel's without room at the worker; from_kernel_full
  std::atomic<uint64_t> too_large{0};  // frames of the kernel's beyond any buffer's room; exceeds_mtu
  std::atomic<uint64_t> waits{0};      // pauses, a millisecond each, since there was no buffer for a frame
};

class HostPath {
 public:
  // `devices[i]` is port i's; null: the port has no way to the kernel. Frames of the kernel's are read into
  // mbufs of `pool`. `name` is unique in the process and short. Throws std::runtime_error if memory is short.
  HostPath(const std::string& name, std::vector<std::unique_ptr<HostDevice>> devices, uint32_t workers,
           rte_mempool* pool);
  ~HostPath();
  HostPath(const HostPath&) = delete;
  HostPath& operator=(const HostPath&) = delete;

  void start();
  // Idempotent.
  void stop();

  // Bit i: port i has a link. The kernel hears of it soon after; before the first call it hears that none
  // has. Any thread: asking a port is for the one that reads its counters, since drivers keep no two apart.
  void set_links(uint64_t up) { links_.store(up, std::memory_order_relaxed); }

  // Bit i: port i has a way to the kernel.
  uint64_t ports() const { return ports_; }
  const HostCounters& counters() const { return counters_; }

  // Worker `from` only, mbuf->port the index of the port of arrival, its note (note.h) says
  // whether it goes before others: those have a ring of their own. Takes over what finds room; returns how
  // many of `count` did not: they are the first of `packets` then.
  uint32_t give(uint32_t from, rte_mbuf** packets, uint32_t count);
  // Worker `to` only: what it is to send, mbuf->port the index of the port to send by.
  uint32_t take(uint32_t to, rte_mbuf** packets, uint32_t room) {
    return rte_ring_sc_dequeue_burst(from_kernel_[to], reinterpret_cast<void**>(packets), room, nullptr);
  }

 private:
  void run();
  bool to_kernel();
  bool drain(const std::vector<rte_ring*>& rings);
  void deliver(rte_mbuf** packets, uint32_t count);
  bool from_kernel();
  bool has_frame(uint32_t port) const;
  void sleep();
  void give_up(uint32_t port);
  void tell_links();
  bool is_idle() const;
  void free_rings();

  const std::vector<std::unique_ptr<HostDevice>> devices_;
  rte_mempool* const pool_;
  uint64_t ports_ = 0;
  std::vector<rte_ring*> urgent_, to_kernel_, from_kernel_;  // by worker
  std::vector<int> told_links_;                              // by port, as told to the kernel; -1: not yet
  std::vector<bool> is_gone_;                                // by port: the interface was deleted
  bool lacks_buffers_ = false;                               // a frame of the kernel's waits for an mbuf
  uint64_t next_links_ns_ = 0;
  FileHandle wakeup_;  // eventfd
  std::thread thread_;
  HostCounters counters_;
  std::atomic<uint64_t> links_{0};  // bit i: port i has a link
  std::atomic<bool> stop_{false};
  // The thread is about to sleep or asleep. Read by workers, hence apart from what is written often.
  alignas(64) std::atomic<bool> sleeps_{false};
};

}  // namespace portico
