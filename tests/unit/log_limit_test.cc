// SPDX-License-Identifier: Apache-2.0
#include "contract/log_limit.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(LogLimit, SaysTheSameOnceInAnIntervalAndThenHowManyItLeftOut) {
  LogLimit limit;
  uint64_t now = 1000 * kMs;
  int logged = 0;
  for (int i = 0; i < 1000; ++i, now += kMs) logged += limit.admit("bad checksum", now) ? 1 : 0;
  EXPECT_EQ(logged, 1);
  EXPECT_EQ(limit.admit("bad checksum", 11'000 * kMs), " (999 more like it were not logged)");
  EXPECT_EQ(limit.admit("bad checksum", 21'000 * kMs), "") << "nothing was left out";
}

TEST(LogLimit, AnotherMessageIsLoggedAtOnceButNotEveryOneOfMany) {
  LogLimit limit;
  EXPECT_EQ(limit.admit("bad checksum", kMs), "");
  EXPECT_EQ(limit.admit("bad magic", kMs), "");
  size_t logged = 2;
  for (int i = 0; i < 1000; ++i) logged += limit.admit("record " + std::to_string(i), kMs) ? 1 : 0;
  EXPECT_EQ(logged, LogLimit::kTexts);
}

}  // namespace
}  // namespace portico
