// SPDX-License-Identifier: Apache-2.0
// A layout change without a new kAbiVersion fails here. If it does: raise kAbiVersion, then pin the new
// value.
#include <gtest/gtest.h>

#include "contract/layout_hash.h"
#include "contract/table_file.h"

namespace portico {
namespace {

struct Golden {
  uint32_t abi_version;
  uint64_t table, feedback;
};

// One line per ABI version, for ever.
constexpr Golden kGolden[] = {
    {1, 0x3ca7267c28ee733b, 0x704dd2f5add5f298}, {2, 0x3ca7267c28ee733b, 0xede3dd8339c4756d},
    {3, 0xfff097757c54c14f, 0xbc0c11a224752b85}, {4, 0x649bf815baa8eff7, 0xbc0c11a224752b85},
    {5, 0x649bf815baa8eff7, 0xc851e7b8134a5beb}, {6, 0x08ead4e8a239edb9, 0xc851e7b8134a5beb},
    {7, 0xa0819a052ff694ed, 0x9ad49c3a9d1260d2}, {8, 0xaf9c723af1cf2af7, 0x77bf45c3d587a317},
    {9, 0xcf9a0950a4c947e9, 0x5904eee1151c8a54},
};

TEST(Layout, IsTheOneOfItsAbiVersion) {
  const Golden& newest = kGolden[std::size(kGolden) - 1];
  ASSERT_EQ(newest.abi_version, kAbiVersion);
  EXPECT_EQ(newest.table, kLayoutHash) << std::hex << "now 0x" << kLayoutHash;
  EXPECT_EQ(newest.feedback, feedback_struct_hash()) << std::hex << "now 0x" << feedback_struct_hash();
}

TEST(Layout, NoTwoVersionsAreAlike) {
  for (const Golden& a : kGolden)
    for (const Golden& b : kGolden)
      EXPECT_TRUE(a.abi_version == b.abi_version || a.table != b.table || a.feedback != b.feedback);
}

TEST(Layout, ADropReasonChangesTheFeedbackOnly) {
  EXPECT_NE(kFeedbackLayoutHash, feedback_struct_hash());
  EXPECT_NE(kFeedbackLayoutHash, kLayoutHash);
}

// The word that both sides agree on must be in one cache line, by itself, and naturally aligned.
TEST(Layout, CurrentStandsAlone) {
  EXPECT_EQ(offsetof(TableHeader, current) % 64, 0u);
  EXPECT_EQ(offsetof(TableHeader, heartbeat_ns), offsetof(TableHeader, current) + 64);
  EXPECT_EQ(offsetof(FeedbackHeader, sequence) % 64, 0u);
  EXPECT_EQ(kBlocksStart % kBlockAlignment, 0u);
}

TEST(Layout, CurrentWordRoundTrips) {
  const uint64_t word = current_word(123456789012345, 7);
  EXPECT_EQ(slot_in(word), 7u);
  EXPECT_EQ(generation_in(word), 123456789012345u);
}

}  // namespace
}  // namespace portico
