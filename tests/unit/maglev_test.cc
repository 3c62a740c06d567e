// SPDX-License-Identifier: Apache-2.0
#include "control/maglev.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <string>

#include "contract/limits.h"

namespace portico {
namespace {

constexpr HashKey kKey{{0x0123456789abcdef, 0xfedcba9876543210}};

// Backends that own their names.
struct Pool {
  std::vector<std::string> names;
  std::vector<uint32_t> weights;

  static Pool of(size_t count, uint32_t weight = 100, const std::string& prefix = "portal-") {
    Pool pool;
    for (size_t i = 0; i < count; ++i) pool.add(prefix + std::to_string(i + 1), weight);
    return pool;
  }
  void add(std::string name, uint32_t weight) {
    names.push_back(std::move(name));
    weights.push_back(weight);
  }
  // Ids count from `first_id` in the order of the pool.
  std::vector<MaglevBackend> backends(uint16_t first_id = 0) const {
    std::vector<MaglevBackend> out;
    for (size_t i = 0; i < names.size(); ++i)
      out.push_back({names[i], static_cast<uint16_t>(first_id + i), weights[i]});
    return out;
  }
};

std::map<uint16_t, uint32_t> slots_by_id(const std::vector<uint16_t>& table) {
  std::map<uint16_t, uint32_t> slots;
  for (const uint16_t id : table) ++slots[id];
  return slots;
}

// Every slot is filled, and each backend has its exact share rounded down or up to a whole slot.
void expect_exact_shares(const Pool& pool, uint32_t size) {
  const auto table = build_lookup(pool.backends(), size, kKey);
  ASSERT_EQ(table.size(), size);
  double total = 0;
  for (const uint32_t weight : pool.weights) total += weight;
  const auto slots = slots_by_id(table);
  EXPECT_EQ(slots.count(kNone), 0u);
  for (size_t i = 0; i < pool.weights.size(); ++i) {
    const double exact = size * (pool.weights[i] / total);
    const auto found = slots.find(static_cast<uint16_t>(i));
    const double got = found == slots.end() ? 0 : found->second;
    EXPECT_LT(std::abs(got - exact), 1.0 + 1e-6) << pool.names[i] << " of " << size;
  }
}

TEST(Maglev, GivesEveryBackendItsShareAtEverySize) {
  for (const uint32_t size : {251u, 1021u, 65537u, 1048573u})
    for (const size_t count : {1u, 2u, 3u, 7u, 100u}) expect_exact_shares(Pool::of(count), size);
}

TEST(Maglev, GivesEveryBackendItsShareForRandomWeights) {
  std::mt19937 random(20160316);
  for (int trial = 0; trial < 20; ++trial) {
    Pool pool = Pool::of(1 + random() % 200);
    for (uint32_t& weight : pool.weights) weight = static_cast<uint32_t>(random() % 1001);
    pool.weights[0] = 1;
    expect_exact_shares(pool, 65537);
  }
}

TEST(Maglev, TakesExtremeWeightRatios) {
  Pool one_heavy = Pool::of(1000, 1);
  one_heavy.weights[17] = 1000;
  expect_exact_shares(one_heavy, 65537);

  Pool beyond_configuration = Pool::of(3, 1);
  beyond_configuration.weights = {0xffffffff, 1, 0xfffffffe};
  expect_exact_shares(beyond_configuration, 251);
  expect_exact_shares(beyond_configuration, 1048573);
}

TEST(Maglev, FillsTablesWithFewerSlotsThanBackends) {
  expect_exact_shares(Pool::of(1000), 251);
}

TEST(Maglev, WeightZeroGetsNoSlot) {
  Pool pool = Pool::of(3);
  pool.weights[1] = 0;
  EXPECT_EQ(slots_by_id(build_lookup(pool.backends(), 251, kKey)).count(1), 0u);
  expect_exact_shares(pool, 65537);
}

TEST(Maglev, IsEmptyWithoutWeight) {
  EXPECT_TRUE(build_lookup({}, 251, kKey).empty());
  EXPECT_TRUE(build_lookup(Pool::of(3, 0).backends(), 251, kKey).empty());
}

TEST(Maglev, DoesNotDependOnTheOrderOfConfiguration) {
  Pool pool = Pool::of(50);
  for (size_t i = 0; i < 50; ++i) pool.weights[i] = static_cast<uint32_t>(1 + i * 7 % 31);
  auto backends = pool.backends();
  const auto table = build_lookup(backends, 65537, kKey);
  std::mt19937 random(1);
  for (int trial = 0; trial < 5; ++trial) {
    std::shuffle(backends.begin(), backends.end(), random);
    EXPECT_EQ(build_lookup(backends, 65537, kKey), table);
  }
}

TEST(Maglev, DoesNotDependOnIds) {
  const Pool pool = Pool::of(20);
  const auto low = build_lookup(pool.backends(0), 1021, kKey);
  auto high = build_lookup(pool.backends(4000), 1021, kKey);
  for (uint16_t& id : high) id = static_cast<uint16_t>(id - 4000);
  EXPECT_EQ(low, high);
}

TEST(Maglev, AZeroWeightBackendIsLikeAnAbsentOne) {
  Pool pool = Pool::of(10);
  const auto without = build_lookup(pool.backends(), 1021, kKey);
  pool.add("held", 0);
  EXPECT_EQ(build_lookup(pool.backends(), 1021, kKey), without);
}

TEST(Maglev, AnotherKeyIsAnotherTable) {
  const Pool pool = Pool::of(2);
  const auto a = build_lookup(pool.backends(), 65537, kKey);
  for (const HashKey other : {HashKey{{kKey.k[0] + 1, kKey.k[1]}}, HashKey{{kKey.k[0], kKey.k[1] + 1}}}) {
    const auto b = build_lookup(pool.backends(), 65537, other);
    uint32_t equal = 0;
    for (size_t slot = 0; slot < a.size(); ++slot) equal += a[slot] == b[slot];
    EXPECT_NEAR(equal, 32768, 2000);
  }
}

// Share of the slots that changed hands although both their owners stayed.
double needless_moves(const std::vector<uint16_t>& before, const std::vector<uint16_t>& after,
                      uint16_t changed) {
  uint32_t moved = 0;
  for (size_t slot = 0; slot < before.size(); ++slot)
    moved += before[slot] != after[slot] && before[slot] != changed && after[slot] != changed;
  return moved / static_cast<double>(before.size());
}

TEST(Maglev, OneOfAHundredLeavesAndTheOthersHardlyMove) {
  const Pool pool = Pool::of(100);
  const auto before = build_lookup(pool.backends(), 65537, kKey);
  for (const uint16_t gone : std::vector<uint16_t>{0, 31, 64, 99}) {
    auto backends = pool.backends();
    backends.erase(backends.begin() + gone);
    const double moved = needless_moves(before, build_lookup(backends, 65537, kKey), gone);
    EXPECT_LE(moved, 0.01) << "without backend " << gone;
    RecordProperty("needless_moves_without_" + std::to_string(gone), std::to_string(moved));
  }
}

TEST(Maglev, OneOfAHundredWithMixedWeightsLeavesAndTheOthersHardlyMove) {
  Pool pool = Pool::of(100);
  for (size_t i = 0; i < 100; ++i) pool.weights[i] = static_cast<uint32_t>(50 + i);
  const auto before = build_lookup(pool.backends(), 65537, kKey);
  // The last is the heaviest, which sets the pace of the rounds.
  for (const uint16_t gone : std::vector<uint16_t>{0, 50, 99}) {
    auto backends = pool.backends();
    backends.erase(backends.begin() + gone);
    EXPECT_LE(needless_moves(before, build_lookup(backends, 65537, kKey), gone), 0.01)
        << "without backend " << gone;
  }
}

TEST(Maglev, AWeightChangeMovesLittleMoreThanItMust) {
  Pool pool = Pool::of(10);
  const auto before = build_lookup(pool.backends(), 65537, kKey);
  pool.weights[4] = 50;
  const auto after = build_lookup(pool.backends(), 65537, kKey);
  EXPECT_LE(needless_moves(before, after, 4), 0.03);
}

}  // namespace
}  // namespace portico
