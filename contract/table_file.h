// SPDX-License-Identifier: Apache-2.0
// Reading the table file without trusting it: what the adopter and a restarted publisher have in common.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "contract/feedback.h"
#include "contract/layout.h"
#include "contract/snapshot.h"

namespace portico {

// Where the blocks begin: behind the header and the directory slots.
inline constexpr uint64_t kBlockAlignment = 64;
constexpr uint64_t align_block(uint64_t bytes) {
  return (bytes + kBlockAlignment - 1) / kBlockAlignment * kBlockAlignment;
}
constexpr uint64_t directory_offset(uint64_t slot) {
  return sizeof(TableHeader) + slot * sizeof(Directory);
}
inline constexpr uint64_t kBlocksStart = align_block(directory_offset(kDirectorySlots));

// TableHeader::current, taken apart and put together.
constexpr uint64_t slot_in(uint64_t current) {
  return current & 0xff;
}
constexpr uint64_t generation_in(uint64_t current) {
  return current >> 8;
}
constexpr uint64_t current_word(uint64_t generation, uint64_t slot) {
  return generation << 8 | slot;
}
static_assert(kDirectorySlots <= 256);

// The blocks that every directory has, in this order; then, by ascending pool id: pool, backends, and,
// unless the pool has no usable backend, lookup, which fallback may follow.
inline constexpr BlockKind kFixedKinds[kFixedBlocks] = {
    BlockKind::settings, BlockKind::ports,  BlockKind::services, BlockKind::listeners, BlockKind::next_hops,
    BlockKind::routes,   BlockKind::access, BlockKind::nat,      BlockKind::vlans,     BlockKind::own};

const char* to_string(BlockKind kind);

// The most records that one block of a kind may have.
uint32_t max_records(BlockKind kind);

// XXH3-64.
uint64_t checksum_of(const void* bytes, size_t size);
// Directory::checksum as it should be. Only for block_count <= kMaxBlocks.
uint64_t checksum_of(const Directory& directory);

struct TableFault {
  RefusalReason reason;
  std::string text;
};
using MaybeFault = std::optional<TableFault>;

// Magic, ABI version, layout hash and sizes; `file_bytes` is the file's real size.
MaybeFault check_header(const TableHeader& header, uint64_t file_bytes);

// Reads and checks the directory that header.current names: checksum, generation, epoch, and every block's
// kind, order, count, size and place, so that nothing is allocated or read for a bad one.
MaybeFault read_directory(int fd, const TableHeader& header, uint64_t file_bytes, Directory& directory);

// Blocks that a reader has copied, by version. Within one epoch the same version is the same bytes.
using BlockCache = std::unordered_map<uint64_t, std::shared_ptr<const Block>>;
BlockCache cache_of(const Snapshot& snapshot);

// Copies the directory's blocks that `cache` lacks, checks their checksums and adds them to `cache`; then
// builds the snapshot, which is whole but not validated. `blocks_copied` and `bytes_copied` grow by what was
// read.
MaybeFault read_snapshot(int fd, const Directory& directory, BlockCache& cache, Snapshot& snapshot,
                         uint32_t& blocks_copied, uint64_t& bytes_copied);

// Hands the blocks of a directory, in its order, to their places in a snapshot.
Snapshot assemble(const Directory& directory, const std::vector<std::shared_ptr<const Block>>& blocks);

}  // namespace portico
