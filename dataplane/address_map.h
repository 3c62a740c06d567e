// SPDX-License-Identifier: Apache-2.0
// A read-only open-addressing hash from (address, port) to a 16-bit value, at most half full, so that a
// look-up touches one cache line nearly always, and an eighth full while it is small, so that it ends at the
// first slot nearly always: a branch that was guessed wrong costs a packet more than the rest of the look-up,
// and holds up the fetches of those behind it. For the few addresses that are ours.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "contract/flow_hash.h"
#include "contract/limits.h"

namespace portico {

// `A` is uint32_t (IPv4) or std::array<uint64_t, 2> (IPv6), in network byte order.
template <typename A>
class AddressMap {
 public:
  struct Key {
    A address;
    uint16_t port;  // network byte order; 0 where only the address counts
  };

  // Empty: finds nothing.
  AddressMap() : AddressMap(HashKey{}, 0) {}
  // For up to `capacity` keys.
  AddressMap(const HashKey& hash_key, size_t capacity)
      : hash_key_(hash_key),
        slots_(slots_for(capacity), Slot{{}, 0, kNone}),
        mask_(slots_.size() - 1),
        shift_(64 - static_cast<int>(std::bit_width(mask_))) {}

  // Adds a key or changes its value. `value` is not kNone; at most `capacity` keys.
  void insert(const Key& key, uint16_t value) {
    size_t i = hash(hash_key_, key) >> shift_;
    while (slots_[i].value != kNone && !slots_[i].is_of(key)) i = (i + 1) & mask_;
    slots_[i] = {key.address, key.port, value};
  }

  // The map as a value that registers can hold, valid while the map lives.
  class Reader;
  Reader reader() const { return {hash_key_, slots_.data(), mask_, shift_}; }

  // The key's value, or kNone.
  uint16_t find(const Key& key) const { return reader().find(key); }

 private:
  struct Slot {
    A address;
    uint16_t port;
    uint16_t value;  // kNone: empty

    bool is_of(const Key& key) const { return address == key.address && port == key.port; }
  };
  static_assert(sizeof(Slot) == (sizeof(A) == 4 ? 8 : 24));
  static constexpr size_t kFewestSlots = 64, kMostSparseSlots = 4096;

  static size_t slots_for(size_t capacity) {
    const size_t sparse = std::clamp(capacity * 8, kFewestSlots, kMostSparseSlots);
    return std::bit_ceil(std::max(capacity * 2 + 2, sparse));
  }

  static uint64_t hash(const HashKey& hash_key, const Key& key) {
    if constexpr (sizeof(A) == 4) {
      // The keys are ours, so that nobody can aim at a slot: one multiplication will do.
      return ((uint64_t{key.port} << 32) | key.address) * kHashMixA;
    } else {
      return fold_multiply(hash_key.k[0] ^ key.address[0] ^ (key.port * kHashMixB),
                           hash_key.k[1] ^ key.address[1] ^ kHashMixA);
    }
  }

  HashKey hash_key_;
  std::vector<Slot> slots_;
  size_t mask_;
  int shift_;  // leaves the hash's highest bits, as many as the mask has
};

template <typename A>
class AddressMap<A>::Reader {
 public:
  Reader(const HashKey& hash_key, const Slot* slots, size_t mask, int shift)
      : hash_key_(hash_key), slots_(slots), mask_(mask), shift_(shift) {}

  // For who looks many up at a time. A slot of IPv4: address, port and value as 64 bits; a key's first slot
  // is (port << 32 | address) * kHashMixA >> shift().
  const Slot* slots() const { return slots_; }
  int shift() const { return shift_; }

  uint16_t find(const Key& key) const {
    for (size_t i = hash(hash_key_, key) >> shift_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.is_of(key) || slot.value == kNone) return slot.value;
    }
  }

 private:
  HashKey hash_key_;
  const Slot* slots_;
  size_t mask_;
  int shift_;
};

}  // namespace portico
