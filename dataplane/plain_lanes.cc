// SPDX-License-Identifier: Apache-2.0
#include "dataplane/plain_lanes.h"

#include "dataplane/avx512.h"

namespace portico {

#if defined(__x86_64__)

namespace {

// Half of the lanes, with 64 bits each.
constexpr uint32_t kHalf = kLanes / 2;

PORTICO_AVX512 inline __m512i lanes_of(const std::array<uint32_t, kBurstSize>& column, uint32_t begin) {
  return _mm512_cvtepu32_epi64(_mm256_load_si256(reinterpret_cast<const __m256i*>(&column[begin])));
}
PORTICO_AVX512 inline __m512i same64(uint64_t value) {
  return _mm512_set1_epi64(static_cast<long long>(value));
}
// The sum of 32-bit words.
PORTICO_AVX512 inline __m512i plus(__m512i words, uint32_t word) {
  return _mm512_add_epi32(words, same64(word));
}
PORTICO_AVX512 inline __m512i folded(__m512i x) {
  return _mm512_xor_si512(x, _mm512_srli_epi64(x, 32));
}

// As IndexHasherV4 does.
PORTICO_AVX512 inline __m512i hashes_of(const IndexHasherV4& key, __m512i source, __m512i destination,
                                        __m512i ports) {
  const __m512i first = _mm512_mul_epu32(plus(source, key.source), plus(ports, key.ports));
  const __m512i second = _mm512_mul_epu32(plus(destination, key.destination), same64(key.last));
  return folded(_mm512_mullo_epi64(folded(_mm512_add_epi64(first, second)), same64(kHashMixB)));
}

// The values of keys (port << 32 | address), and where they stand in the first slot, so that they are right.
PORTICO_AVX512 inline __mmask8 look_up(const AddressMap<uint32_t>::Reader& map, __m512i key, __m512i& value) {
  const __m512i at =
      _mm512_srl_epi64(_mm512_mullo_epi64(key, same64(kHashMixA)), _mm_cvtsi32_si128(map.shift()));
  const __m512i slot = _mm512_i64gather_epi64(at, map.slots(), 8);
  value = _mm512_srli_epi64(slot, 48);
  const __mmask8 is_it = _mm512_testn_epi64_mask(_mm512_xor_si512(slot, key), same64(~uint64_t{0} >> 16));
  return _mm512_mask_cmpneq_epi64_mask(is_it, value, same64(kNone));
}

PORTICO_AVX512 inline __mmask8 find_services(const AddressMap<uint32_t>::Reader& listeners,
                                             __m512i destination, __m512i ports, uint16_t* services) {
  const __m512i port = _mm512_slli_epi64(_mm512_srli_epi64(ports, 16), 32);
  __m512i service;
  const __mmask8 found = look_up(listeners, _mm512_or_si512(destination, port), service);
  _mm_store_si128(reinterpret_cast<__m128i*>(services), _mm512_cvtepi64_epi16(service));
  return found;
}

// Which are replies to NAT ports, for a worker that looks at all.
PORTICO_AVX512 inline __mmask8 find_replies(const PlainView<V4>& view, __m512i destination, __m512i ports) {
  __m512i nat;
  const __mmask8 found = look_up(view.nat_map(), destination, nat);
  const __m512i range = _mm512_cvtepu32_epi64(
      _mm512_mask_i64gather_epi32(_mm256_setzero_si256(), found, nat, view.nat_ranges(), 4));
  const __m512i port = _mm512_or_si512(_mm512_srli_epi64(ports, 24),
                                       _mm512_and_si512(_mm512_srli_epi64(ports, 8), same64(0xff00)));
  const __mmask8 is_above =
      _mm512_mask_cmpge_epu64_mask(found, port, _mm512_and_si512(range, same64(0xffff)));
  return _mm512_mask_cmple_epu64_mask(is_above, port, _mm512_srli_epi64(range, 16));
}

// Notes the ways of those in `found`, whose services are known.
PORTICO_AVX512 inline void note_paths(PlainColumns& columns, const PlainView<V4>& view, uint32_t found,
                                      uint32_t begin) {
  if (found == 0) return;
  const auto* const column = reinterpret_cast<const __m256i*>(&columns.services[begin]);
  const uint16_t service = columns.services[begin + static_cast<uint32_t>(std::countr_zero(found))];
  const __mmask16 same =
      _mm256_cmpeq_epi16_mask(_mm256_load_si256(column), _mm256_set1_epi16(static_cast<short>(service)));
  if ((found & ~same) == 0) {
    columns.of_path(view.path_to(service)) |= uint64_t{found} << begin;
  } else {
    for_each_bit(found, [&](uint32_t i) {
      columns.of_path(view.path_to(columns.services[begin + i])) |= uint64_t{1} << (begin + i);
    });
  }
}

// Of sixteen packets, those that are found to be replies are noted.
PORTICO_AVX512 inline uint32_t note_replies(const FirstLook& look, PlainColumns& columns,
                                            const PlainView<V4>& view, uint32_t packets, uint32_t begin) {
  if (!view.takes_all_ports()) return 0;
  uint32_t replies = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t first = begin + half * kHalf;
    const __mmask8 found =
        find_replies(view, lanes_of(look.destinations, first), lanes_of(look.port_pairs, first));
    replies |= uint32_t{found} << half * kHalf;
  }
  replies &= packets;
  _mm256_mask_storeu_epi16(&columns.services[begin], static_cast<__mmask16>(replies), _mm256_set1_epi16(-1));
  columns.of_path(Path::nat_out) |= uint64_t{replies} << begin;
  return replies;
}

// Those that have not been found so: where they do not stand in the first slot, or where workers share ports
// out by number.
inline void find_others(const FirstLook& look, PlainColumns& columns, const PlainView<V4>& view,
                        uint64_t packets) {
  uint64_t replies = 0;  // in a register: additions to one place in memory wait for each other
  for (; packets != 0; packets &= packets - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(packets));
    const auto found = view.find(look.destinations[i], static_cast<uint16_t>(look.port_pairs[i] >> 16));
    columns.services[i] = found.service;
    if (found.path == Path::nat_out)
      replies |= packets & -packets;
    else
      columns.of_path(found.path) |= packets & -packets;
  }
  columns.of_path(Path::nat_out) |= replies;
}

