// SPDX-License-Identifier: Apache-2.0
// Which of the ports' ways to spread packets the workers go by.
#include "dataplane/rss.h"

#include <gmock/gmock.h>
#include <linux/ethtool.h>

#include "tests/support/nic_model.h"

namespace portico::test {
namespace {

using testing::ElementsAre;

TEST(Rss, PortsThatSpreadAlikeAreOne) {
  const CommonRss rss =
      common_rss({{"a", nic_model(kUsualKey, 128, 4)}, {"b", nic_model(kUsualKey, 512, 4)}});
  EXPECT_EQ(rss.model, nic_model(kUsualKey, 128, 4));
  EXPECT_THAT(rss.others, ElementsAre());
}

TEST(Rss, MostPortsDecide) {
  const auto usual = nic_model(kUsualKey, 128, 2), other = nic_model(symmetric_key(), 128, 2);
  const CommonRss rss = common_rss({{"a", std::nullopt}, {"b", other}, {"c", usual}, {"d", usual}});
  EXPECT_EQ(rss.model, usual);
  EXPECT_THAT(rss.others, ElementsAre("a", "b"));
}

TEST(Rss, TablesOfOtherSizesMayLeadElsewhere) {
  // 512 entries for three queues in turn are not what 128 repeated four times are.
  const CommonRss rss =
      common_rss({{"a", nic_model(kUsualKey, 128, 3)}, {"b", nic_model(kUsualKey, 512, 3)}});
  EXPECT_THAT(rss.others, ElementsAre("b"));
}

TEST(Rss, WithoutAnyThereIsNone) {
  const CommonRss rss = common_rss({{"a", std::nullopt}});
  EXPECT_FALSE(rss.model);
  EXPECT_THAT(rss.others, ElementsAre("a"));
}

TEST(Rss, TheDigestChangesWithWhateverMovesPackets) {
  const auto digest = [](const std::optional<RssModel>& model) { return rss_digest({{"a", model}}); };
  const RssModel usual = nic_model(kUsualKey, 128, 2);
  RssModel no_v6 = usual;
  no_v6.v6 = false;
  EXPECT_EQ(digest(usual), digest(usual));
  for (const auto& other :
       {std::optional(nic_model(symmetric_key(), 128, 2)), std::optional(nic_model(kUsualKey, 128, 3)),
        std::optional(no_v6), std::optional<RssModel>()})
    EXPECT_NE(digest(usual), digest(other));
}

// As ixgbe and others answer.
KernelRss kernel_rss() {
  constexpr uint64_t kPortsToo = RXH_IP_SRC | RXH_IP_DST | RXH_L4_B_0_1 | RXH_L4_B_2_3;
  KernelRss rss{.function = 1,
                .table = {},
                .key = {kUsualKey.begin(), kUsualKey.end()},
                .fields_v4 = kPortsToo,
                .fields_v6 = kPortsToo};
  for (uint32_t i = 0; i < 128; ++i) rss.table.push_back(i % 4);
  return rss;
}

TEST(Rss, AKernelsDriverIsTakenAtItsWord) {
  EXPECT_EQ(rss_of_kernel(kernel_rss()), nic_model(kUsualKey, 128, 4));
  KernelRss rss = kernel_rss();
  rss.key.resize(52);  // as i40e's
  EXPECT_EQ(rss_of_kernel(rss), nic_model(kUsualKey, 128, 4));
  rss.fields_v4 = RXH_IP_SRC | RXH_IP_DST;
  EXPECT_FALSE(rss_of_kernel(rss)->v4);
  EXPECT_TRUE(rss_of_kernel(rss)->v6);
}

TEST(Rss, WhatIsNoToeplitzHashIsNone) {
  KernelRss other = kernel_rss(), no_table = other, short_key = other;
  other.function = 2;  // XOR
  no_table.table.clear();
  short_key.key.resize(16);
  for (const KernelRss& rss : {other, no_table, short_key}) EXPECT_FALSE(rss_of_kernel(rss));
}

// Where drivers do not tell, nothing is made up.
TEST(Rss, AnInterfaceWithoutRssHasNoModel) {
  EXPECT_FALSE(rss_of_interface("lo"));
  EXPECT_FALSE(rss_of_interface("none-of-that"));
}

}  // namespace
}  // namespace portico::test
