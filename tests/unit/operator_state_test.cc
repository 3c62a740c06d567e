// SPDX-License-Identifier: Apache-2.0
#include "control/operator_state.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace portico {
namespace {

class OperatorStateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-operator-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string path() const { return dir_ / "operator.json"; }
  std::filesystem::path dir_;
};

TEST_F(OperatorStateTest, SurvivesARestart) {
  OperatorState before(path());
  ASSERT_EQ(before.load(), std::nullopt) << "no file is no error";
  ASSERT_EQ(before.set({"portals", "portal-1"}, {Admin::drained, "uid 0 (root)", 1234, "upgrade \"7.7\""}),
            std::nullopt);
  ASSERT_EQ(before.set({"portals", "portal-2"}, {Admin::held, "uid 1", 5, ""}), std::nullopt);
  OperatorState after(path());
  ASSERT_EQ(after.load(), std::nullopt);
  ASSERT_NE(after.find("portals", "portal-1"), nullptr);
  EXPECT_EQ(after.find("portals", "portal-1")->why, "upgrade \"7.7\"");
  EXPECT_EQ(after.find("portals", "portal-1")->since_ms, 1234);
  EXPECT_EQ(after.state("portals", "portal-2"), Admin::held);
  EXPECT_EQ(after.state("portals", "portal-3"), Admin::active);
}

TEST_F(OperatorStateTest, ResumeForgets) {
  OperatorState state(path());
  ASSERT_EQ(state.set({"p", "b"}, {Admin::held, "", 0, ""}), std::nullopt);
  ASSERT_EQ(state.set({"p", "b"}, {}), std::nullopt);
  OperatorState after(path());
  ASSERT_EQ(after.load(), std::nullopt);
  EXPECT_TRUE(after.entries().empty());
}

TEST_F(OperatorStateTest, WordsThatWouldCommandATerminalAreReadInAHarmlessForm) {
  std::ofstream(path())
      << R"([{"pool":"p","backend":"b","state":"held","who":"ro\u009bot","why":"a\u202eb"}])";
  OperatorState state(path());
  ASSERT_EQ(state.load(), std::nullopt);
  EXPECT_EQ(state.find("p", "b")->who, "ro\\x9bot");
  EXPECT_EQ(state.find("p", "b")->why, "a\\u202eb");
}

TEST_F(OperatorStateTest, NamesABrokenFileAndTreatsAllAsActive) {
  for (const char* text : {"", "{", "[1]", R"([{"pool":"p","backend":"b","state":"asleep"}])", R"({"a":1})",
                           R"([{"pool":1,"backend":"b","state":"held"}])"}) {
    std::ofstream(path()) << text;
    OperatorState state(path());
    const auto error = state.load();
    ASSERT_TRUE(error.has_value()) << text;
    EXPECT_NE(error->find(path()), std::string::npos);
    EXPECT_TRUE(state.entries().empty());
  }
}

TEST_F(OperatorStateTest, ChangesNothingThatItCannotStore) {
  OperatorState state((dir_ / "missing" / "operator.json").string());
  EXPECT_TRUE(state.set({"p", "b"}, {Admin::held, "", 0, ""}).has_value());
  EXPECT_EQ(state.state("p", "b"), Admin::active);
}

TEST_F(OperatorStateTest, ReplacesTheFileWhole) {
  ASSERT_EQ(write_atomically(path(), "old"), std::nullopt);
  ASSERT_EQ(write_atomically(path(), "new"), std::nullopt);
  EXPECT_EQ(read_whole(path()), "new");
  EXPECT_FALSE(std::filesystem::exists(path() + ".new"));
}

TEST_F(OperatorStateTest, WeightsAndDeadlinesSurviveARestart) {
  OperatorState before(path());
  ASSERT_EQ(before.set_weight({"p", "b"}, WeightEntry{50, "root (uid 0)", 7, "small"}), std::nullopt);
  ASSERT_EQ(before.set({"p", "b"}, {Admin::drained, "uid 1", 5, "", 99}), std::nullopt);
  OperatorState after(path());
  ASSERT_EQ(after.load(), std::nullopt);
  ASSERT_NE(after.find_weight("p", "b"), nullptr);
  EXPECT_EQ(after.find_weight("p", "b")->weight, 50u);
  EXPECT_EQ(after.find_weight("p", "b")->why, "small");
  EXPECT_EQ(after.find("p", "b")->deadline_ms, 99);
  ASSERT_EQ(after.set_weight({"p", "b"}, std::nullopt), std::nullopt);
  OperatorState last(path());
  ASSERT_EQ(last.load(), std::nullopt);
  EXPECT_EQ(last.find_weight("p", "b"), nullptr);
  EXPECT_EQ(last.state("p", "b"), Admin::drained);
}

}  // namespace
}  // namespace portico
