// SPDX-License-Identifier: Apache-2.0
// A read-only open-addressing hash from (address, port) to a 16-bit value, at most half full, so that a
// look-up touches one cache line nearly always. For the few addresses that are ours.
#pragma once

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
    bool operator==(const Key&) const = default;
  };

  // Empty: finds nothing.
  AddressMap() : AddressMap(HashKey{}, 0) {}
  // For up to `capacity` keys.
  AddressMap(const HashKey& hash_key, size_t capacity)
      : hash_key_(hash_key),
        slots_(std::bit_ceil(capacity * 2 + 2), Slot{{}, kNone}),
        mask_(slots_.size() - 1) {}

  // Adds a key or changes its value. `value` is not kNone; at most `capacity` keys.
  void insert(const Key& key, uint16_t value) {
    size_t i = hash(key) & mask_;
    while (slots_[i].value != kNone && !(slots_[i].key == key)) i = (i + 1) & mask_;
    slots_[i] = {key, value};
  }

  // The key's value, or kNone.
  uint16_t find(const Key& key) const {
    for (size_t i = hash(key) & mask_;; i = (i + 1) & mask_) {
      const Slot& slot = slots_[i];
      if (slot.value == kNone || slot.key == key) return slot.value;
    }
  }

 private:
  struct Slot {
    Key key;
    uint16_t value;  // kNone: empty
  };

  size_t hash(const Key& key) const {
    if constexpr (sizeof(A) == 4) {
      return fold_multiply(hash_key_.k[0] ^ ((uint64_t{key.address} << 16) | key.port),
                           hash_key_.k[1] ^ kHashMixA);
    } else {
      return fold_multiply(hash_key_.k[0] ^ key.address[0] ^ (key.port * kHashMixB),
                           hash_key_.k[1] ^ key.address[1] ^ kHashMixA);
    }
  }

  HashKey hash_key_;
  std::vector<Slot> slots_;
  size_t mask_;
};

}  // namespace portico
