// SPDX-License-Identifier: Apache-2.0
// From a table's content as control has it to the blocks that stand in the file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "contract/layout.h"
#include "contract/snapshot.h"

namespace portico {

// The blocks of a content in the directory's order. One whose bytes are those of `before` is `before`'s own
// block; a new one has checksum and size, but offset and version 0: it has no place yet.
struct BuiltBlocks {
  std::vector<std::shared_ptr<const Block>> all;
  struct New {
    size_t index;  // in `all`
    std::shared_ptr<Block> block;
  };
  std::vector<New> fresh;
};

// Fills in PoolRecord::backend_count and usable_count. Throws std::invalid_argument if there are more pools
// than a directory can name; everything else is for validate() to find. `before` may be null.
BuiltBlocks build_blocks(const TableContent& content, const Snapshot* before);

// Copies of all blocks of a generation, as new ones, for another file.
BuiltBlocks copy_blocks(const Snapshot& snapshot);

}  // namespace portico
