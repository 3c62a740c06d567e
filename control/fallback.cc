// SPDX-License-Identifier: Apache-2.0
#include "control/fallback.h"

#include <algorithm>
#include <array>

#include "contract/limits.h"

namespace portico {
namespace {

// Of each slot the backend that it would have without its own.
std::vector<uint16_t> owners_without_the_first(const std::vector<uint16_t>& lookup, const BackendSet& current,
                                               const HashKey& key) {
  std::vector<uint16_t> owners(lookup.size(), kNone);
  for (const MaglevBackend& absent : current) {
    BackendSet others;
    std::ranges::copy_if(current, std::back_inserter(others),
                         [&](const MaglevBackend& b) { return b.id != absent.id; });
    const auto table = build_lookup(others, static_cast<uint32_t>(lookup.size()), key);
    if (table.empty()) continue;
    for (size_t slot = 0; slot < lookup.size(); ++slot)
      if (lookup[slot] == absent.id) owners[slot] = table[slot];
  }
  return owners;
}

}  // namespace

Fallback build_fallback(const std::vector<uint16_t>& lookup, const BackendSet& current,
                        const std::vector<BackendSet>& earlier, const HashKey& key) {
  if (lookup.empty()) return {};
  std::vector<std::vector<uint16_t>> tables;
  for (const BackendSet& set : earlier)
    if (auto table = build_lookup(set, static_cast<uint32_t>(lookup.size()), key); !table.empty())
      tables.push_back(std::move(table));
  if (current.size() <= kMostWithout) tables.push_back(owners_without_the_first(lookup, current, key));
  using Row = std::array<uint16_t, kMaxFallbackColumns>;
  std::vector<Row> rows(lookup.size());
  Fallback fallback;
  for (size_t slot = 0; slot < lookup.size(); ++slot) {
    Row& row = rows[slot];
    row.fill(kNone);
    uint32_t count = 0;
    for (const auto& table : tables) {
      const uint16_t id = table[slot];
      const auto end = row.begin() + count;
      if (id == kNone || id == lookup[slot] || count == row.size() || std::find(row.begin(), end, id) != end)
        continue;
      row[count++] = id;
    }
    fallback.columns = std::max(fallback.columns, count);
  }
  for (const Row& row : rows)
    fallback.slots.insert(fallback.slots.end(), row.begin(), row.begin() + fallback.columns);
  return fallback;
}

}  // namespace portico
