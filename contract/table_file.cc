// SPDX-License-Identifier: Apache-2.0
#include "contract/table_file.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "contract/layout_hash.h"
#include "contract/run_dir.h"

namespace portico {

namespace {

std::string describe(const BlockRef& ref) {
  const auto kind = static_cast<BlockKind>(ref.kind);
  std::string text = std::string("block ") + to_string(kind);
  if (kind == BlockKind::pool || kind == BlockKind::backends || kind == BlockKind::lookup ||
      kind == BlockKind::fallback)
    text += " of pool " + std::to_string(ref.id);
  return text;
}

MaybeFault bad_directory(const std::string& text) {
  return TableFault{RefusalReason::bad_directory, "directory: " + text};
}

// Size and place; the kind is known.
MaybeFault check_place(const BlockRef& ref, uint64_t file_bytes) {
  const auto fault = [&ref](const std::string& text) {
    return TableFault{RefusalReason::bad_reference, describe(ref) + ": " + text};
  };
  const auto kind = static_cast<BlockKind>(ref.kind);
  if (ref.count > max_records(kind))
    return fault("count: " + std::to_string(ref.count) + " is above " + std::to_string(max_records(kind)));
  if (ref.size != uint64_t{ref.count} * record_size(kind))
    return fault("size: " + std::to_string(ref.size) + " is not count * record size");
  if (ref.offset % kBlockAlignment != 0) return fault("offset: not a multiple of 64");
  if (ref.offset < kBlocksStart) return fault("offset: inside the header");
  if (ref.offset > file_bytes || ref.size > file_bytes - ref.offset) return fault("offset: outside the file");
  if (ref.version == 0) return fault("version: 0");
  return std::nullopt;
}

// Kinds, ids and counts in the one order that there is.
MaybeFault check_order(const Directory& directory) {
  for (uint32_t i = 0; i < kFixedBlocks; ++i)
    if (directory.blocks[i].kind != static_cast<uint16_t>(kFixedKinds[i]) || directory.blocks[i].id != 0)
      return bad_directory("block " + std::to_string(i) + " is not " + to_string(kFixedKinds[i]));
  if (directory.blocks[0].count != 1) return bad_directory("settings: not exactly one record");
  int last_id = -1;
  uint32_t i = kFixedBlocks;
  const auto is = [&](BlockKind kind, uint16_t id) {
    return i < directory.block_count && directory.blocks[i].kind == static_cast<uint16_t>(kind) &&
           directory.blocks[i].id == id;
  };
  while (i < directory.block_count) {
    const uint16_t id = directory.blocks[i].id;
    if (id <= last_id || id >= kMaxPools || !is(BlockKind::pool, id) || directory.blocks[i].count != 1)
      return bad_directory("block " + std::to_string(i) + " is not the one record of a next pool");
    ++i;
    if (!is(BlockKind::backends, id))
      return bad_directory("block " + std::to_string(i) + " is not the backends of pool " +
                           std::to_string(id));
    ++i;
    if (is(BlockKind::lookup, id)) {
      ++i;
      if (is(BlockKind::fallback, id)) ++i;
    }
    last_id = id;
  }
  return std::nullopt;
}

MaybeFault check_totals(const Directory& directory) {
  uint64_t backends = 0, slots = 0;
  for (uint32_t i = 0; i < directory.block_count; ++i) {
    const BlockRef& ref = directory.blocks[i];
    if (ref.kind == static_cast<uint16_t>(BlockKind::backends)) backends += ref.count;
    if (ref.kind == static_cast<uint16_t>(BlockKind::lookup)) slots += ref.count;
  }
  if (backends > kMaxBackends)
    return bad_directory(std::to_string(backends) + " backends in all are too many");
  if (slots > kMaxLookupSlots)
    return bad_directory(std::to_string(slots) + " lookup slots in all are too many");
  return std::nullopt;
}

}  // namespace

const char* to_string(BlockKind kind) {
  switch (kind) {
    case BlockKind::settings:
      return "settings";
    case BlockKind::ports:
      return "ports";
    case BlockKind::services:
      return "services";
    case BlockKind::listeners:
      return "listeners";
    case BlockKind::pool:
      return "pool";
    case BlockKind::backends:
      return "backends";
    case BlockKind::next_hops:
      return "next_hops";
    case BlockKind::routes:
      return "routes";
    case BlockKind::access:
      return "access";
    case BlockKind::nat:
      return "nat";
    case BlockKind::lookup:
      return "lookup";
    case BlockKind::vlans:
      return "vlans";
    case BlockKind::fallback:
      return "fallback";
    case BlockKind::own:
      return "own";
  }
  return "unknown";
}

uint32_t max_records(BlockKind kind) {
  switch (kind) {
    case BlockKind::settings:
    case BlockKind::pool:
      return 1;
    case BlockKind::ports:
      return kMaxPorts;
    case BlockKind::services:
      return kMaxServices;
    case BlockKind::listeners:
      return kMaxListeners;
    case BlockKind::backends:
      return kMaxBackends;
    case BlockKind::next_hops:
      return kMaxNextHops;
    case BlockKind::routes:
      return kMaxRoutes;
    case BlockKind::access:
      return kMaxAccessPrefixes;
    case BlockKind::nat:
      return kMaxNatAddresses;
    case BlockKind::lookup:
      return kMaxLookupSize;
    case BlockKind::vlans:
      return kMaxPorts * kMaxVlan;
    case BlockKind::fallback:
      return kMaxLookupSize * kMaxFallbackColumns;
    case BlockKind::own:
      return kMaxOwnAddresses;
  }
  return 0;
}

uint64_t checksum_of(const void* bytes, size_t size) {
  return XXH3_64bits(bytes, size);
}

uint64_t checksum_of(const Directory& directory) {
  const size_t used = offsetof(Directory, blocks) + directory.block_count * sizeof(BlockRef);
  const size_t skipped = offsetof(Directory, generation);
  return checksum_of(reinterpret_cast<const char*>(&directory) + skipped, used - skipped);
}

MaybeFault check_header(const TableHeader& header, uint64_t file_bytes) {
  const auto fault = [](RefusalReason reason, const std::string& text) {
    return TableFault{reason, "header: " + text};
  };
  if (header.magic != kTableMagic) return fault(RefusalReason::bad_magic, "magic: not a Portico table");
  if (header.abi_version != kAbiVersion)
    return fault(RefusalReason::other_abi,
                 "abi_version: the table has " + std::to_string(header.abi_version) + ", this program " +
                     std::to_string(kAbiVersion) + "; install the same version of all Portico programs");
  if (header.layout_hash != kLayoutHash)
    return fault(
        RefusalReason::other_layout,
        "layout_hash: another build wrote the table; install the same build of all Portico programs");
  if (header.header_size != sizeof(TableHeader))
    return fault(RefusalReason::other_layout, "header_size: not this build's");
  if (header.epoch == 0) return fault(RefusalReason::bad_directory, "epoch: 0");
  if (header.file_size < kBlocksStart)
    return fault(RefusalReason::truncated,
                 "file_size: " + std::to_string(header.file_size) + " is too small");
  if (header.file_size > file_bytes)
    return fault(RefusalReason::truncated, "file_size: says " + std::to_string(header.file_size) +
                                               ", but the file has " + std::to_string(file_bytes) + " bytes");
  return std::nullopt;
}

MaybeFault read_directory(int fd, const TableHeader& header, uint64_t file_bytes, Directory& directory) {
  const uint64_t slot = slot_in(header.current);
  if (slot >= kDirectorySlots) return bad_directory("slot " + std::to_string(slot) + " does not exist");
  if (read_at(fd, &directory, sizeof directory, directory_offset(slot)) != sizeof directory)
    return TableFault{RefusalReason::truncated, "directory: cut off"};
  if (directory.block_count < kFixedBlocks || directory.block_count > kMaxBlocks)
    return bad_directory("block_count: " + std::to_string(directory.block_count) + " is out of range");
  if (directory.checksum != checksum_of(directory))
    return TableFault{RefusalReason::bad_checksum, "directory: wrong checksum"};
  if (directory.generation == 0) return bad_directory("generation: 0");  // everywhere else it means none
  if (directory.generation != generation_in(header.current))
    return bad_directory("generation: " + std::to_string(directory.generation) + " is not the current one, " +
                         std::to_string(generation_in(header.current)));
  if (directory.epoch != header.epoch) return bad_directory("epoch: not the header's");
  if (auto fault = check_order(directory)) return fault;
  for (uint32_t i = 0; i < directory.block_count; ++i)
    if (auto fault = check_place(directory.blocks[i], file_bytes)) return fault;
  return check_totals(directory);
}

BlockCache cache_of(const Snapshot& snapshot) {
  BlockCache cache;
  for_each_block(snapshot, [&cache](const std::shared_ptr<const Block>& block) {
    if (block) cache.emplace(block->ref.version, block);
  });
  return cache;
}

namespace {

// True if the copy is of that block, wherever it stands in the file.
bool is_copy_of(const Block& block, const BlockRef& ref) {
  return block.ref.kind == ref.kind && block.ref.id == ref.id && block.ref.count == ref.count &&
         block.ref.size == ref.size && block.ref.version == ref.version && block.ref.checksum == ref.checksum;
}

}  // namespace

MaybeFault read_snapshot(int fd, const Directory& directory, BlockCache& cache, Snapshot& snapshot,
                         uint32_t& blocks_copied, uint64_t& bytes_copied) {
  std::vector<std::shared_ptr<const Block>> blocks(directory.block_count);
  for (uint32_t i = 0; i < directory.block_count; ++i) {
    const BlockRef& ref = directory.blocks[i];
    const auto known = cache.find(ref.version);
    if (known != cache.end() && is_copy_of(*known->second, ref)) {
      blocks[i] = known->second;
      continue;
    }
    auto block = std::make_shared<Block>(Block{ref, std::vector<std::byte>(ref.size)});
    if (read_at(fd, block->bytes.data(), ref.size, ref.offset) != ref.size)
      return TableFault{RefusalReason::truncated, describe(ref) + ": cut off"};
    if (checksum_of(block->bytes.data(), ref.size) != ref.checksum)
      return TableFault{RefusalReason::bad_checksum, describe(ref) + ": wrong checksum"};
    ++blocks_copied;
    bytes_copied += ref.size;
    cache[ref.version] = block;
    blocks[i] = std::move(block);
  }
  snapshot = assemble(directory, blocks);
  return std::nullopt;
}

Snapshot assemble(const Directory& directory, const std::vector<std::shared_ptr<const Block>>& blocks) {
  Snapshot snapshot;
  snapshot.generation = directory.generation;
  snapshot.epoch = directory.epoch;
  snapshot.config_version = directory.config_version;
  snapshot.published_monotonic_ns = directory.published_monotonic_ns;
  const auto fixed = fixed_blocks(snapshot);
  static_assert(fixed.size() == kFixedBlocks);
  for (uint32_t i = 0; i < kFixedBlocks; ++i) *fixed[i] = blocks[i];
  for (size_t i = kFixedBlocks; i < blocks.size(); ++i) {
    const auto kind = static_cast<BlockKind>(blocks[i]->ref.kind);
    if (kind == BlockKind::pool) {
      snapshot.pools.emplace_back().record = blocks[i];
    } else {
      Snapshot::Pool& pool = snapshot.pools.back();
      (kind == BlockKind::backends ? pool.backends
       : kind == BlockKind::lookup ? pool.lookup
                                   : pool.fallback) = blocks[i];
    }
  }
  return snapshot;
}

}  // namespace portico