PORTICO_AVX512 inline __m512i either(__mmask8 are_nat, uint64_t of_dsr, uint64_t of_nat) {
  return _mm512_mask_blend_epi64(are_nat, same64(of_dsr), same64(of_nat));
}

// Where the buckets and tags of eight packets go.
struct Places {
  const FlowIndex::Bucket** buckets;
  uint32_t* tags;
};

// The buckets and tags of eight hashes: of index `nat` where the bit is set, else of `dsr`.
PORTICO_AVX512 inline void place(const Places& to, const FlowIndex::Shape& dsr, const FlowIndex::Shape& nat,
                                 __mmask8 are_nat, __m512i hash) {
  const __m512i count = either(are_nat, dsr.bucket_count, nat.bucket_count);
  const __m512i bits = either(are_nat, dsr.reference_bits, nat.reference_bits);
  const __m512i base =
      either(are_nat, reinterpret_cast<uint64_t>(dsr.buckets), reinterpret_cast<uint64_t>(nat.buckets));
  static_assert(sizeof(FlowIndex::Bucket) == 64);
  const __m512i bucket = _mm512_slli_epi64(_mm512_srli_epi64(_mm512_mul_epu32(hash, count), 32), 6);
  _mm512_store_si512(to.buckets, _mm512_add_epi64(base, bucket));
  const __m256i least = _mm512_cvtepi64_epi32(_mm512_sllv_epi64(same64(1), bits));
  const __m256i tags = _mm512_cvtepi64_epi32(_mm512_sllv_epi64(_mm512_srli_epi64(hash, 32), bits));
  _mm256_store_si256(reinterpret_cast<__m256i*>(to.tags), _mm256_max_epu32(tags, least));
}

}  // namespace

PORTICO_AVX512 void classify_lanes(const FirstLook& look, PlainColumns& columns, const PlainView<V4>& view,
                                   uint32_t begin, bool are_far) {
  const auto plain = static_cast<uint32_t>((look.acks | look.syns) >> begin) & 0xffff;
  const FlowIndex* const dsr = view.dsr() != nullptr ? view.dsr() : view.nat();
  if (plain == 0) return;
  __m512i hash[2];
  uint32_t found = 0;
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t first = begin + half * kHalf;
    const __m512i destination = lanes_of(look.destinations, first), ports = lanes_of(look.port_pairs, first);
    hash[half] = hashes_of(view.hash(), lanes_of(look.sources, first), destination, ports);
    _mm512_store_si512(&columns.hashes[first], hash[half]);
    found |= uint32_t{find_services(view.listeners(), destination, ports, &columns.services[first])}
             << half * kHalf;
  }
  found &= plain;
  note_paths(columns, view, found, begin);
  if (plain != found) found |= note_replies(look, columns, view, plain & ~found, begin);
  if (plain != found) find_others(look, columns, view, uint64_t{plain & ~found} << begin);
  if (dsr == nullptr) return;
  const FlowIndex::Shape of_dsr = dsr->shape(), of_nat = view.nat() != nullptr ? view.nat()->shape() : of_dsr;
  const auto are_nat = static_cast<uint32_t>(columns.in_nat() >> begin);
  for (uint32_t half = 0; half < 2; ++half) {
    const uint32_t first = begin + half * kHalf;
    place({&columns.buckets[first], &columns.tags[first]}, of_dsr, of_nat,
          static_cast<__mmask8>(are_nat >> half * kHalf), hash[half]);
  }
  for (uint32_t i = begin; i < begin + kLanes; ++i)
    are_far ? FlowIndex::prefetch(columns.buckets[i]) : FlowIndex::prefetch_near(columns.buckets[i]);
}

