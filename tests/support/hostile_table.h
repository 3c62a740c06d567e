// SPDX-License-Identifier: Apache-2.0
// A table file mutated as the fuzzer says, seen by everybody who reads it. The same function runs under
// libFuzzer (tests/fuzz/table_fuzz.cc) and, with pseudo-random input, as an ordinary test.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "tests/support/table_editor.h"

namespace portico::test {

inline void require(bool holds) {
  if (!holds) std::abort();
}

// Follows every reference as the packet path does, without a check of its own: what was adopted must bear it.
inline void walk(const Snapshot& s) {
  const auto next_hops = s.next_hops->records<NextHopRecord>();
  const auto ports = s.ports->records<PortRecord>();
  bool pools[kMaxPools] = {}, services[kMaxServices] = {};
  for (const Snapshot::Pool& pool : s.pools) {
    pools[pool.pool().id] = true;
    bool members[kMaxBackends] = {};
    for (const BackendRecord& b : pool.backends->records<BackendRecord>()) {
      members[b.id] = true;
      if (!b.address_v4.is_none()) require(next_hops[b.next_hop_v4].port < ports.size());
      if (!b.address_v6.is_none()) require(next_hops[b.next_hop_v6].port < ports.size());
      for (unsigned i = 0; i < b.reset_count; ++i) require(b.reset_ports[i] != 0);
      require(std::strlen(b.name) < kNameSize);
    }
    if (!pool.lookup) continue;
    const auto slots = pool.lookup->records<uint16_t>();
    require(slots.size() == pool.pool().lookup_size);
    for (const uint16_t id : slots) require(members[id]);
  }
  for (const ServiceRecord& service : s.services->records<ServiceRecord>()) {
    services[service.id] = true;
    require(pools[service.pool]);
  }
  for (const ListenerRecord& listener : s.listeners->records<ListenerRecord>())
    require(services[listener.service] && listener.port != 0);
  for (const RouteRecord& route : s.routes->records<RouteRecord>())
    require(route.port < ports.size() && (route.on_link || route.next_hop < next_hops.size()));
}

// The input, read as a list of mutations: where (header, directory, or a block), at which offset, which 8
// bytes. The first byte's bits: 1 makes the checksums right again, 2 cuts the file, 4 makes it a later
// generation of a table that is already adopted.
inline int try_hostile_table(std::span<const uint8_t> input) {
  static const TempDir dir;
  static const TableEditor base = [] {
    TableEditor table = TableEditor::publish(sample_content());
    table.header().epoch = table.directory().epoch = 42;  // the same in each run
    return table.seal();
  }();
  const auto take = [&input](size_t size) {
    uint64_t value = 0;
    size = std::min(size, input.size());
    std::memcpy(&value, input.data(), size);
    input = input.subspan(size);
    return value;
  };
  const uint64_t flags = take(1);
  TableEditor table = base;
  Adopter adopter(dir.path());
  if (flags & 4) {
    table.save(dir.path());
    require(adopter.poll().kind == AdoptResult::Kind::adopted);
    table.directory().generation = 2;
    table.header().current = current_word(2, slot_in(table.header().current));
  }
  const TableEditor unspoilt = table;
  while (!input.empty()) {
    TableEditor where = unspoilt;
    const uint64_t place = take(1) % (2 + where.directory().block_count);
    const BlockRef* ref = place < 2 ? nullptr : &where.directory().blocks[place - 2];
    const uint64_t begin = place == 0   ? 0
                           : place == 1 ? directory_offset(slot_in(where.header().current))
                                        : ref->offset;
    const uint64_t length =
        place == 0   ? sizeof(TableHeader)
        : place == 1 ? offsetof(Directory, blocks) + where.directory().block_count * sizeof(BlockRef)
                     : ref->size;
    const uint64_t at = begin + (length ? take(2) % length : 0);
    const uint64_t size = 1 + take(1) % 8, value = take(size);
    if (at + size <= table.bytes().size()) std::memcpy(table.bytes().data() + at, &value, size);
  }
  if (flags & 1 && slot_in(table.header().current) < kDirectorySlots) table.seal();
  if (flags & 2) table.bytes().resize(table.header().file_size % (table.bytes().size() + 1));
  table.save(dir.path());
  const AdoptResult result = adopter.poll();
  require(result.kind != AdoptResult::Kind::refused || !result.text.empty());
  if (result.kind == AdoptResult::Kind::adopted) walk(*result.snapshot);
  require(adopter.poll().kind != AdoptResult::Kind::adopted);
  read_table_status(dir.path());
  Publisher(dir.path()).publish(sample_content());  // control takes it over, or starts over
  require(adopter.poll().kind == AdoptResult::Kind::adopted);
  return 0;
}

}  // namespace portico::test
