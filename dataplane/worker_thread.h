// SPDX-License-Identifier: Apache-2.0
// One worker's thread: receive, work, send, free the unsent. It owns queue pair `index` of every port.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/handover.h"
#include "dataplane/host_path.h"
#include "dataplane/idle.h"
#include "dataplane/worker.h"

namespace portico {

// What a worker tells of itself. Written by its thread alone, once per turn; any thread may read.
struct alignas(64) WorkerStatus {
  // The table in use. Release: who reads another table here knows that this worker let go of all earlier
  // ones.
  std::atomic<const Table*> table{nullptr};
  // Relaxed, all of these.
  std::atomic<uint64_t> heartbeat_tsc{0};
  std::atomic<uint64_t> busy_cycles{0};
  std::atomic<uint64_t> total_cycles{0};
  std::atomic<uint64_t> rx_packets{0};
  std::atomic<uint64_t> tx_packets{0};
  std::atomic<uint64_t> sleeps{0};
};

class WorkerThread {
 public:
  // `ports[i]` is the DPDK port that the table calls i. `rings` may be null with one worker, `host` if no
  // port has a way to the kernel but through it. `cpu` -1: not pinned.
  WorkerThread(const WorkerConfig& config, int cpu, std::vector<uint16_t> ports, HandoverRings* rings,
               HostPath* host = nullptr);
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  void start();
  // Asks the thread to end after its turn, and waits for it. Idempotent.
  void stop();

  // Main thread: what this worker is to use from its next turn on. The old table must live until
  // status().table shows another one.
  void publish(const Table* table) { published_.store(table, std::memory_order_release); }

  Worker& worker() { return worker_; }
  const WorkerStatus& status() const { return status_; }
  uint32_t index() const { return index_; }
  int cpu() const { return cpu_; }

 private:
  void run();
  void loop();
  const Table* take_table();
  uint32_t receive(const Table* table, uint64_t now);
  uint32_t receive_handed_over(const Table* table, uint64_t now);
  uint32_t receive_from_kernel();
  void send();
  void send_to_port(uint32_t port, PacketBuffer& buffer);
  void hand_over(uint32_t to, PacketBuffer& buffer);
  void give_to_kernel(PacketBuffer& buffer);
  void rest(const Table* table);

  const uint32_t index_;
  const int cpu_;
  const std::vector<uint16_t> ports_;
  HandoverRings* const rings_;
  HostPath* const host_;
  Worker worker_;
  IdleBackoff idle_;
  std::thread thread_;
  WorkerStatus status_;
  // Written by the main thread.
  alignas(64) std::atomic<const Table*> published_{nullptr};  // release
  std::atomic<bool> stop_{false};                             // relaxed
};

}  // namespace portico
