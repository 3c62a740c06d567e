// SPDX-License-Identifier: Apache-2.0
// A table file mutated as a script says, seen by everybody who reads it. The same function runs under
// libFuzzer (tests/fuzz/table_fuzz.cc) and, with pseudo-random input, as an ordinary test.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <span>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "contract/reply_endpoints.h"
#include "tests/support/table_editor.h"

namespace portico::test {

inline void require(bool holds) {
  if (!holds) std::abort();
}

// Follows every reference as the packet path does, without a check of its own: what was adopted must bear it.
inline void walk(const Snapshot& s) {
  const auto next_hops = s.next_hops->records<NextHopRecord>();
  const auto ports = s.ports->records<PortRecord>();
  const SettingsRecord& settings = s.settings->records<SettingsRecord>()[0];
  require(settings.tunnel_length_v4 <= 32 && settings.tunnel_length_v6 <= 128);
  require(settings.tunnel_source_v4.is_none() || settings.tunnel_source_v4.is_v4());
  require(!settings.tunnel_source_v6.is_v4());
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
    if (!pool.fallback) continue;
    const auto fallback = pool.fallback->records<uint16_t>();
    require(fallback.size() == slots.size() * pool.pool().fallback_columns);
    for (const uint16_t id : fallback) require(id == kNone || members[id]);
  }
  for (const ServiceRecord& service : s.services->records<ServiceRecord>()) {
    services[service.id] = true;
    require(pools[service.pool]);
    require(service.proxy_protocol == 0 ||
            (service.proxy_protocol == 1 && service.mode == static_cast<uint8_t>(Mode::nat)));
  }
  for (const ListenerRecord& listener : s.listeners->records<ListenerRecord>())
    require(services[listener.service] && listener.port != 0);
  for (const RouteRecord& route : s.routes->records<RouteRecord>())
    require(route.port < ports.size() && (route.on_link || route.next_hop < next_hops.size()));
  for (const OwnRecord& own : s.own->records<OwnRecord>()) require(!own.address.is_none());
  require(reply_endpoints(s).size() <= kMaxReplyEndpoints);
  for (const VlanRecord& v : s.vlans->records<VlanRecord>())
    require(v.port < ports.size() && v.vlan != 0 && v.vlan <= kMaxVlan);
}

// A script: one byte of flags, then edits of 12 bytes each. The flags' two bits above choose the table.
inline constexpr uint8_t kSealed = 1,  // checksums are made right again
    kCut = 2,                          // the file is cut to its header's file_size
    kLaterGeneration = 4,              // of a table that is already adopted
    kBaseShift = 4, kBaseCount = 3;

struct TableEdit {
  uint8_t place;  // 0: header, 1: directory, 2 + i: block i; modulo their number
  uint8_t how;    // low 3 bits: size - 1; kAdd: the value is added to what stands there
  uint16_t at;    // byte of the place, modulo its length
  uint8_t value[8];
};
static_assert(sizeof(TableEdit) == 12);
inline constexpr uint8_t kAdd = 8;

// What publishers made: the sample table, one of IPv6 alone with several pools, and one that has a history.
inline const std::array<TableEditor, kBaseCount>& hostile_bases() {
  static const auto bases = [] {
    TempDir dir;
    Publisher publisher(dir.path());
    TableContent with_history = sample_content();
    for (int i = 0; i < 5; ++i) {
      with_history.settings.reset_rate = 1000u + static_cast<uint32_t>(i);
      with_history.pools[1].record.disposition = static_cast<uint8_t>(PoolDisposition::drop);
      publisher.publish(with_history);
    }
    TableContent many = big_content(5, 251, 10);
    for (auto& pool : many.pools)
      for (BackendRecord& b : pool.backends)
        b.address_v4 = {}, b.next_hop_v4 = kNone, b.address_v6 = address("2001:db8::30"), b.next_hop_v6 = 1;
    std::array<TableEditor, kBaseCount> made = {TableEditor::publish(sample_content()),
                                                TableEditor::publish(many), TableEditor::open(dir.path())};
    for (TableEditor& table : made) {
      table.header().epoch = 42;  // the same in each run
      for (uint64_t slot = 0; slot < kDirectorySlots; ++slot) table.set_epoch(slot, 42);
      table.trim();
    }
    return made;
  }();
  return bases;
}

// First byte and length of a place.
struct Extent {
  uint64_t begin, length;
};
inline Extent extent_of(const TableEditor& table, uint8_t place) {
  const Directory& d = table.directory();
  const uint64_t chosen = place % (2 + d.block_count);
  if (chosen == 0) return {0, sizeof(TableHeader)};
  if (chosen == 1)
    return {directory_offset(slot_in(table.header().current)),
            offsetof(Directory, blocks) + d.block_count * sizeof(BlockRef)};
  return {d.blocks[chosen - 2].offset, d.blocks[chosen - 2].size};
}

// `where` is the table as it was: edits of the directory do not move the later ones.
inline void apply(const TableEdit& edit, const TableEditor& where, TableEditor& table) {
  const Extent extent = extent_of(where, edit.place);
  const uint64_t at = extent.begin + (extent.length ? edit.at % extent.length : 0);
  const size_t size = 1 + edit.how % 8u;
  if (at + size > table.bytes().size()) return;
  uint64_t value = 0, before = 0;
  std::memcpy(&value, edit.value, size);
  if (edit.how & kAdd) std::memcpy(&before, table.bytes().data() + at, size);
  value += before;
  std::memcpy(table.bytes().data() + at, &value, size);
}

// Called with what was adopted, and with what had been before (may be null), by whoever wants to use it.
using UseSnapshot = std::function<void(const std::shared_ptr<const Snapshot>& adopted,
                                       const std::shared_ptr<const Snapshot>& before)>;

inline int try_hostile_table(std::span<const uint8_t> input, const UseSnapshot& use = {}) {
  static const TempDir dir;
  const uint8_t flags = input.empty() ? 0 : input[0];
  if (!input.empty()) input = input.subspan(1);
  TableEditor table = hostile_bases()[(flags >> kBaseShift) % kBaseCount];
  Adopter adopter(dir.path());
  std::shared_ptr<const Snapshot> before;
  if (flags & kLaterGeneration) {
    table.save(dir.path());
    const AdoptResult first = adopter.poll();
    require(first.kind == AdoptResult::Kind::adopted);
    before = first.snapshot;
    ++table.directory().generation;
    table.header().current = current_word(table.directory().generation, slot_in(table.header().current));
  }
  const TableEditor unspoilt = table;
  while (!input.empty()) {
    TableEdit edit{};
    const size_t size = std::min(sizeof edit, input.size());
    std::memcpy(&edit, input.data(), size);
    input = input.subspan(size);
    apply(edit, unspoilt, table);
  }
  if (flags & kSealed && slot_in(table.header().current) < kDirectorySlots) table.seal();
  if (flags & kCut) table.bytes().resize(table.header().file_size % (table.bytes().size() + 1));
  table.save(dir.path());
  const AdoptResult result = adopter.poll();
  require(result.kind != AdoptResult::Kind::refused || !result.text.empty());
  if (result.kind == AdoptResult::Kind::adopted) {
    walk(*result.snapshot);
    if (use) use(result.snapshot, before);
  }
  require(adopter.poll().kind != AdoptResult::Kind::adopted);
  read_table_status(dir.path());
  Publisher(dir.path()).publish(sample_content());  // control takes it over, or starts over
  require(adopter.poll().kind == AdoptResult::Kind::adopted);
  return 0;
}

}  // namespace portico::test
