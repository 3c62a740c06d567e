// SPDX-License-Identifier: Apache-2.0
// The hash index of a flow table: buckets of one cache line, 15 places of 32 bits each, which hold a tag (the
// hash's bits that the reference leaves free) and a reference to an entry. Every key has three candidate
// buckets; the first is taken while it has room to spare, the third where one key in some ten million finds
// the others full. The 16th word counts the keys that had to go elsewhere: while it is 0, as nearly
// everywhere at the load of one half for which the index is sized, the first bucket alone answers a look-up,
// in vain or not. Full keys are compared by the caller.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "contract/flow_hash.h"
#include "dataplane/memory.h"

namespace portico {

class FlowIndex {
 public:
  static constexpr uint32_t kPlaces = 15;  // per bucket
  static constexpr uint32_t kAllPlaces = (1u << kPlaces) - 1;
  // Bytes of index per key at the load the index is sized for.
  static constexpr uint32_t kBytesPerKey = 8;

  // For `keys` keys whose references are in [1, highest_reference]. A reference counts `entry_size` bytes
  // from `entries`, for prefetching only.
  FlowIndex(uint32_t keys, uint32_t highest_reference, const void* entries, uint32_t entry_size,
            bool huge_pages, int numa_node)
      : reference_bits_(static_cast<uint32_t>(std::bit_width(highest_reference))),
        bucket_count_((keys + kKeysPerBucket - 1) / kKeysPerBucket + 2),
        region_(size_t{bucket_count_} * sizeof(Bucket), huge_pages, numa_node),
        buckets_(reinterpret_cast<Bucket*>(region_.data())),
        entries_(static_cast<const char*>(entries)),
        entry_size_(entry_size) {}

  struct alignas(64) Bucket {
    std::array<uint32_t, kPlaces> places;  // 0: empty
    uint16_t moved;                        // keys of this bucket that are in their second or third one
    uint16_t beyond;                       // in their third one
  };
  static_assert(sizeof(Bucket) == 64);

  // Of a bucket that is likely in the caches, into the first level; else into the second, which has more
  // fetches from memory under way at a time.
  static void prefetch_near(const Bucket* bucket) { __builtin_prefetch(bucket); }
  static void prefetch(const Bucket* bucket) { __builtin_prefetch(bucket, 0, kSecondLevel); }
  void prefetch(uint64_t hash) const { prefetch(bucket_of(hash)); }

  // Where the entries are.
  struct Entries {
    const char* first;
    uint32_t size;

    // One that is likely in the caches, into the first level.
    void prefetch(uint32_t reference) const {
      const char* const entry = first + size_t{reference} * size;
      __builtin_prefetch(entry, 1);
      __builtin_prefetch(entry + size - 1, 1);
    }
    // One that is likely in memory, into the second level. Returns where it is.
    const void* prefetch_far(uint32_t reference) const {
      const char* const entry = first + size_t{reference} * size;
      __builtin_prefetch(entry, 0, kSecondLevel);
      __builtin_prefetch(entry + size - 1, 0, kSecondLevel);
      return entry;
    }
  };
  Entries entries() const { return {entries_, entry_size_}; }

  // The first reference of the first bucket whose tag fits, or 0: likely the wanted one, worth a prefetch.
  uint32_t candidate(uint64_t hash) const { return candidate(*bucket_of(hash), tag(hash)); }
  // The same of a bucket and tag that are known.
  uint32_t candidate(const Bucket& bucket, uint32_t tag) const {
    const uint32_t mask = places_equal(bucket, ~reference_mask(), tag);
    return mask == 0 ? 0 : bucket.places[static_cast<uint32_t>(std::countr_zero(mask))] & reference_mask();
  }

  // The reference for which `matches(reference)` holds among those whose tag fits, or 0.
  template <typename Matches>
  uint32_t find(uint64_t hash, const Matches& matches) const {
    const Bucket& first = buckets_[first_bucket(hash)];
    const uint32_t found = find_in(first, hash, matches);
    if (found != 0 || first.moved == 0) return found;
    const uint32_t found_there = find_in(buckets_[second_bucket(hash)], hash, matches);
    if (found_there != 0 || first.beyond == 0) return found_there;
    return find_in(buckets_[third_bucket(hash)], hash, matches);
  }