namespace {

// As FlowIndex::candidate().
PORTICO_AVX512 inline uint32_t candidate_in(const FlowIndex::Bucket* bucket, uint32_t tag,
                                            uint32_t reference_mask) {
  const __m512i places = _mm512_load_si512(bucket);
  const __m512i difference = _mm512_xor_si512(places, _mm512_set1_epi32(static_cast<int>(tag)));
  const __m512i tags = _mm512_set1_epi32(static_cast<int>(~reference_mask));
  const __mmask16 fitting = _mm512_mask_testn_epi32_mask(FlowIndex::kAllPlaces, difference, tags);
  const __m512i first = _mm512_maskz_compress_epi32(fitting, places);
  return static_cast<uint32_t>(_mm_cvtsi128_si32(_mm512_castsi512_si128(first))) & reference_mask;
}

template <bool kAreFar>
PORTICO_AVX512 inline void find_all(PlainColumns& columns, uint64_t packets, const FlowIndex& index,
                                    const void** far) {
  const uint32_t mask = index.reference_mask();
  const FlowIndex::Entries entries = index.entries();
  for (; packets != 0; packets &= packets - 1) {
    const auto i = static_cast<uint32_t>(_tzcnt_u64(packets));
    const uint32_t candidate = candidate_in(columns.buckets[i], columns.tags[i], mask);
    columns.candidates[i] = candidate;
    if constexpr (kAreFar)
      far[i] = entries.prefetch_far(candidate);
    else
      entries.prefetch(candidate);
  }
}

}  // namespace

PORTICO_AVX512 void find_candidates_by_avx512(PlainColumns& columns, uint64_t packets, const FlowIndex& index,
                                              const void** far) {
  far != nullptr ? find_all<true>(columns, packets, index, far)
                 : find_all<false>(columns, packets, index, far);
}

PORTICO_AVX512 void hash_replies_by_avx512(OpeningColumns& openings, uint64_t packets,
                                           const IndexHasherV4& hasher, const FlowIndex& index,
                                           bool are_far) {
  const FlowIndex::Shape shape = index.shape();
  for (uint32_t first = 0; first < kBurstSize; first += kHalf) {
    if ((packets >> first & 0xff) == 0) continue;
    const __m512i hash =
        hashes_of(hasher, lanes_of(openings.reply_sources, first),
                  lanes_of(openings.reply_destinations, first), lanes_of(openings.reply_ports, first));
    _mm512_store_si512(&openings.reply_hashes[first], hash);
    place({&openings.reply_buckets[first], &openings.reply_tags[first]}, shape, shape, 0, hash);
  }
  for_each_bit(packets, [&](uint32_t i) {
    const FlowIndex::Bucket* const bucket = openings.reply_buckets[i];
    are_far ? FlowIndex::prefetch(bucket) : FlowIndex::prefetch_near(bucket);
  });
}

PORTICO_AVX512 uint64_t find_places_by_avx512(const std::array<const FlowIndex::Bucket*, kBurstSize>& buckets,
                                              const std::array<uint32_t, kBurstSize>& tags, uint64_t packets,
                                              const FlowIndex& index,
                                              std::array<uint32_t*, kBurstSize>& places) {
  const __m512i tag_bits = _mm512_set1_epi32(static_cast<int>(~index.reference_mask()));
  uint64_t seen = 0;
  for (; packets != 0; packets &= packets - 1) {
    const auto i = static_cast<uint32_t>(_tzcnt_u64(packets));
    const FlowIndex::Bucket& bucket = *buckets[i];
    const __m512i found = _mm512_load_si512(&bucket);
    const __m512i difference = _mm512_xor_si512(found, _mm512_set1_epi32(static_cast<int>(tags[i])));
    const __mmask16 tagged = _mm512_mask_testn_epi32_mask(FlowIndex::kAllPlaces, difference, tag_bits);
    const __mmask16 free = _mm512_mask_testn_epi32_mask(FlowIndex::kAllPlaces, found, found);
    places[i] = tagged == 0 && bucket.moved == 0 ? index.place_in(bucket, free) : nullptr;
    if (tagged != 0) seen |= packets & -packets;
  }
  return seen;
}

#else

void classify_lanes(const FirstLook&, PlainColumns&, const PlainView<V4>&, uint32_t, bool) {}
void find_candidates_by_avx512(PlainColumns&, uint64_t, const FlowIndex&, const void**) {}
void hash_replies_by_avx512(OpeningColumns&, uint64_t, const IndexHasherV4&, const FlowIndex&, bool) {}
uint64_t find_places_by_avx512(const std::array<const FlowIndex::Bucket*, kBurstSize>&,
                               const std::array<uint32_t, kBurstSize>&, uint64_t, const FlowIndex&,
                               std::array<uint32_t*, kBurstSize>&) {
  return 0;
}

#endif

}  // namespace portico
