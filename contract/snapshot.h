// SPDX-License-Identifier: Apache-2.0
// One generation of the table in a process's own memory: what the publisher takes and what the adopter
// yields.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "contract/layout.h"

namespace portico {

// What control wants the dataplane to do, as plain vectors. Publisher::publish turns it into blocks; blocks
// whose bytes did not change are not written again.
struct TableContent {
  struct Pool {
    PoolRecord record{};                  // publish() fills in backend_count and usable_count
    std::vector<BackendRecord> backends;  // ascending id
    std::vector<uint16_t>
        lookup;  // record.lookup_size backend ids of this pool; empty if it has no usable one
    // checksum_of() the bytes of `lookup`, where it is known; 0: not. Slots are by far the most of a table:
    // with the checksum of the last generation they are neither compared nor summed again.
    uint64_t lookup_checksum = 0;
    // record.fallback_columns ids or kNone per slot of `lookup`, as BlockKind::fallback says; empty without.
    std::vector<uint16_t> fallback;
    uint64_t fallback_checksum = 0;  // the same of it
  };
  uint64_t config_version = 0;
  SettingsRecord settings{};
  std::vector<PortRecord> ports;
  std::vector<ServiceRecord> services;    // ascending id
  std::vector<ListenerRecord> listeners;  // ascending (address, port)
  std::vector<Pool> pools;                // ascending id
  std::vector<NextHopRecord> next_hops;
  std::vector<RouteRecord> routes;   // ascending (prefix, length)
  std::vector<AccessRecord> access;  // ascending (list, prefix, length)
  std::vector<NatRecord> nat;
  std::vector<VlanRecord> vlans;  // ascending (port, vlan)
  std::vector<OwnRecord> own;     // ascending
};

// An immutable block copied out of the table file. Shared between the snapshots whose generations name it.
struct Block {
  BlockRef ref;
  std::vector<std::byte> bytes;

  // The records. `T` is the kind's record type.
  template <typename T>
  std::span<const T> records() const {
    return {reinterpret_cast<const T*>(bytes.data()), ref.count};
  }
};

// A whole validated generation. The adopter's answer; safe to use without further checks: every index, id,
// count, prime and address in it has been validated.
class Snapshot {
 public:
  struct Pool {
    // lookup: null if the pool has no usable backend; fallback: if it has no such columns, either.
    std::shared_ptr<const Block> record, backends, lookup, fallback;
    const PoolRecord& pool() const { return record->records<PoolRecord>()[0]; }
  };
  uint64_t generation = 0;
  uint64_t epoch = 0;
  uint64_t config_version = 0;
  uint64_t published_monotonic_ns = 0;
  // Never null; a kind without records has an empty block.
  std::shared_ptr<const Block> settings, ports, services, listeners, next_hops, routes, access, nat, vlans,
      own;
  std::vector<Pool> pools;  // ascending id
};

// Where the blocks that every generation has stand, in the order of the directory. `s`: a Snapshot, const or
// not.
auto fixed_blocks(auto& s) {
  return std::array{&s.settings, &s.ports,  &s.services, &s.listeners, &s.next_hops,
                    &s.routes,   &s.access, &s.nat,      &s.vlans,     &s.own};
}

// Calls f(block) for all blocks in the order of the directory; a missing look-up or fallback is null.
template <typename F>
void for_each_block(const Snapshot& snapshot, F f) {
  for (const auto* block : fixed_blocks(snapshot)) f(*block);
  for (const Snapshot::Pool& pool : snapshot.pools) {
    f(pool.record);
    f(pool.backends);
    f(pool.lookup);
    f(pool.fallback);
  }
}

}  // namespace portico
