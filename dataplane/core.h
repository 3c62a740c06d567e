// SPDX-License-Identifier: Apache-2.0
// What the stages of one worker work on. Only dataplane/*.cc of the packet path include it; callers see
// worker.h.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "dataplane/clock.h"
#include "dataplane/first_look.h"
#include "dataplane/flow_table.h"
#include "dataplane/nat_flows.h"
#include "dataplane/packet.h"
#include "dataplane/plain_columns.h"
#include "dataplane/waiting_room.h"
#include "dataplane/worker.h"

namespace portico {

// Adds to a counter that other threads read: a plain load, add and store, no locked instruction.
inline void bump(uint64_t& counter, uint64_t n = 1) {
#if defined(__x86_64__)
  // The compiler makes three instructions of what is one.
  asm("addq %1, %0" : "+m"(counter) : "er"(n) : "cc");
  return;
#endif
  __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
inline void lower(uint64_t& gauge, uint64_t n = 1) {
  bump(gauge, ~n + 1);
}

// How far the sweep of one flow table has come.
struct SweepHand {
  uint32_t position = 0;  // the last reference visited
  uint32_t hurry = 0;     // so many visits are urgent: flows may have to be reset
  uint32_t judge = 0;     // for so many visits flows' backends and services may be gone; at least `hurry`
  uint64_t credit = 0;    // cycles * flows that have not been spent
};

// How far the look at one table's half-open flows has come.
struct JudgeHand {
  uint32_t list = 0;  // the next
  uint32_t tick = 0;  // of the last pass that is done
};

// The flows of one family. Set once each, by prepare() on the main thread (release); null: no service needs
// it.
template <typename F>
struct FlowSet {
  using Dsr = DsrFlows<F>;
  using Nat = NatFlows<F>;
  std::atomic<Dsr*> dsr{nullptr};
  std::atomic<Nat*> nat{nullptr};
  std::unique_ptr<Dsr> dsr_owner;
  std::unique_ptr<Nat> nat_owner;
  SweepHand dsr_hand, nat_hand;
  JudgeHand judge_hand;
  std::vector<bool> dsr_moved, nat_moved;   // by reference: others may ask for the flow; empty: for none
  uint32_t dsr_victim = 0, nat_victim = 0;  // where the search for an entry to evict goes on
};

class FragmentTable;
class HeaderTimers;
class SourceLimits;

// So many packets before a packet is forwarded its entry is fetched from the second-level cache to the first.
inline constexpr uint32_t kEntriesAhead = 4;

struct WorkerCore {
  explicit WorkerCore(const WorkerConfig& c);
  ~WorkerCore();

  template <typename F>
  FlowSet<F>& set() {
    if constexpr (F::kFamily == Family::v4) {
      return v4;
    } else {
      return v6;
    }
  }
  template <typename F>
  const FlowSet<F>& set() const {
    return const_cast<WorkerCore*>(this)->set<F>();
  }

  // How many workers share each NAT port range out by number; 1: none do, since a hash says whose a port is.
  template <typename F>
  uint32_t port_sharers() const {
    return config.spreads != nullptr && config.spreads->of<F>() != nullptr ? 1 : config.worker_count;
  }

  const WorkerConfig config;
  const Clock clock;
  // Flows of before a restart that other workers may have, or may ask this one for; null: none, or none left.
  const MovedFlows* moved = nullptr;
  std::shared_ptr<const MovedFlows> moved_owner;
  uint32_t moved_count = 0;     // of this worker's flows, those that others may ask for
  bool holds_moved = false;     // MovedFlows counts this worker
  uint32_t moved_last_had = 0;  // the tick of the last sweep when a worker had one
  const bool has_avx512;        // and may use it
  const HashKey flow_key;  // of the flow tables' index; the pool's slots have the shared key of the settings

  // Of the burst or sweep under way.
  const Table* table = nullptr;
  uint64_t cycles = 0;  // TSC
  uint32_t now = 0;     // the same as a tick
  Timeouts timeouts{};
  TokenBucket new_flows, evictions, answers, sweep_resets, icmp_rounds, whole_rounds, too_big, claimed_urgent;
  uint64_t last_sweep = 0;     // TSC
  uint64_t swept_version = 0;  // Table::flow_version of the last sweep
  uint32_t swept_since = 0;    // the tick since which it is that

  FlowSet<V4> v4;
  FlowSet<V6> v6;
  rte_mbuf* const* mbufs = nullptr;
  FirstLook look;
  PlainColumns columns;
  std::array<Packet, kBurstSize> packets;  // of the plain: SYNs, and those without a short way
  OpeningColumns openings;
  // The packets' likely entries, for prefetching: out of date where there is none. Beyond a burst: null.
  std::array<const void*, kBurstSize + kEntriesAhead> entries{};
  std::array<rte_mbuf*, 2 * kBurstSize> to_free;
  uint32_t to_free_count = 0;
  Output output;
  WorkerCounters counters;
  ResolveQueue resolve;
  WaitingRoom waiting;
  // Packets that fragments of the burst under way have made whole: at most one each.
  std::array<rte_mbuf*, kBurstSize> wholes;
  uint32_t whole_count = 0;
  uint32_t split_count = 0;  // packets that left in fragments with an identification of ours
  // Set once by prepare() on the main thread (release); null: no service needs them.
  std::atomic<HeaderTimers*> header_timers{nullptr};
  std::unique_ptr<HeaderTimers> header_timers_owner;
  // The same where the settings say that fragments are put together.
  std::atomic<FragmentTable*> fragments{nullptr};
  std::unique_ptr<FragmentTable> fragments_owner;
  // The same for services that limit their sources.
  std::atomic<SourceLimits*> source_limits{nullptr};
  std::unique_ptr<SourceLimits> source_limits_owner;
  ExplainMailbox mailbox;
};

// Loads what a burst or sweep needs of the table and the time.
void begin(WorkerCore& core, const Table& table, uint64_t now);

}  // namespace portico
