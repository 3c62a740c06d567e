// SPDX-License-Identifier: Apache-2.0
// How many connections each source prefix has of a service, and how fast it opens them: in fixed memory per
// worker, under a secret key, so that nobody can aim at another's place. A source that has none and whose
// bucket of tokens is full again leaves no trace. With more sources at a time than there is room, those with
// the fewest connections are forgotten first: limits then err on the side of letting in.
#pragma once

#include <cstdint>
#include <vector>

namespace portico {

// What one source may do, as one worker counts it. Times in TSC cycles.
struct SourceShare {
  uint64_t period;  // between two new connections in the long run; 0: no limit
  uint32_t burst;   // new connections at once; at least 1
  uint32_t flows;   // connections at a time; 0: no limit
};

enum class SourceVerdict : uint8_t { pass, too_fast, too_many };

class SourceLimits {
 public:
  static constexpr uint32_t kSources = 1u << 16;  // that are remembered at a time

  // Throws std::bad_alloc.
  SourceLimits() : buckets_(kSources / kWays) {}

  // Forgets all, if what is counted is not what was counted before: `version` of Table::limits_version.
  void follow(uint32_t version);

  // Whether a source, by the hash of its prefix and service, may open a connection at `now`; if so its token
  // is gone. The buckets of tokens are those of the generic cell rate algorithm (ITU-T I.371).
  SourceVerdict take(uint64_t hash, const SourceShare& share, uint64_t now);
  // Notes that the source has one connection more, or one less. One less of a source that has been forgotten
  // changes nothing.
  void add(uint64_t hash, uint64_t now) { ++claim(hash, now).flows; }
  void remove(uint64_t hash);
  // Connections that the source is known to have.
  uint32_t flows(uint64_t hash) const;

 private:
  static constexpr uint32_t kWays = 8;

  struct Cell {
    uint64_t due = 0;  // when its bucket of tokens is full again
    uint32_t tag = 0;  // of the hash; 0: free
    uint32_t flows = 0;
  };
  static_assert(sizeof(Cell) == 16);
  struct alignas(128) Bucket {
    Cell cells[kWays];
  };

  static uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash) | 1; }
  Bucket& bucket_of(uint64_t hash) { return buckets_[(hash >> 32) % buckets_.size()]; }
  const Bucket& bucket_of(uint64_t hash) const { return buckets_[(hash >> 32) % buckets_.size()]; }
  // The source's cell, or one that is made its own.
  Cell& claim(uint64_t hash, uint64_t now);

  std::vector<Bucket> buckets_;
  uint32_t version_ = 0;
};

}  // namespace portico
