// SPDX-License-Identifier: Apache-2.0
// Classifies sixteen plain IPv4 packets at a time, and finds the likely entries of a burst's: with AVX-512.
#pragma once

#include "dataplane/first_look.h"
#include "dataplane/plain_columns.h"
#include "dataplane/plain_view.h"

namespace portico {

// Of packets [begin, begin + kLanes), which the first look has seen with AVX-512: fills in the columns of
// those that are for this worker and fetches their buckets: to the second-level cache if they
// are far, else to the first.
void classify_lanes(const FirstLook& look, PlainColumns& columns, const PlainView<V4>& view, uint32_t begin,
                    bool are_far);

// Fills in the candidates of the packets whose bits are set, which `index` has, and fetches the entries: if
// `far` is not null, to the second-level cache, and says there where they are.
void find_candidates_by_avx512(PlainColumns& columns, uint64_t packets, const FlowIndex& index,
                               const void** far);

// Hashes, buckets and tags of the replies to the openings whose bits are set, which `index` is to have, and
// fetches the buckets.
void hash_replies_by_avx512(OpeningColumns& openings, uint64_t packets, const IndexHasherV4& hasher,
                            const FlowIndex& index, bool are_far);

// FlowIndex::place_of_new() for those whose bits are set. Returns those whose tags have been seen.
uint64_t find_places_by_avx512(const std::array<const FlowIndex::Bucket*, kBurstSize>& buckets,
                               const std::array<uint32_t, kBurstSize>& tags, uint64_t packets,
                               const FlowIndex& index, std::array<uint32_t*, kBurstSize>& places);

}  // namespace portico
