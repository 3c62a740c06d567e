// SPDX-License-Identifier: Apache-2.0
#include "control/flow_tables.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "contract/run_dir.h"
#include "tests/support/sample_table.h"

namespace portico {
namespace {

namespace fs = std::filesystem;

class FlowTables : public testing::Test {
 protected:
  FlowTables() {
    fs::create_directory(run_dir_ = directory_ / "run");
    place_ = directory_ / "portico-a";
    fill(place_);
  }

  static void fill(const fs::path& place) {
    fs::create_directory(place);
    chmod(place.c_str(), 0700);
    std::ofstream(place / "nat-0") << "flows";
  }
  void link_to(const fs::path& place) { fs::create_symlink(place, run_dir_ / kFlowTablesLink); }

  const test::TempDir temporary_;
  const fs::path directory_ = temporary_.path();
  fs::path run_dir_, place_;
};

TEST_F(FlowTables, AreRemovedWithTheirLink) {
  link_to(place_);
  EXPECT_EQ(remove_flow_tables(run_dir_), "");
  EXPECT_FALSE(fs::exists(place_));
  EXPECT_FALSE(fs::is_symlink(run_dir_ / kFlowTablesLink));
  EXPECT_EQ(remove_flow_tables(run_dir_), "") << "nothing is left";
}

TEST_F(FlowTables, NoSecondLinkIsFollowed) {
  fs::create_directory_symlink(place_, directory_ / "portico-link");
  link_to(directory_ / "portico-link");
  EXPECT_NE(remove_flow_tables(run_dir_), "");
  EXPECT_TRUE(fs::exists(place_ / "nat-0"));
}

TEST_F(FlowTables, OtherDirectoriesStay) {
  const auto stays = [this](const fs::path& place, const char* why) {
    link_to(place);
    EXPECT_NE(remove_flow_tables(run_dir_).find(why), std::string::npos) << place;
    EXPECT_TRUE(fs::exists(place / "nat-0")) << place;
  };
  fill(directory_ / "else");
  stays(directory_ / "else", "not named portico-*");
  chmod(place_.c_str(), 0770);
  stays(place_, "others may write there");
}

TEST_F(FlowTables, AnotherUsersStay) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: gives the link to another user";
  link_to(place_);
  ASSERT_EQ(lchown((run_dir_ / kFlowTablesLink).c_str(), 65534, 65534), 0);
  EXPECT_NE(remove_flow_tables(run_dir_).find("another user's"), std::string::npos);
  EXPECT_TRUE(fs::exists(place_ / "nat-0"));
}

TEST_F(FlowTables, DirectoriesInItStay) {
  fill(place_ / "deeper");
  link_to(place_);
  EXPECT_NE(remove_flow_tables(run_dir_), "");
  EXPECT_TRUE(fs::exists(place_ / "deeper" / "nat-0"));
}

}  // namespace
}  // namespace portico
