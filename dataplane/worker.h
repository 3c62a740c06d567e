// SPDX-License-Identifier: Apache-2.0
// The packet path of one worker: packets in, packets out, exact counters. It owns its flows, counters and
// output buffers and shares nothing that it writes. Receiving, sending, threads and rings are the caller's:
//
//   n = rte_eth_rx_burst(...);                     // n <= kBurstSize
//   worker.process(packets, n, table, now);        // takes the mbufs over
//   flush(worker.output());                        // see Output
//
// All functions are for the worker's own thread, between bursts, unless they say otherwise.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "contract/drop_reasons.h"
#include "contract/feedback.h"
#include "contract/flow_hash.h"
#include "contract/flow_losses.h"
#include "dataplane/capture_filter.h"
#include "dataplane/explain.h"
#include "dataplane/moved_flows.h"
#include "dataplane/reply_spread.h"
#include "dataplane/resolve_queue.h"
#include "dataplane/table.h"

struct rte_mbuf;
struct rte_mempool;

namespace portico {

class FlowStore;
struct StageCycles;

// Packets that process() takes at a time, and the size of RX bursts and hand-over dequeues at most.
inline constexpr uint32_t kBurstSize = 64;
// Room per destination: one process() adds at most two packets per packet received, but for those that leave
// in fragments, one sweep() at most kSweepOutput. What finds no room is dropped as tx_full or handover_full:
// flush after each.
inline constexpr uint32_t kOutputSize = 256;
inline constexpr uint32_t kSweepOutput = 64;
// Packets for the kernel that go before others because of a source address that may be forged: so many at a
// time, and all workers together so many a second. What exceeds that goes with the others.
inline constexpr uint32_t kClaimedUrgentBurst = 512;
inline constexpr uint32_t kClaimedUrgentPerSecond = 100'000;

// Packets for one destination, in order. The consumer takes packets[0..count) over and sets count to 0.
struct PacketBuffer {
  uint32_t count = 0;
  std::array<rte_mbuf*, kOutputSize> packets;
};

// What waits to be sent. `port` and `worker` lists name the buffers that are not empty, so that nobody walks
// the others. The caller sends (or enqueues) each, frees what did not fit and counts it with count_drops().
struct Output {
  std::array<PacketBuffer, kMaxPorts> ports;  // to transmit; index: port of the table (= order of `ports`)
  std::array<PacketBuffer, kMaxWorkers> workers;  // to the worker that owns the flow, by its hand-over ring
  // To the kernel, unchanged, by way of the tap of mbuf->port. Its note (note.h) says
  // whether before others.
  PacketBuffer kernel;
  // Bit i: ports[i] or workers[i] holds packets.
  uint64_t ports_used = 0;
  uint64_t workers_used = 0;
};

// Written by the worker alone, relaxed stores of aligned words; any thread may read them with
// std::atomic_ref-like relaxed loads (load_counter). Gauges can go down, the rest only grow.
struct WorkerCounters {
  uint64_t drops[kMaxDropReasons] = {};  // packets that were not forwarded, by reason, answered ones included
  uint64_t forwarded = 0;                // packets sent on, rewritten or not
  uint64_t answered = 0;                 // packets of `drops` that were answered with RST
  uint64_t to_kernel = 0;
  uint64_t handed_over = 0;
  uint64_t waiting = 0;           // gauge: of `forwarded`, packets that wait for a MAC address
  uint64_t waited_in_vain = 0;    // dropped as next_hop_unresolved after they counted as forwarded
  uint64_t reassembled = 0;       // packets that came in fragments; each has a verdict of its own
  uint64_t fragments_joined = 0;  // that such packets came in
  uint64_t fragments_held = 0;    // gauge: fragments that are neither joined nor dropped yet
  uint64_t fragmented = 0;        // of `forwarded`: packets that went on in fragments
  uint64_t fragments_sent = 0;    // those
  uint64_t originated = 0;        // packets of our own: RSTs of sweeps and for backends, PROXY headers
  uint64_t flows = 0;             // gauge
  uint64_t flow_capacity = 0;     // gauge
  uint64_t nat_ports_used = 0;    // gauge
  uint64_t flows_uninserted = 0;  // dsr flows forwarded by hash alone: rate limit or a full table
  uint64_t evictions = 0;         // probationary or closing flows that gave way to new ones
  uint64_t flows_kept = 0;        // taken up from the process before
  uint64_t flows_lost[kMaxFlowLosses] = {};  // by FlowLoss: not taken up
  ServiceFeedback services[kMaxServices] = {};
  BackendFeedback backends[kMaxBackends] = {};
};

// Reads a counter of another thread.
inline uint64_t load_counter(const uint64_t& counter) {
  return __atomic_load_n(&counter, __ATOMIC_RELAXED);
}

struct WorkerConfig {
  uint32_t index = 0;         // of this worker
  uint32_t worker_count = 1;  // 1..kMaxWorkers
  uint32_t flows = 1048576;   // capacity of this worker, per family and mode; 1..2^24 - 1
  uint64_t tsc_hz = 0;        // of the `now` values
  int numa_node = -1;         // where flow memory should be; -1: anywhere
  bool huge_pages = true;     // false: ordinary pages
  bool vectors = true;        // false: no instructions beyond what every CPU of the kind has
  bool short_ways = true;  // false: all packets go by the general stages, with the same outcome (for tests)
  // Flows that take more memory are fetched as what is not in the caches: by default, half of a usual
  // second-level cache. Changes how long a packet takes, not what becomes of it.
  uint64_t near_bytes = 512 << 10;
  // Bit i: the caller delivers what Output::kernel has of port i; else what the kernel should get is dropped.
  uint64_t kernel_ports = 0;
  // How replies to NAT addresses come to workers; null: to any.
  std::shared_ptr<const ReplySpreads> spreads = {};
  // Bit i: port i receives frames for others, too. macs[i] is its own address; frames for another station are
  // dropped as not_ours.
  uint64_t promiscuous_ports = 0;
  std::array<std::array<uint8_t, 6>, kMaxPorts> macs = {};
  FlowStore* store = nullptr;            // where flows outlive the process; null: they end with the worker
  uint32_t tick_offset = 0;              // of the flows' clock: FlowStore::tick_offset()
  rte_mempool* pool = nullptr;           // for packets that answer nothing (sweeps); data room >= 256 bytes
  StageCycles* stages = nullptr;         // told what each stage takes; null: nobody
  std::optional<HashKey> flow_key = {};  // of the flow tables' index; none: the store's, or a random one
};

// See WorkerFeedback::nat_fullest_backend.
struct NatFullest {
  uint16_t backend = kNone;
  uint64_t used = 0, ports = 0;
};

struct FlowWalk;
struct WorkerCore;
struct WorkerProbe;

class Worker {
 public:
  explicit Worker(const WorkerConfig& config);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Allocates the flow memory that the table's services need and this worker does not have yet. Main thread,
  // before the table is given to the worker; throws std::runtime_error that says what to do if memory is
  // missing. What another process left in it is taken up, as of `now` (TSC), before the worker has had any
  // table.
  void prepare(const Table& table, uint64_t now = 0);

