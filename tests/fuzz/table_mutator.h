// SPDX-License-Identifier: Apache-2.0
// Mutations that know the table's layout: edits that hit a whole field, with values at the edge of what is
// allowed, and pairs that make a block longer or shorter in keeping with its directory entry.
#pragma once

#include <iterator>
#include <random>
#include <vector>

#include "tests/support/hostile_table.h"

namespace portico::test {

struct TableScript {
  uint8_t flags = 0;
  std::vector<TableEdit> edits;
};

inline TableScript read_table_script(std::span<const uint8_t> bytes) {
  TableScript script;
  if (bytes.empty()) return script;
  script.flags = bytes[0];
  for (bytes = bytes.subspan(1); !bytes.empty();) {
    const size_t size = std::min(sizeof(TableEdit), bytes.size());
    std::memcpy(&script.edits.emplace_back(), bytes.data(), size);
    bytes = bytes.subspan(size);
  }
  return script;
}

inline std::vector<uint8_t> write_table_script(const TableScript& script) {
  std::vector<uint8_t> bytes = {script.flags};
  const auto* const edits = reinterpret_cast<const uint8_t*>(script.edits.data());
  bytes.insert(bytes.end(), edits, edits + script.edits.size() * sizeof(TableEdit));
  return bytes;
}

class TableMutator {
 public:
  explicit TableMutator(unsigned seed) : random_(seed) {}

  void mutate(TableScript& script) {
    if (below(8) == 0) script.flags ^= static_cast<uint8_t>(1u << below(6));
    if (below(4) != 0) script.flags |= kSealed;
    std::vector<TableEdit>& edits = script.edits;
    switch (below(6)) {
      case 0:
        if (!edits.empty()) edits.erase(edits.begin() + static_cast<long>(below(edits.size())));
        break;
      case 1:
        if (!edits.empty()) change(edits[below(edits.size())]);
        break;
      case 2:
        resize_block(script);
        break;
      default:
        edits.push_back(aimed(script));
    }
    if (edits.size() > kMostEdits) edits.resize(kMostEdits);
  }

  TableScript cross(TableScript a, const TableScript& b) {
    a.edits.insert(a.edits.end(), b.edits.begin(), b.edits.end());
    std::ranges::shuffle(a.edits, random_);
    if (a.edits.size() > kMostEdits) a.edits.resize(kMostEdits);
    return a;
  }

 private:
  static constexpr size_t kMostEdits = 24;

  uint64_t below(uint64_t n) { return random_() % n; }
  static const TableEditor& base_of(const TableScript& script) {
    return hostile_bases()[(script.flags >> kBaseShift) % kBaseCount];
  }
  static void set_value(TableEdit& edit, uint64_t value) { std::memcpy(edit.value, &value, sizeof value); }

  void change(TableEdit& edit) {
    switch (below(3)) {
      case 0:
        edit.how ^= kAdd;
        break;
      case 1:
        edit.at = static_cast<uint16_t>(edit.at + below(17) - 8);
        break;
      default:
        set_value(edit, value());
    }
  }

  // Small, at a power of two, of all ones, just around what is there (with kAdd), or any.
  uint64_t value() {
    switch (below(4)) {
      case 0:
        return below(9) - 4;
      case 1:
        return (uint64_t{1} << below(64)) - below(2);
      case 2:
        return below(0x10000);
      default:
        return uint64_t{random_()} << 32 | random_();
    }
  }

  // At an offset that a field of that size can have.
  TableEdit aimed(const TableScript& script) {
    const Directory& d = base_of(script).directory();
    TableEdit edit{};
    edit.place = static_cast<uint8_t>(below(2 + d.block_count));
    const uint64_t size = uint64_t{1} << below(4);
    edit.how = static_cast<uint8_t>((size - 1) | below(2) * kAdd);
    const uint64_t length = extent_of(base_of(script), edit.place).length;
    edit.at = static_cast<uint16_t>(length < size ? 0 : below(length / size) * size);
    set_value(edit, value());
    return edit;
  }

  // Count and size of one block by the same number of records.
  void resize_block(TableScript& script) {
    const Directory& d = base_of(script).directory();
    const uint64_t i = below(d.block_count);
    const uint64_t records = below(5) - 2;  // -2 to 2
    const auto edit = [&](size_t field, uint8_t size, uint64_t by) {
      TableEdit e{1, static_cast<uint8_t>((size - 1) | kAdd), 0, {}};
      e.at = static_cast<uint16_t>(offsetof(Directory, blocks) + i * sizeof(BlockRef) + field);
      set_value(e, by);
      script.edits.push_back(e);
    };
    edit(offsetof(BlockRef, count), 4, records);
    edit(offsetof(BlockRef, size), 8, records * record_size(static_cast<BlockKind>(d.blocks[i].kind)));
    // What was the same version is not the same content: a block must not be taken for the one adopted.
    edit(offsetof(BlockRef, version), 8, below(2));
  }

  std::minstd_rand random_;
};

}  // namespace portico::test