  // False if all three buckets are full, which takes far more keys than the index is for. Once the first
  // bucket is nearly full, the emptier of the first two is taken (Azar et al., "Balanced allocations").
  bool insert(uint64_t hash, uint32_t reference) {
    Bucket& first = buckets_[first_bucket(hash)];
    const uint32_t free = free_places(first);
    if (free & (free - 1)) {  // two at least
      take(first, free, hash, reference);
      return true;
    }
    Bucket& second = buckets_[second_bucket(hash)];
    const uint32_t free_there = free_places(second);
    if ((free | free_there) == 0) return insert_beyond(first, hash, reference);
    if (free_there == 0 || (free != 0 && std::popcount(free_there) <= 1)) {
      take(first, free, hash, reference);
    } else {
      take(second, free_there, hash, reference);
      ++first.moved;
    }
    return true;
  }

  // Where insert() would put a key that one look at its first bucket proves to be new, if there is room; else
  // null: it takes find() and insert(). Valid until the index changes.
  uint32_t* place_of_new(uint64_t hash) const { return place_of_new(*bucket_of(hash), tag(hash)); }
  // The same of a bucket and tag that are known.
  uint32_t* place_of_new(const Bucket& bucket, uint32_t tag) const {
    const Masks seen = tagged_and_free(bucket, ~reference_mask(), tag);
    return bucket.moved == 0 && seen.tagged == 0 ? place_in(bucket, seen.free) : nullptr;
  }
  // The first of a bucket's free places if there are two at least, else null.
  uint32_t* place_in(const Bucket& bucket, uint32_t free) const {
    if ((free & (free - 1)) == 0) return nullptr;
    return &buckets_[&bucket - buckets_].places[static_cast<uint32_t>(std::countr_zero(free))];
  }
  // Inserts a key there.
  void put(uint32_t* place, uint64_t hash, uint32_t reference) { *place = tag(hash) | reference; }

  // What bucket_of() and tag() depend on, for who works them out for many hashes at a time.
  struct Shape {
    const Bucket* buckets;
    uint32_t bucket_count, reference_bits;
  };
  Shape shape() const { return {buckets_, bucket_count_, reference_bits_}; }
  // The bucket where a key is looked for first.
  const Bucket* bucket_of(uint64_t hash) const { return &buckets_[first_bucket(hash)]; }
  // The tag in its place there, never 0, so that no empty place has it. It and the two buckets come from
  // different bits of the hash.
  uint32_t tag(uint64_t hash) const {
    return std::max(static_cast<uint32_t>(hash >> 32) << reference_bits_, 1u << reference_bits_);
  }
  uint32_t reference_mask() const { return (1u << reference_bits_) - 1; }

  // How many keys have been erased, modulo 2^32.
  uint32_t erasures() const { return erasures_; }
  // Removes what insert() put in; nothing if it is not there.
  void erase(uint64_t hash, uint32_t reference) {
    ++erasures_;
    Bucket& first = buckets_[first_bucket(hash)];
    if (erase_from(first, tag(hash) | reference) || first.moved == 0) return;
    if (erase_from(buckets_[second_bucket(hash)], tag(hash) | reference)) {
      --first.moved;
    } else if (first.beyond != 0 && erase_from(buckets_[third_bucket(hash)], tag(hash) | reference)) {
      --first.moved;
      --first.beyond;
    }
  }

  // Calls f(reference) for all references in the hash's first two buckets.
  template <typename Function>
  void for_each_neighbour(uint64_t hash, const Function& f) const {
    for (const uint32_t b : {first_bucket(hash), second_bucket(hash)}) {
      for (const uint32_t place : buckets_[b].places) {
        if (place != 0) f(place & reference_mask());
      }
    }
  }

 private:
  static constexpr uint32_t kKeysPerBucket = 64 / kBytesPerKey;
  static constexpr int kSecondLevel = 2;  // __builtin_prefetch's locality

