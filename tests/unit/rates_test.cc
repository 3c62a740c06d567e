// SPDX-License-Identifier: Apache-2.0
#include "control/rates.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(Rate, IsZeroUntilTheSecondUpdate) {
  Rate rate;
  rate.update(1'000'000, kSecond);
  EXPECT_EQ(rate.per_second(), 0);
  rate.update(1'000'100, 2 * kSecond);
  EXPECT_DOUBLE_EQ(rate.per_second(), 100);
}

TEST(Rate, FollowsAChangeWithinAFewSecondsAndSmoothsIt) {
  Rate rate;
  uint64_t value = 0, now = kSecond;
  rate.update(value, now);
  rate.update(value += 100, now += kSecond);
  rate.update(value += 1100, now += kSecond);
  EXPECT_GT(rate.per_second(), 300);
  EXPECT_LT(rate.per_second(), 1100);
  for (int i = 0; i < 20; ++i) rate.update(value += 1100, now += kSecond);
  EXPECT_NEAR(rate.per_second(), 1100, 1);
}

TEST(Rate, BeginsAnewAfterACounterWentBack) {
  Rate rate;
  EXPECT_TRUE(rate.update(1'000'000, kSecond));
  EXPECT_TRUE(rate.update(1'000'100, 2 * kSecond));
  EXPECT_FALSE(rate.update(50, 3 * kSecond));
  EXPECT_EQ(rate.per_second(), 0);
  EXPECT_TRUE(rate.update(60, 4 * kSecond));
  EXPECT_DOUBLE_EQ(rate.per_second(), 10);
}

TEST(Rate, BeginsAnewAfterAnImpossibleStep) {
  Rate rate;
  rate.update(0, kSecond);
  EXPECT_TRUE(rate.update(50'000'000'000, 2 * kSecond)) << "400 Gbit/s";
  EXPECT_FALSE(rate.update(uint64_t{1} << 62, 3 * kSecond));
  EXPECT_EQ(rate.per_second(), 0);
}

TEST(Rate, IgnoresTimeThatDoesNotPass) {
  Rate rate;
  rate.update(10, kSecond);
  rate.update(20, kSecond);
  EXPECT_EQ(rate.per_second(), 0);
}

TEST(Share, IsThePartOfTheWholeAndNeverMoreThanOne) {
  Share share;
  EXPECT_EQ(share.value(), 0);
  share.update(0, 0, kSecond);
  share.update(25, 100, 2 * kSecond);
  EXPECT_DOUBLE_EQ(share.value(), 0.25);
  share.update(1025, 200, 3 * kSecond);
  EXPECT_LE(share.value(), 1);
}

TEST(Share, BeginsAnewIfEitherCounterContradictsItself) {
  Share share;
  share.update(0, 0, kSecond);
  share.update(25, 100, 2 * kSecond);
  EXPECT_FALSE(share.update(20, 200, 3 * kSecond));
  EXPECT_EQ(share.value(), 0);
  EXPECT_TRUE(share.update(30, 300, 4 * kSecond));
  EXPECT_TRUE(share.update(80, 400, 5 * kSecond));
  EXPECT_DOUBLE_EQ(share.value(), 0.5);
}

}  // namespace
}  // namespace portico
