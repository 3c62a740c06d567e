// SPDX-License-Identifier: Apache-2.0
#include "control/config_history.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace portico {
namespace {

class ConfigHistoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-history-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string dir() const { return dir_ / "history"; }
  std::filesystem::path dir_;
};

AppliedConfig entry(uint64_t version) {
  return {.version = version, .applied_ms = 5, .who = "root (uid 0)", .note = "n", .digest = {}, .bytes = 0};
}

TEST_F(ConfigHistoryTest, SurvivesARestart) {
  ConfigHistory before(dir());
  ASSERT_EQ(before.load(), std::nullopt);
  ASSERT_EQ(before.add(entry(3), "version: 1\n"), std::nullopt);
  ConfigHistory after(dir());
  ASSERT_EQ(after.load(), std::nullopt);
  ASSERT_NE(after.find(3), nullptr);
  EXPECT_EQ(after.find(3)->who, "root (uid 0)");
  EXPECT_EQ(after.find(3)->bytes, 11u);
  // sha256sum
  EXPECT_EQ(digest_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(after.text(3), "version: 1\n");
  EXPECT_EQ(after.text(4), std::nullopt);
  EXPECT_EQ(std::filesystem::status(dir() + "/3.yaml").permissions() & std::filesystem::perms::others_all,
            std::filesystem::perms::none);
}

TEST_F(ConfigHistoryTest, KeepsTheLastOnesAndNoOtherFile) {
  ConfigHistory history(dir());
  for (uint64_t version = 1; version <= kKeptConfigs + 5; ++version)
    ASSERT_EQ(history.add(entry(version), std::to_string(version)), std::nullopt);
  EXPECT_EQ(history.entries().size(), kKeptConfigs);
  EXPECT_EQ(history.entries().front().version, 6u);
  const auto files = std::filesystem::directory_iterator(dir());
  EXPECT_EQ(static_cast<size_t>(std::distance(begin(files), end(files))), kKeptConfigs + 1);
}

TEST_F(ConfigHistoryTest, DoesNotGiveOutWhatWasNotStored) {
  ConfigHistory history(dir());
  ASSERT_EQ(history.add(entry(1), "a"), std::nullopt);
  std::ofstream(dir() + "/1.yaml") << "b";
  EXPECT_EQ(history.text(1), std::nullopt);
  for (const char* index : {"", "{", "{}", "[1]", R"([{"version":"1"}])"}) {
    std::ofstream(dir() + "/index.json") << index;
    ConfigHistory broken(dir());
    EXPECT_NE(broken.load(), std::nullopt) << index;
    EXPECT_TRUE(broken.entries().empty());
  }
}

}  // namespace
}  // namespace portico
