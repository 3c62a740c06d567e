// SPDX-License-Identifier: Apache-2.0
// Captures packets for `portico capture`, as DPDK's pdump does it: callbacks on the ports' queues copy
// packets into buffers of their own, a thread writes them as pcapng. (pdump itself wants a second process
// that shares the memory, which this one keeps to itself.) Without a capture there are no callbacks and
// nothing is paid.
//
// The reader listens on `capture-TOKEN.sock` in the run directory. What ends the capture first: its limits,
// the reader going away or taking nothing for kReaderPatience, stop().
//
// Workers never wait: a packet beyond kCaptureRate, or one that finds no buffer, is counted as missed.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "contract/run_dir.h"
#include "dataplane/capture_filter.h"
#include "dataplane/worker_thread.h"

namespace portico {

inline constexpr uint32_t kCaptureRate = 50'000;  // packets per worker and second
inline constexpr uint32_t kCaptureBuffers = 8191;
inline constexpr std::chrono::seconds kReaderPatience{2};

// Of the capture that runs, or of the last one.
struct CaptureStatus {
  bool is_running = false;
  std::string token;                          // empty: there was none
  std::string ended;                          // why: "time", "packets", "bytes", "reader", "stopped"
  uint64_t written = 0, bytes = 0;            // packets and their bytes
  uint64_t missed_rate = 0, missed_full = 0;  // packets that were meant and not taken
};

// One at a time. The workers outlive it.
class Capture {
 public:
  // `ports[i]` is the DPDK port that the table calls i.
  Capture(std::string run_dir, std::vector<uint16_t> ports, std::vector<WorkerThread*> workers);
  ~Capture();  // stops
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  // Any thread. "" or why it cannot be.
  std::string start(const CaptureOrder& order);
  // Any thread.
  CaptureStatus status() const;
  // Ends the capture and waits for it. The workers run, or have ended.
  void stop();

 private:
  struct Session;
  std::string connect_reader(Session& session) const;
  void run(Session& session);
  void forget();

  const std::string run_dir_;
  const std::vector<uint16_t> ports_;
  const std::vector<WorkerThread*> workers_;
  mutable std::mutex lock_;
  std::unique_ptr<Session> session_;
  std::thread thread_;
};

}  // namespace portico