  // Appends where this worker's flows are. Before the worker runs, as is the next.
  void list_flows(std::vector<MovedFlows::Place>& places) const;
  // Packets of unknown flows go to the worker that is named there.
  void set_moved_flows(std::shared_ptr<const MovedFlows> moved);

  // Takes n <= kBurstSize received packets over; mbuf->port is the port of arrival (as index of the table's
  // ports). `table` null: all are dropped as no_table. `now`: TSC, never going back.
  void process(rte_mbuf** packets, uint32_t n, const Table* table, uint64_t now);
  // The same for what other workers put into Output::workers[this one].
  void process_handed_over(rte_mbuf** packets, uint32_t n, const Table* table, uint64_t now);

  // Visits the next flows: expires the silent, resets those whose backend or service went down or away. Once
  // per turn of the loop; does as much as the time since the last call asks for, at most a few thousand
  // flows. A sleeping worker must call it at least every 100 ms.
  void sweep(const Table& table, uint64_t now);

  Output& output();
  // Counts packets that the caller could not pass on (tx_full, handover_full) and has freed. They stay
  // counted as forwarded, answered or handed over, too: those counters only grow.
  void count_drops(DropReason reason, uint32_t n);

  // Readable from any thread through load_counter.
  const WorkerCounters& counters() const;
  // Any thread; `table` is one that lives. Looks through 64 KiB per family: not for every turn.
  NatFullest nat_fullest(const Table& table) const;
  // The main thread takes requests out of it.
  ResolveQueue& resolve_queue();

  // What would happen to a packet of this connection. See ExplainMailbox for asking from another thread.
  ExplainAnswer explain(const ExplainQuery& query, const Table& table, uint64_t now) const;
  // Goes on with a walk through the live flows. Any thread; see flow_list.h.
  void look_through(FlowWalk& walk, uint64_t now) const;
  // Whether a capture is about a frame that this worker receives or sends: see capture_filter.h.
  bool is_captured(const CaptureFilter& filter, const Table& table, std::span<const uint8_t> frame) const;
  // Answers the question in the mailbox, if there is one. Once per turn of the loop.
  void answer_mailbox(const Table& table, uint64_t now);
  ExplainMailbox& mailbox();

 private:
  friend struct WorkerProbe;  // of tests, which look at the flows

  std::unique_ptr<WorkerCore> core_;
};

}  // namespace portico
