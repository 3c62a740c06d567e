// SPDX-License-Identifier: Apache-2.0
// A second chance finds the backend that a flow began with, whatever has become of the set since.
#include "control/fallback.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "contract/limits.h"

namespace portico {
namespace {

constexpr HashKey kKey{{0x0011223344556677, 0x8899aabbccddeeff}};
constexpr uint32_t kSize = 4099;
constexpr std::string_view kNames[] = {"portal-1", "portal-2", "portal-3",
                                       "portal-4", "portal-5", "portal-6"};

BackendSet set_of(std::initializer_list<int> numbers, uint32_t weight = 100) {
  BackendSet set;
  for (const int n : numbers) set.push_back({kNames[n - 1], static_cast<uint16_t>(n), weight});
  return set;
}
std::vector<uint16_t> table_of(const BackendSet& set) {
  return build_lookup(set, kSize, kKey);
}

// Of the slots of `before`, how many of the table of `now` reach that backend by its own column or a
// fallback.
double found(const std::vector<uint16_t>& before, const BackendSet& now,
             const std::vector<BackendSet>& earlier) {
  const auto lookup = table_of(now);
  const Fallback fallback = build_fallback(lookup, now, earlier, kKey);
  EXPECT_EQ(fallback.slots.size(), lookup.size() * fallback.columns);
  uint32_t count = 0;
  for (size_t slot = 0; slot < lookup.size(); ++slot) {
    const auto row = fallback.slots.begin() + static_cast<long>(slot * fallback.columns);
    count += lookup[slot] == before[slot] ||
             std::find(row, row + fallback.columns, before[slot]) != row + fallback.columns;
  }
  return static_cast<double>(count) / static_cast<double>(lookup.size());
}

TEST(Fallback, FindsEveryFlowOfAnEarlierSet) {
  const BackendSet before = set_of({1, 2, 3, 4}), now = set_of({3, 4, 5, 6});
  EXPECT_LT(found(table_of(before), now, {}), 0.9) << "not without being told of it";
  EXPECT_EQ(found(table_of(before), now, {before}), 1.0);
  const BackendSet between = set_of({1, 2, 3, 4, 5});
  EXPECT_EQ(found(table_of(before), now, {between, before}), 1.0);
  EXPECT_EQ(found(table_of(between), now, {between, before}), 1.0);
}

TEST(Fallback, FindsTheFlowsOfWhileABackendWasAbsent) {
  const BackendSet all = set_of({1, 2, 3, 4});
  for (const int absent : {1, 2, 3, 4}) {
    BackendSet without = all;
    std::erase_if(without, [&](const MaglevBackend& b) { return b.id == absent; });
    const auto during = table_of(without), now = table_of(all);
    // Of the absent one's slots all; a few others were moved by its absence, which the set of all knows.
    EXPECT_GT(found(during, all, {all}), 0.97) << absent;
    const Fallback fallback = build_fallback(now, all, {all}, kKey);
    for (size_t slot = 0; slot < now.size(); ++slot)
      if (now[slot] == absent) {
        EXPECT_EQ(fallback.slots[slot * fallback.columns], during[slot]);
      }
    EXPECT_EQ(found(now, without, {all}), 1.0) << "and of before it went";
  }
}

TEST(Fallback, KeepsItsColumnWhileAWeightGrows) {
  BackendSet small = set_of({1, 2, 3}), large = set_of({1, 2, 3});
  small.push_back({kNames[3], 4, 10}), large.push_back({kNames[3], 4, 60});
  EXPECT_GT(found(table_of(small), large, {set_of({1, 2, 3, 4})}), 0.95);
}

TEST(Fallback, NamesNobodyTwice) {
  const BackendSet now = set_of({1, 2, 3, 4, 5, 6});
  const auto lookup = table_of(now);
  const Fallback fallback = build_fallback(lookup, now, {now, set_of({1, 2}), set_of({1, 2, 3})}, kKey);
  ASSERT_EQ(fallback.columns, kMaxFallbackColumns);
  for (size_t slot = 0; slot < lookup.size(); ++slot) {
    std::vector<uint16_t> row{lookup[slot]};
    for (uint32_t i = 0; i < fallback.columns; ++i)
      if (const uint16_t id = fallback.slots[slot * fallback.columns + i]; id != kNone) row.push_back(id);
    std::sort(row.begin(), row.end());
    EXPECT_EQ(std::adjacent_find(row.begin(), row.end()), row.end());
  }
}

TEST(Fallback, DependsOnNothingButItsInput) {
  BackendSet now = set_of({1, 2, 3, 4}), turned(now.rbegin(), now.rend());
  const auto lookup = table_of(now);
  EXPECT_EQ(build_fallback(lookup, now, {set_of({1, 2})}, kKey).slots,
            build_fallback(lookup, turned, {set_of({2, 1})}, kKey).slots);
}

TEST(Fallback, OfOneBackendThereIsNone) {
  const BackendSet one = set_of({1});
  EXPECT_EQ(build_fallback(table_of(one), one, {one}, kKey).columns, 0u);
  EXPECT_EQ(build_fallback({}, {}, {one}, kKey).columns, 0u);
}

}  // namespace
}  // namespace portico
