// SPDX-License-Identifier: Apache-2.0
#include "control/maglev.h"

#include <xxhash.h>

#include <algorithm>
#include <tuple>

#include "contract/limits.h"

namespace portico {
namespace {

constexpr uint32_t kNobody = 0xffffffff;  // end of a list of candidates

// A backend with weight while the table is filled. Its permutation of the slots is
// (offset + j * skip) mod size for j = 0, 1, ...; its turns are spread evenly over the rounds.
struct Candidate {
  uint64_t order;  // first key of the order of candidates
  std::string_view name;
  uint32_t weight;
  uint16_t id;
  uint32_t cursor;  // the next slot of the permutation
  uint32_t skip;
  uint32_t phase;  // where in its period the first turn falls, in 1/2^32
  uint32_t left;   // turns still to take: its share of slots
  uint32_t next;   // the next candidate with a turn in the same round
  // A turn comes every period + period_rest / weight rounds; `rest` adds up the fractions.
  uint32_t period, period_rest, rest;
};

Candidate make_candidate(const MaglevBackend& backend, uint32_t size, const HashKey& key) {
  const XXH128_hash_t name = XXH3_128bits_withSeed(backend.name.data(), backend.name.size(), key.k[0]);
  const auto derive = [&](uint64_t purpose) { return hash_words(key, name.low64, name.high64, purpose, 0); };
  Candidate candidate{};
  candidate.order = derive(1);
  candidate.name = backend.name;
  candidate.weight = backend.weight;
  candidate.id = backend.id;
  candidate.cursor = static_cast<uint32_t>(derive(2) % size);
  candidate.skip = static_cast<uint32_t>(derive(3) % (size - 1)) + 1;
  candidate.phase = static_cast<uint32_t>(derive(4) >> 32);
  return candidate;
}

// Candidates in an order that depends on names and key alone.
std::vector<Candidate> make_candidates(std::span<const MaglevBackend> backends, uint32_t size,
                                       const HashKey& key) {
  std::vector<Candidate> candidates;
  candidates.reserve(backends.size());
  for (const MaglevBackend& backend : backends)
    if (backend.weight > 0) candidates.push_back(make_candidate(backend, size, key));
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.order, a.name) < std::tie(b.order, b.name);
  });
  return candidates;
}

// Shares slots out in proportion to weights: whole slots first, then one each to the largest remainders.
void assign_shares(std::vector<Candidate>& candidates, uint32_t size, uint64_t total_weight) {
  std::vector<std::pair<uint64_t, uint32_t>> remainders;  // descending remainder, ascending index
  remainders.reserve(candidates.size());
  uint32_t given = 0;
  for (uint32_t i = 0; i < candidates.size(); ++i) {
    const uint64_t exact = uint64_t{size} * candidates[i].weight;  // < 2^64: both are 32 bits wide
    candidates[i].left = static_cast<uint32_t>(exact / total_weight);
    given += candidates[i].left;
    remainders.emplace_back(~(exact % total_weight), i);
  }
  const auto end = remainders.begin() + (size - given);
  std::nth_element(remainders.begin(), end, remainders.end());
  for (auto it = remainders.begin(); it != end; ++it) ++candidates[it->second].left;
}

// One list of candidates per round, first in, first out: who has a turn there. The heaviest has one in every
// round, one of half its weight in every other. Turns fall at fixed times of each candidate's own clock
// whoever else is there, so that a backend which comes or goes does not reorder the others' turns.
class Schedule {
 public:
  Schedule(std::vector<Candidate>& candidates, uint32_t size, uint64_t total_weight, uint32_t max_weight)
      : candidates_(candidates), lists_(uint64_t{size} * max_weight / total_weight + 2) {
    for (uint32_t i = 0; i < candidates.size(); ++i) {
      Candidate& c = candidates[i];
      c.period = max_weight / c.weight;
      c.period_rest = max_weight % c.weight;
      const uint64_t first = (uint64_t{c.phase} * max_weight) >> 32;  // in 1/weight rounds
      c.rest = static_cast<uint32_t>(first % c.weight);
      if (c.left > 0) append(i, first / c.weight);
    }
  }

  uint64_t last_round() const { return lists_.size() - 1; }

  // Takes the first candidate off a round's list; kNobody if none is left.
  uint32_t pop(uint64_t round) {
    List& list = lists_[round];
    const uint32_t index = list.head;
    if (index == kNobody) return kNobody;
    list.head = candidates_[index].next;
    if (list.head == kNobody) list.tail = kNobody;
    return index;
  }

  // Puts a candidate that has taken its turn in `round` into the round of its next one.
  void reschedule(uint32_t index, uint64_t round) {
    Candidate& c = candidates_[index];
    round += c.period;
    const uint64_t rest = uint64_t{c.rest} + c.period_rest;
    if (rest >= c.weight) ++round;
    c.rest = static_cast<uint32_t>(rest >= c.weight ? rest - c.weight : rest);
    append(index, round);
  }

 private:
  struct List {
    uint32_t head = kNobody, tail = kNobody;
  };

  // Rounding leaves some a turn behind the last round; they take it there.
  void append(uint32_t index, uint64_t round) {
    List& list = lists_[std::min<uint64_t>(round, last_round())];
    candidates_[index].next = kNobody;
    (list.tail == kNobody ? list.head : candidates_[list.tail].next) = index;
    list.tail = index;
  }

  std::vector<Candidate>& candidates_;
  std::vector<List> lists_;
};

// Which slots are taken: one bit each, so that the long search for the last free ones stays in the L1 cache.
class TakenSlots {
 public:
  explicit TakenSlots(uint32_t size) : bits_((size + 63) / 64) {}
  bool contains(uint32_t slot) const { return (bits_[slot / 64] >> (slot % 64)) & 1; }
  void insert(uint32_t slot) { bits_[slot / 64] |= uint64_t{1} << (slot % 64); }

 private:
  std::vector<uint64_t> bits_;
};

// The first free slot from the candidate's cursor on; leaves the cursor behind it.
uint32_t take_slot(Candidate& candidate, uint32_t size, TakenSlots& taken) {
  uint32_t slot = candidate.cursor;
  const uint32_t skip = candidate.skip;
  const auto step = [&] { slot = slot >= size - skip ? slot - (size - skip) : slot + skip; };
  while (taken.contains(slot)) step();
  taken.insert(slot);
  const uint32_t found = slot;
  step();
  candidate.cursor = slot;
  return found;
}

}  // namespace

std::vector<uint16_t> build_lookup(std::span<const MaglevBackend> backends, uint32_t size,
                                   const HashKey& key) {
  std::vector<Candidate> candidates = make_candidates(backends, size, key);
  if (candidates.empty()) return {};
  uint64_t total_weight = 0;
  uint32_t max_weight = 0;
  for (const Candidate& candidate : candidates) {
    total_weight += candidate.weight;
    max_weight = std::max(max_weight, candidate.weight);
  }
  assign_shares(candidates, size, total_weight);
  Schedule schedule(candidates, size, total_weight, max_weight);

  std::vector<uint16_t> table(size, kNone);
  TakenSlots taken(size);
  for (uint64_t round = 0; round <= schedule.last_round(); ++round) {
    for (uint32_t i; (i = schedule.pop(round)) != kNobody;) {
      Candidate& candidate = candidates[i];
      table[take_slot(candidate, size, taken)] = candidate.id;
      if (--candidate.left > 0) schedule.reschedule(i, round);
    }
  }
  return table;
}

}  // namespace portico
