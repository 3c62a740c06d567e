// SPDX-License-Identifier: Apache-2.0
#include "control/store_pace.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(StorePace, CheapWritesAreNeverPutOff) {
  StorePace pace;
  EXPECT_EQ(pace.next_ns(), 0u) << "the first";
  pace.stored(400'000, 1002 * kMs);
  EXPECT_EQ(pace.next_ns(), 0u);
}

TEST(StorePace, WritesThatTakeLongKeepTheirDistance) {
  StorePace pace;
  pace.stored(1'700'000, 1010 * kMs);
  EXPECT_EQ(pace.next_ns(), 1260 * kMs);
  pace.stored(100'000, 1261 * kMs);
  EXPECT_EQ(pace.next_ns(), 0u) << "cheap again";
}

// A thousand changes within a second.
TEST(StorePace, ABurstIsAFewWritesAndTheLastChangeIsInOne) {
  StorePace pace;
  uint64_t busy_ns = 0, stored_ns = 0, writes = 0, now = 5000 * kMs;
  bool is_dirty = false;
  for (int i = 0; i < 1300; ++i, now += kMs) {
    is_dirty |= i < 1000;
    if (!is_dirty || now < pace.next_ns()) continue;
    pace.stored(1'700'000, now + 18 * kMs);
    busy_ns += 18 * kMs;
    stored_ns = now;
    is_dirty = false;
    ++writes;
  }
  EXPECT_LE(writes, 5u);
  EXPECT_LE(busy_ns, 90 * kMs);
  EXPECT_FALSE(is_dirty);
  EXPECT_GE(stored_ns, 5999 * kMs);
}

}  // namespace
}  // namespace portico
