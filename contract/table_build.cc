// SPDX-License-Identifier: Apache-2.0
#include "contract/table_build.h"

#include <bitset>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>

#include "contract/table_file.h"

namespace portico {

namespace {

class Builder {
 public:
  template <typename Record>
  void add(BlockKind kind, uint16_t id, std::span<const Record> records,
           const std::shared_ptr<const Block>& before) {
    const std::span<const std::byte> bytes = std::as_bytes(records);
    if (before && before->bytes.size() == bytes.size() && before->ref.id == id &&
        (bytes.empty() || std::memcmp(before->bytes.data(), bytes.data(), bytes.size()) == 0)) {
      built_.all.push_back(before);
      return;
    }
    auto block = std::make_shared<Block>();
    block->bytes.assign(bytes.begin(), bytes.end());
    block->ref.kind = static_cast<uint16_t>(kind);
    block->ref.id = id;
    block->ref.count = static_cast<uint32_t>(records.size());
    block->ref.size = bytes.size();
    block->ref.checksum = checksum_of(bytes.data(), bytes.size());
    built_.fresh.push_back({built_.all.size(), block});
    built_.all.push_back(std::move(block));
  }

  void keep(const std::shared_ptr<const Block>& before) { built_.all.push_back(before); }

  BuiltBlocks take() { return std::move(built_); }

 private:
  BuiltBlocks built_;
};

uint32_t distinct(const std::vector<uint16_t>& lookup) {
  std::bitset<65536> seen;
  for (const uint16_t id : lookup) seen[id] = true;
  return static_cast<uint32_t>(seen.count());
}

void add_pool(Builder& builder, const TableContent::Pool& pool, const Snapshot::Pool* before) {
  static const Snapshot::Pool kNothing;
  const Snapshot::Pool& old = before ? *before : kNothing;
  const bool same_lookup = old.lookup && pool.lookup_checksum != 0 && old.lookup->ref.id == pool.record.id &&
                           old.lookup->ref.checksum == pool.lookup_checksum &&
                           old.lookup->ref.count == pool.lookup.size();
  PoolRecord record = pool.record;
  record.backend_count = static_cast<uint32_t>(pool.backends.size());
  record.usable_count = same_lookup ? old.pool().usable_count : distinct(pool.lookup);
  builder.add<PoolRecord>(BlockKind::pool, record.id, {&record, 1}, old.record);
  builder.add<BackendRecord>(BlockKind::backends, record.id, pool.backends, old.backends);
  if (same_lookup)
    builder.keep(old.lookup);
  else if (!pool.lookup.empty())
    builder.add<uint16_t>(BlockKind::lookup, record.id, pool.lookup, old.lookup);
  const bool same_fallback =
      old.fallback && pool.fallback_checksum != 0 && old.fallback->ref.id == pool.record.id &&
      old.fallback->ref.checksum == pool.fallback_checksum && old.fallback->ref.count == pool.fallback.size();
  if (same_fallback)
    builder.keep(old.fallback);
  else if (!pool.fallback.empty())
    builder.add<uint16_t>(BlockKind::fallback, record.id, pool.fallback, old.fallback);
}

}  // namespace

BuiltBlocks build_blocks(const TableContent& content, const Snapshot* before) {
  if (content.pools.size() > kMaxPools)
    throw std::invalid_argument("pools: more than " + std::to_string(kMaxPools));
  static const Snapshot kNothing;
  const Snapshot& old = before ? *before : kNothing;
  Builder builder;
  builder.add<SettingsRecord>(BlockKind::settings, 0, {&content.settings, 1}, old.settings);
  builder.add<PortRecord>(BlockKind::ports, 0, content.ports, old.ports);
  builder.add<ServiceRecord>(BlockKind::services, 0, content.services, old.services);
  builder.add<ListenerRecord>(BlockKind::listeners, 0, content.listeners, old.listeners);
  builder.add<NextHopRecord>(BlockKind::next_hops, 0, content.next_hops, old.next_hops);
  builder.add<RouteRecord>(BlockKind::routes, 0, content.routes, old.routes);
  builder.add<AccessRecord>(BlockKind::access, 0, content.access, old.access);
  builder.add<NatRecord>(BlockKind::nat, 0, content.nat, old.nat);
  builder.add<VlanRecord>(BlockKind::vlans, 0, content.vlans, old.vlans);
  builder.add<OwnRecord>(BlockKind::own, 0, content.own, old.own);
  const Snapshot::Pool* by_id[kMaxPools] = {};
  for (const Snapshot::Pool& pool : old.pools) by_id[pool.pool().id] = &pool;
  for (const TableContent::Pool& pool : content.pools) {
    const uint16_t id = pool.record.id;
    add_pool(builder, pool, id < kMaxPools ? by_id[id] : nullptr);
  }
  return builder.take();
}

BuiltBlocks copy_blocks(const Snapshot& snapshot) {
  BuiltBlocks built;
  for_each_block(snapshot, [&built](const std::shared_ptr<const Block>& from) {
    if (!from) return;
    auto block = std::make_shared<Block>(*from);
    block->ref.offset = block->ref.version = 0;
    built.fresh.push_back({built.all.size(), block});
    built.all.push_back(std::move(block));
  });
  return built;
}

}  // namespace portico
