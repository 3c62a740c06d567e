// SPDX-License-Identifier: Apache-2.0
// Workers with a table, without ports or threads: packets in, packets out, exact counters. A rig checks on
// every step that no packet is lost or counted twice, and that no buffer leaks.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "contract/snapshot.h"
#include "dataplane/flow_store.h"
#include "dataplane/worker.h"
#include "tests/packet/frame.h"

struct rte_mempool;

namespace portico::test {

// DPDK's pool of packet buffers; starts the EAL in memory, without huge pages or devices, at the first call.
rte_mempool* packet_pool();

// A resolved next hop on port 0; `last_mac_byte` tells its MAC address from others.
NextHopRecord hop(const char* address, uint8_t last_mac_byte);

// Services 1 (dsr) on port 80 and 2 (nat) on port 443 of kVip4 and kVip6, one pool of three backends with
// both families, behind one gateway. Backend i has address 198.18.1.i and 2001:db8:1::i, MAC ...:10+i, next
// hop i.
TableContent usual_content();
inline constexpr const char* kVip4 = "198.18.0.10";
inline constexpr const char* kVip6 = "2001:db8::10";
inline constexpr const char* kNat4 = "198.18.0.20";
inline constexpr const char* kNat6 = "2001:db8::20";
inline constexpr const char* kClient4 = "203.0.113.7";
inline constexpr const char* kClient6 = "2001:db8:c::7";
inline constexpr uint16_t kDsr = 80, kNat = 443;  // service ports
inline constexpr const char* kGatewayMac = "02:00:00:00:00:01";

// Makes all slots of the usual pool name one backend.
void aim_at(TableContent& content, uint16_t backend);

// A validated snapshot of the content; blocks equal to those of `before` are shared. Throws what is wrong.
std::shared_ptr<const Snapshot> snapshot_of(const TableContent& content, const Snapshot* before);

// Whether workers under test may use the CPU's vector instructions: the environment's PORTICO_TEST_VECTORS is
// not 0.
bool may_use_vectors();

struct RigOptions {
  uint32_t workers = 1;
  uint32_t flows = 1024;
  uint64_t kernel_ports = 0;
  uint64_t promiscuous_ports = 0;   // all ports have the address that frames of tests are for
  std::filesystem::path keep = {};  // flows outlive the rig in this directory; empty: they do not
  uint64_t now = 1'000'000'000;     // of a clock of 1 MHz
  uint64_t rss_digest = 0;
  std::shared_ptr<const ReplySpreads> spreads = {};
  uint16_t headroom = 128;  // bytes before a frame in its buffer
};

class Rig {
 public:
  explicit Rig(const TableContent& content, const RigOptions& options = {});
  ~Rig();

  void adopt(const TableContent& content);
  void adopt(const std::shared_ptr<const Snapshot>& snapshot);  // the content of which is known to be valid
  void forget_table() { table_ = nullptr; }
  void advance_ms(uint64_t ms) { now_ += ms * 1000; }
  // Sweeps every worker for so long in steps of 10 ms; what it sends is returned.
  std::vector<Seen> sweep_ms(uint64_t ms);

  // Gives frames to a worker in one burst and returns what leaves the rig, hand-overs included.
  std::vector<Seen> send(const std::vector<Bytes>& frames, uint32_t worker = 0);
  std::vector<Seen> send(const Bytes& frame, uint32_t worker = 0) {
    return send(std::vector<Bytes>{frame}, worker);
  }
  // The one frame that comes of it; throws if there is not exactly one.
  Seen send_one(const Bytes& frame, uint32_t worker = 0);

  // Sums over the workers.
  uint64_t drops(DropReason reason) const;
  uint64_t total(uint64_t WorkerCounters::*counter) const;
  uint64_t of_service(uint16_t id, uint64_t ServiceFeedback::*counter) const;
  uint64_t of_backend(uint16_t id, uint64_t BackendFeedback::*counter) const;
  size_t kernel_packets() const { return kernel_packets_; }

  Worker& worker(uint32_t i = 0) { return *workers_[i]; }
  const FlowStore& store() const { return *store_; }
  uint64_t lost(FlowLoss loss) const;
  const Table& table() const { return *table_; }
  uint64_t now() const { return now_; }

 private:
  uint64_t now_ns() const;
  void note_alive();
  void collect(std::vector<Seen>& out);
  bool deliver_handed_over();
  void check_balance();

  std::shared_ptr<const Table> table_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint64_t now_;
  uint32_t tick_offset_ = 0;
  std::unique_ptr<FlowStore> store_;
  const uint16_t headroom_;
  uint64_t received_ = 0;
  size_t kernel_packets_ = 0;
  uint32_t buffers_before_;
};

}  // namespace portico::test
