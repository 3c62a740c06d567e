// SPDX-License-Identifier: Apache-2.0
// The flows of one family and mode of one worker: an array of entries, of which the free ones form a list,
// and an index of their keys. All memory is there from the start.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <utility>

#include "dataplane/flow_entry.h"
#include "dataplane/flow_index.h"
#include "dataplane/memory.h"

namespace portico {

// References count from 1; 0 is none.
template <typename E>
class FlowTable {
 public:
  using Entry = E;
  // Memory per flow, index included.
  static constexpr uint32_t kBytesPerFlow = sizeof(Entry) + Entry::kKeys * FlowIndex::kBytesPerKey;

  // capacity: 1..2^24 - 1 flows. Throws std::runtime_error if memory is missing.
  FlowTable(uint32_t capacity, bool huge_pages, int numa_node)
      : FlowTable(capacity, Region(entries_size(capacity), huge_pages, numa_node), 0, huge_pages, numa_node) {
  }
  // With the entries in memory of the caller's, from `offset` on: zero, or of a table of the same capacity.
  FlowTable(uint32_t capacity, Region&& region, size_t offset, bool huge_pages, int numa_node)
      : capacity_(capacity),
        region_(std::move(region)),
        entries_(reinterpret_cast<Entry*>(region_.data() + offset)),
        index_(capacity * Entry::kKeys, capacity, entries_, sizeof(Entry), huge_pages, numa_node) {}

  Entry& operator[](uint32_t reference) { return entries_[reference]; }
  const Entry& operator[](uint32_t reference) const { return entries_[reference]; }

  const FlowIndex& index() const { return index_; }

  // The reference of the entry for which matches(entry) holds, or 0. `candidate` is tried first: it may be
  // out of date.
  template <typename Matches>
  uint32_t find(uint64_t hash, uint32_t candidate, const Matches& matches) const {
    if (candidate != 0 && is_live(candidate) && matches(entries_[candidate])) return candidate;
    return index_.find(hash, [&](uint32_t reference) { return matches(entries_[reference]); });
  }

  // Bytes of the entries of a table.
  static constexpr size_t entries_size(uint32_t capacity) { return (size_t{capacity} + 1) * sizeof(Entry); }

  bool has_free() const { return free_ != 0 || highest_ != capacity_; }
  // A free entry, to be filled and indexed by the caller, or 0 if there is none.
  uint32_t allocate() {
    if (free_ != 0) {
      const uint32_t reference = free_;
      std::memcpy(&free_, &entries_[reference], sizeof free_);
      __builtin_prefetch(&entries_[free_], 1);  // the next one's turn comes soon
      ++size_;
      return reference;
    }
    if (highest_ == capacity_) return 0;
    ++size_;
    ++highest_;
    // Entry 0 is none: it remembers how many there are, for a later process.
    std::memcpy(static_cast<void*>(&entries_[0]), &highest_, sizeof highest_);
    return highest_;
  }
  // Writes an allocated entry, or over a live one. A process that ends here, at whatever instruction, leaves
  // a free entry or the whole one: the state, which tells them apart, comes last. (That the compiler keeps
  // the order is enough: the processor's own is the program's to whoever looks after the end.)
  void fill(uint32_t reference, const Entry& entry) {
    Entry unborn = entry;
    unborn.vitals = Vitals(FlowState::none, false, 0);
    entries_[reference].vitals = unborn.vitals;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entries_[reference] = unborn;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entries_[reference].vitals = entry.vitals;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  // Gives an entry back whose keys have been taken out of the index.
  void release(uint32_t reference) {
    entries_[reference].vitals = Vitals(FlowState::none, false, 0);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    entries_[reference] = Entry{};
    std::memcpy(static_cast<void*>(&entries_[reference]), &free_, sizeof free_);
    free_ = reference;
    --size_;
  }
  bool insert_key(uint64_t hash, uint32_t reference) { return index_.insert(hash, reference); }
  // A key that is about to be inserted: says whether no entry has it for which matches(entry) holds.
  class NewKey {
   public:
    // `place`: FlowIndex::place_of_new() if that is known and holds, else null.
    template <typename Matches>
    [[gnu::always_inline]] NewKey(FlowTable& table, uint64_t hash, const Matches& matches,
                                  uint32_t* place = nullptr)
        : hash_(hash),
          place_(place != nullptr ? place : table.index_.place_of_new(hash)),
          is_new_(place_ != nullptr || table.find(hash, 0, matches) == 0) {}
    bool is_new() const { return is_new_; }
    // As insert_key(). Since the key was made, the table may have lost some, and got one other, `before`; one
    // without a place of its own may have taken this one's, in its second bucket.
    bool insert(FlowTable& table, uint32_t reference, const NewKey* before = nullptr) const {
      const bool may_be_taken = before != nullptr && (before->place_ == nullptr || before->place_ == place_);
      if (place_ == nullptr || may_be_taken) return table.index_.insert(hash_, reference);
      table.index_.put(place_, hash_, reference);
      return true;
    }

   private:
    uint64_t hash_;
    uint32_t* place_;
    bool is_new_;
  };
  void erase_key(uint64_t hash, uint32_t reference) { index_.erase(hash, reference); }
  template <typename Function>
  void for_each_neighbour(uint64_t hash, const Function& f) const {
    index_.for_each_neighbour(hash, f);
  }

  // Takes all entries that stand in the memory for live ones; the caller then releases those that are not,
  // and indexes the others. Returns highest(). Before anything else.
  uint32_t take_up() {
    std::memcpy(&highest_, static_cast<const void*>(&entries_[0]), sizeof highest_);
    highest_ = std::min(highest_, capacity_);
    entries_[0] = Entry{};
    std::memcpy(static_cast<void*>(&entries_[0]), &highest_, sizeof highest_);
    return size_ = highest_;
  }

  bool is_live(uint32_t reference) const { return entries_[reference].vitals.state() != FlowState::none; }
  uint32_t size() const { return size_; }
  uint32_t capacity() const { return capacity_; }
  // No reference above has ever been used.
  uint32_t highest() const { return highest_; }

 private:
  uint32_t capacity_;
  uint32_t size_ = 0;
  uint32_t highest_ = 0;
  uint32_t free_ = 0;  // the next free reference stands in the first bytes of a free entry
  Region region_;
  Entry* entries_;
  FlowIndex index_;
};

// The flows that go by DSR of one family; those by NAT need a second key: nat_flows.h.
template <typename F>
using DsrFlows = FlowTable<DsrEntry<F>>;

}  // namespace portico
