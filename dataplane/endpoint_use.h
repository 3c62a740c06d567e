// SPDX-License-Identifier: Apache-2.0
// How many NAT flows each backend endpoint (address and port) has. It has every NAT port of its family for
// itself, so the fullest one is the first that runs out.
#pragma once

#include <cstdint>
#include <vector>

#include "contract/limits.h"

namespace portico {

class EndpointUse {
 public:
  struct Fullest {
    uint16_t backend = kNone;
    uint32_t flows = 0;
  };

  EndpointUse() : slots_(kSlots) {}

  // The worker that owns the flows. An endpoint that finds no place among some 8,192 others is not counted.
  void add(uint16_t backend, uint16_t port) {
    if (uint64_t* slot = find(key_of(backend, port))) store(*slot, *slot + 1);
  }
  void remove(uint16_t backend, uint16_t port) {
    uint64_t* const slot = find(key_of(backend, port));
    if (slot != nullptr && count_in(*slot) > 0) store(*slot, *slot - 1);
  }

  // Any thread.
  Fullest fullest() const {
    uint64_t most = 0;
    for (const uint64_t& slot : slots_) {
      const uint64_t now = __atomic_load_n(&slot, __ATOMIC_RELAXED);
      if (count_in(now) > count_in(most)) most = now;
    }
    if (count_in(most) == 0) return {};
    return {static_cast<uint16_t>(most >> 48), count_in(most)};
  }

 private:
  static constexpr uint32_t kSlots = 8192;  // a power of two
  static constexpr uint32_t kWindow = 16;   // slots in which an endpoint may stand

  // Backend, port, count: 16, 16 and 32 bits. A slot with count 0 is free.
  static uint64_t key_of(uint16_t backend, uint16_t port) {
    return uint64_t{backend} << 48 | uint64_t{port} << 32;
  }
  static uint32_t count_in(uint64_t slot) { return static_cast<uint32_t>(slot); }
  static void store(uint64_t& slot, uint64_t value) { __atomic_store_n(&slot, value, __ATOMIC_RELAXED); }

  // The endpoint's slot; else a free one that becomes its own; else null.
  uint64_t* find(uint64_t key) {
    const uint64_t first = (key >> 32) * 0x9e3779b97f4a7c15 >> 32;
    uint64_t* unused = nullptr;
    for (uint64_t i = 0; i < kWindow; ++i) {
      uint64_t& slot = slots_[(first + i) % kSlots];
      if (count_in(slot) == 0)
        unused = unused == nullptr ? &slot : unused;
      else if ((slot ^ key) >> 32 == 0)
        return &slot;
    }
    if (unused != nullptr) store(*unused, key);
    return unused;
  }

  std::vector<uint64_t> slots_;
};

}  // namespace portico
