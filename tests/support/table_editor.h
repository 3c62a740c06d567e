// SPDX-License-Identifier: Apache-2.0
// A hand on the bytes of a table file, for tests that make it hostile: change any byte, then seal() makes the
// checksums right again, so that only the rule in question is broken.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>
#include <vector>

#include "contract/publisher.h"
#include "contract/table_file.h"
#include "tests/support/sample_table.h"

namespace portico::test {

class TableEditor {
 public:
  explicit TableEditor(std::vector<char> bytes) : bytes_(std::move(bytes)) {}

  // The file of a run directory.
  static TableEditor open(const std::filesystem::path& run_dir) {
    std::vector<char> bytes(std::filesystem::file_size(run_dir / kTableFile));
    std::ifstream(run_dir / kTableFile, std::ios::binary)
        .read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return TableEditor(std::move(bytes));
  }
  // What a publisher makes of a content.
  static TableEditor publish(const TableContent& content) {
    TempDir dir;
    Publisher(dir.path()).publish(content);
    return open(dir.path());
  }

  std::vector<char>& bytes() { return bytes_; }
  const std::vector<char>& bytes() const { return bytes_; }
  TableHeader& header() { return *reinterpret_cast<TableHeader*>(bytes_.data()); }
  const TableHeader& header() const { return *reinterpret_cast<const TableHeader*>(bytes_.data()); }
  Directory& directory() { return directory(slot_in(header().current)); }
  const Directory& directory() const {
    return *reinterpret_cast<const Directory*>(bytes_.data() + directory_offset(slot_in(header().current)));
  }
  Directory& directory(uint64_t slot) {
    return *reinterpret_cast<Directory*>(bytes_.data() + directory_offset(slot));
  }
  BlockRef& ref(BlockKind kind, uint16_t id = 0) {
    BlockRef* const end = directory().blocks + directory().block_count;
    BlockRef* const found = std::find_if(directory().blocks, end, [&](const BlockRef& r) {
      return r.kind == static_cast<uint16_t>(kind) && r.id == id;
    });
    if (found == end) throw std::logic_error("no such block");
    return *found;
  }
  template <typename Record>
  Record& record(BlockKind kind, size_t index, uint16_t id = 0) {
    return reinterpret_cast<Record*>(bytes_.data() + ref(kind, id).offset)[index];
  }

  // Makes block and directory checksums right, as far as they lie within the file.
  TableEditor& seal() {
    Directory& d = directory();
    const uint32_t count = std::min(d.block_count, kMaxBlocks);
    for (uint32_t i = 0; i < count; ++i) {
      BlockRef& r = d.blocks[i];
      if (r.offset <= bytes_.size() && r.size <= bytes_.size() - r.offset)
        r.checksum = checksum_of(bytes_.data() + r.offset, r.size);
    }
    if (d.block_count <= kMaxBlocks) d.checksum = checksum_of(d);
    return *this;
  }

  // Gives a directory that was published another epoch.
  void set_epoch(uint64_t slot, uint64_t epoch) {
    Directory& d = directory(slot);
    if (d.generation == 0) return;
    d.epoch = epoch;
    d.checksum = checksum_of(d);
  }

  // Cuts off what no block of the current generation uses: files grow by a MiB at a time.
  void trim() {
    uint64_t end = kBlocksStart;
    for (uint32_t i = 0; i < directory().block_count; ++i)
      end = std::max(end, directory().blocks[i].offset + directory().blocks[i].size);
    bytes_.resize(end);
    header().file_size = end;
  }

  // Puts the bytes in place as a new file, as a publisher that starts over would.
  void save(const std::filesystem::path& run_dir) const {
    const std::filesystem::path temporary = run_dir / "edited";
    std::ofstream(temporary, std::ios::binary)
        .write(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    std::filesystem::rename(temporary, run_dir / kTableFile);
  }

 private:
  std::vector<char> bytes_;
};

}  // namespace portico::test
