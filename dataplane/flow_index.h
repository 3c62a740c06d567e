// SPDX-License-Identifier: Apache-2.0
// The hash index of a flow table: buckets of one cache line, 16 places of 32 bits each, which hold a tag (the
// hash's bits that the reference leaves free) and a reference to an entry. Every key has two candidate
// buckets; the first is taken while it has room to spare. At the load of one half for which it is sized,
// nearly every look-up needs the first bucket alone. Full keys are compared by the caller.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "contract/flow_hash.h"
#include "dataplane/memory.h"

namespace portico {

class FlowIndex {
 public:
  static constexpr uint32_t kPlaces = 16;  // per bucket
  // Bytes of index per key at the load the index is sized for.
  static constexpr uint32_t kBytesPerKey = 8;

  // For `keys` keys whose references are in [1, highest_reference].
  FlowIndex(uint32_t keys, uint32_t highest_reference, bool huge_pages, int numa_node)
      : reference_bits_(static_cast<uint32_t>(std::bit_width(highest_reference))),
        bucket_count_((keys + kPlaces / 2 - 1) / (kPlaces / 2) + 1),
        region_(size_t{bucket_count_} * sizeof(Bucket), huge_pages, numa_node),
        buckets_(reinterpret_cast<Bucket*>(region_.data())) {}

  void prefetch(uint64_t hash) const { __builtin_prefetch(&buckets_[first_bucket(hash)]); }

  // The first reference of the first bucket whose tag fits, or 0: likely the wanted one, worth a prefetch.
  uint32_t candidate(uint64_t hash) const {
    const Bucket& bucket = buckets_[first_bucket(hash)];
    const uint32_t mask = places_with_tag(bucket, hash);
    return mask == 0 ? 0 : bucket[static_cast<uint32_t>(std::countr_zero(mask))] & reference_mask();
  }

  // The reference for which `matches(reference)` holds among those whose tag fits, or 0.
  template <typename Matches>
  uint32_t find(uint64_t hash, const Matches& matches) const {
    for (const uint32_t b : {first_bucket(hash), second_bucket(hash)}) {
      const Bucket& bucket = buckets_[b];
      for (uint32_t mask = places_with_tag(bucket, hash); mask != 0; mask &= mask - 1) {
        const uint32_t reference = bucket[static_cast<uint32_t>(std::countr_zero(mask))] & reference_mask();
        if (reference != 0 && matches(reference)) return reference;
      }
    }
    return 0;
  }

  // False if both buckets are full, which at the intended load does not happen: once the first bucket is
  // nearly full, the emptier of the two is taken (Azar et al., "Balanced allocations").
  bool insert(uint64_t hash, uint32_t reference) {
    Bucket& first = buckets_[first_bucket(hash)];
    Bucket& second = buckets_[second_bucket(hash)];
    const uint32_t used = places_used(first);
    Bucket& chosen = used < kNearlyFull || used <= places_used(second) ? first : second;
    for (uint32_t& place : chosen) {
      if (place != 0) continue;
      place = tag(hash) | reference;
      return true;
    }
    return false;
  }

  // Removes what insert() put in; nothing if it is not there.
  void erase(uint64_t hash, uint32_t reference) {
    for (const uint32_t b : {first_bucket(hash), second_bucket(hash)}) {
      for (uint32_t& place : buckets_[b]) {
        if (place != (tag(hash) | reference)) continue;
        place = 0;
        return;
      }
    }
  }

  // Calls f(reference) for all references in the hash's two buckets.
  template <typename Function>
  void for_each_neighbour(uint64_t hash, const Function& f) const {
    for (const uint32_t b : {first_bucket(hash), second_bucket(hash)}) {
      for (const uint32_t place : buckets_[b]) {
        if (place != 0) f(place & reference_mask());
      }
    }
  }

 private:
  using Bucket = std::array<uint32_t, kPlaces>;  // 0: empty
  static_assert(sizeof(Bucket) == 64);
  static constexpr uint32_t kNearlyFull = 14;

  static uint32_t places_used(const Bucket& bucket) {
    uint32_t used = 0;
    for (const uint32_t place : bucket) used += place != 0;
    return used;
  }

  uint32_t reference_mask() const { return (1u << reference_bits_) - 1; }
  // The tag in its place. It and the two buckets come from different bits of the hash.
  uint32_t tag(uint64_t hash) const { return static_cast<uint32_t>(hash >> 32) << reference_bits_; }
  uint32_t scale(uint32_t bits) const {
    return static_cast<uint32_t>((uint64_t{bits} * bucket_count_) >> 32);
  }
  uint32_t first_bucket(uint64_t hash) const { return scale(static_cast<uint32_t>(hash)); }
  uint32_t second_bucket(uint64_t hash) const {
    const uint32_t second = scale(static_cast<uint32_t>((hash * kHashMixB) >> 32));
    if (second != first_bucket(hash)) return second;
    return second + 1 < bucket_count_ ? second + 1 : 0;
  }

  // Bit i: place i has the hash's tag. An empty place may have it, too: its reference is 0.
  uint32_t places_with_tag(const Bucket& bucket, uint64_t hash) const {
#if defined(__SSE2__)
    const __m128i tags = _mm_set1_epi32(static_cast<int>(~reference_mask()));
    const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag(hash)));
    const auto quarter = [&](int i) {
      const __m128i places = _mm_load_si128(reinterpret_cast<const __m128i*>(bucket.data()) + i);
      return _mm_cmpeq_epi32(_mm_and_si128(places, tags), wanted);
    };
    const __m128i low = _mm_packs_epi32(quarter(0), quarter(1));
    const __m128i high = _mm_packs_epi32(quarter(2), quarter(3));
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high)));
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kPlaces; ++i)
      mask |= uint32_t{(bucket[i] & ~reference_mask()) == tag(hash)} << i;
    return mask;
#endif
  }

  uint32_t reference_bits_;
  uint32_t bucket_count_;
  Region region_;
  Bucket* buckets_;
};

}  // namespace portico