  template <typename Matches>
  uint32_t find_in(const Bucket& bucket, uint64_t hash, const Matches& matches) const {
    for (uint32_t mask = places_with_tag(bucket, hash); mask != 0; mask &= mask - 1) {
      const uint32_t reference =
          bucket.places[static_cast<uint32_t>(std::countr_zero(mask))] & reference_mask();
      if (matches(reference)) return reference;
    }
    return 0;
  }
  static bool erase_from(Bucket& bucket, uint32_t wanted) {
    const uint32_t mask = places_equal(bucket, 0xffffffff, wanted);
    if (mask == 0) return false;
    bucket.places[static_cast<uint32_t>(std::countr_zero(mask))] = 0;
    return true;
  }
  void take(Bucket& bucket, uint32_t free, uint64_t hash, uint32_t reference) {
    bucket.places[static_cast<uint32_t>(std::countr_zero(free))] = tag(hash) | reference;
  }
  [[gnu::noinline]] bool insert_beyond(Bucket& first, uint64_t hash, uint32_t reference) {
    Bucket& third = buckets_[third_bucket(hash)];
    const uint32_t free = free_places(third);
    if (free == 0) return false;
    take(third, free, hash, reference);
    ++first.moved;
    ++first.beyond;
    return true;
  }
  static uint32_t free_places(const Bucket& bucket) { return places_equal(bucket, 0xffffffff, 0); }

  uint32_t scale(uint32_t bits) const {
    return static_cast<uint32_t>((uint64_t{bits} * bucket_count_) >> 32);
  }
  uint32_t first_bucket(uint64_t hash) const { return scale(static_cast<uint32_t>(hash)); }
  uint32_t second_bucket(uint64_t hash) const {
    const uint32_t second = scale(static_cast<uint32_t>((hash * kHashMixB) >> 32));
    return second != first_bucket(hash) ? second : after(second);
  }
  // The first that is neither, from where other bits of the hash point.
  uint32_t third_bucket(uint64_t hash) const {
    const uint32_t first = first_bucket(hash), second = second_bucket(hash);
    uint32_t third = scale(static_cast<uint32_t>((hash * kHashMixA) >> 32));
    while (third == first || third == second) third = after(third);
    return third;
  }
  uint32_t after(uint32_t bucket) const { return bucket + 1 < bucket_count_ ? bucket + 1 : 0; }

  // Bit i: place i has the hash's tag.
  uint32_t places_with_tag(const Bucket& bucket, uint64_t hash) const {
    return places_equal(bucket, ~reference_mask(), tag(hash));
  }

  // What places_equal() finds for a tag, and for 0 in all bits.
  struct Masks {
    uint32_t tagged, free;
  };

#if defined(__x86_64__)
  static __m128i quarter_of(const Bucket& bucket, int i) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(&bucket) + i);
  }
  // Bit i: element i of sixteen is set, if it is of a place.
  static uint32_t mask_of(__m128i a, __m128i b, __m128i c, __m128i d) {
    const __m128i low = _mm_packs_epi32(a, b), high = _mm_packs_epi32(c, d);
    return static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(low, high))) & kAllPlaces;
  }
  // Bit i: the bits of place i that are in `bits` are those of `value`.
  static uint32_t places_equal(const Bucket& bucket, uint32_t bits, uint32_t value) {
    const __m128i tags = _mm_set1_epi32(static_cast<int>(bits));
    const __m128i wanted = _mm_set1_epi32(static_cast<int>(value));
    const auto equal = [&](int i) {
      return _mm_cmpeq_epi32(_mm_and_si128(quarter_of(bucket, i), tags), wanted);
    };
    return mask_of(equal(0), equal(1), equal(2), equal(3));
  }
  static Masks tagged_and_free(const Bucket& bucket, uint32_t bits, uint32_t value) {
    const auto empty = [&](int i) { return _mm_cmpeq_epi32(quarter_of(bucket, i), _mm_setzero_si128()); };
    return {places_equal(bucket, bits, value), mask_of(empty(0), empty(1), empty(2), empty(3))};
  }
#else
  static uint32_t places_equal(const Bucket& bucket, uint32_t bits, uint32_t value) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < kPlaces; ++i) mask |= uint32_t{(bucket.places[i] & bits) == value} << i;
    return mask;
  }
  static Masks tagged_and_free(const Bucket& bucket, uint32_t bits, uint32_t value) {
    return {places_equal(bucket, bits, value), places_equal(bucket, 0xffffffff, 0)};
  }
#endif

  uint32_t reference_bits_;
  uint32_t bucket_count_;
  Region region_;
  Bucket* buckets_;
  const char* entries_;
  uint32_t entry_size_;
  uint32_t erasures_ = 0;
};

}  // namespace portico
