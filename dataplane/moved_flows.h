// SPDX-License-Identifier: Apache-2.0
// Where the flows of before a restart are, if that is not where their clients' packets arrive: with another
// number of workers, or another RSS key, the NIC hands them to another worker than the one that owns their
// NAT port. Built once, then read only, but for how many workers have such flows still. Consulted for packets
// whose flow the worker does not know, so it costs the others nothing, and until no such flow is left.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "contract/limits.h"

namespace portico {

class MovedFlows {
 public:
  struct Place {
    uint64_t hash;  // of the client's side, with the key that all workers share
    uint32_t worker;
  };

  explicit MovedFlows(std::span<const Place> places)
      : slots_(std::bit_ceil(places.size() * 2 + 2)), mask_(slots_.size() - 1) {
    for (const Place& place : places) {
      uint64_t i = place.hash >> 32;
      while (slots_[i & mask_] != 0) ++i;
      slots_[i & mask_] = (place.hash & ~kWorkerMask) | (place.worker + 1);
    }
  }

  // The worker that had a flow of this hash when the process began, or kMaxWorkers.
  uint32_t find(uint64_t hash) const {
    for (uint64_t i = hash >> 32;; ++i) {
      const uint64_t slot = slots_[i & mask_];
      if (slot == 0) return kMaxWorkers;
      if ((slot & ~kWorkerMask) == (hash & ~kWorkerMask))
        return static_cast<uint32_t>(slot & kWorkerMask) - 1;
    }
  }

  // A worker has flows that others may ask for, or has none any more: in turn, the former first.
  void enter() const { holders_.fetch_add(1, std::memory_order_relaxed); }
  void leave() const { holders_.fetch_sub(1, std::memory_order_relaxed); }
  // Whether no worker has any: there is nothing to ask for.
  bool is_over() const { return holders_.load(std::memory_order_relaxed) == 0; }

 private:
  static constexpr uint64_t kWorkerMask = 127;  // of worker + 1; 0 in all bits: empty
  static_assert(kMaxWorkers < kWorkerMask);

  std::vector<uint64_t> slots_;
  uint64_t mask_;
  mutable std::atomic<uint32_t> holders_{0};
};

}  // namespace portico
