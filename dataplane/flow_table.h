// SPDX-License-Identifier: Apache-2.0
// The flows of one family and mode of one worker: an array of entries, of which the free ones form a list,
// and an index of their keys. All memory is there from the start.
#pragma once

#include <cstdint>

#include "dataplane/flow_entry.h"
#include "dataplane/flow_index.h"
#include "dataplane/memory.h"

namespace portico {

// References count from 1; 0 is none.
template <typename Entry>
class FlowTable {
 public:
  // Memory per flow, index included.
  static constexpr uint32_t kBytesPerFlow = sizeof(Entry) + Entry::kKeys * FlowIndex::kBytesPerKey;

  // capacity: 1..2^24 - 1 flows. Throws std::runtime_error if memory is missing.
  FlowTable(uint32_t capacity, bool huge_pages, int numa_node)
      : capacity_(capacity),
        region_((size_t{capacity} + 1) * sizeof(Entry), huge_pages, numa_node),
        entries_(reinterpret_cast<Entry*>(region_.data())),
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

  // A free entry, to be filled and indexed by the caller, or 0 if there is none.
  uint32_t allocate() {
    if (free_ != 0) {
      const uint32_t reference = free_;
      std::memcpy(&free_, &entries_[reference], sizeof free_);
      ++size_;
      return reference;
    }
    if (highest_ == capacity_) return 0;
    ++size_;
    return ++highest_;
  }
  // Gives an entry back whose keys have been taken out of the index.
  void release(uint32_t reference) {
    entries_[reference] = Entry{};
    std::memcpy(&entries_[reference], &free_, sizeof free_);
    free_ = reference;
    --size_;
  }
  bool insert_key(uint64_t hash, uint32_t reference) { return index_.insert(hash, reference); }
  void erase_key(uint64_t hash, uint32_t reference) { index_.erase(hash, reference); }
  template <typename Function>
  void for_each_neighbour(uint64_t hash, const Function& f) const {
    index_.for_each_neighbour(hash, f);
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

}  // namespace portico
