// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_place.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/support/sample_table.h"

namespace portico {
namespace {

namespace fs = std::filesystem;

class FlowPlace : public testing::Test {
 protected:
  const test::TempDir temporary_;
  const fs::path directory_ = temporary_.path();
};

TEST_F(FlowPlace, OnlyAHugetlbfsCountsAsOne) {
  const fs::path mounts = directory_ / "mounts";
  std::ofstream(mounts) << "tmpfs /dev/shm tmpfs rw 0 0\n"
                        << "hugetlbfs " << directory_.string() << " hugetlbfs rw,pagesize=2M 0 0\n"
                        << "broken\n";
  EXPECT_EQ(find_hugetlbfs(mounts), fs::path());
  EXPECT_EQ(find_hugetlbfs(directory_ / "missing"), fs::path());
}

TEST_F(FlowPlace, WithoutHugePagesItIsInMemoryAllTheSame) {
  EXPECT_EQ(choose_flow_place(directory_, "a-1", false), directory_ / "portico-a-1");
  EXPECT_EQ(choose_flow_place("/proc/self", "a-1", false), "/dev/shm/portico-a-1");
}

TEST_F(FlowPlace, OneProcessAtATimeHasIt) {
  const fs::path place = directory_ / "place";
  {
    const FileHandle first = lock_flow_place(place);
    EXPECT_THROW(lock_flow_place(place), std::runtime_error);
  }
  EXPECT_TRUE(lock_flow_place(place).is_open());
}

TEST_F(FlowPlace, WhatOthersMayWriteToIsRefused) {
  const fs::path place = directory_ / "place";
  fs::create_directory(place);
  chmod(place.c_str(), 0777);
  EXPECT_THROW(lock_flow_place(place), std::runtime_error);
  chmod(place.c_str(), 0700);
  fs::create_directory_symlink(place, directory_ / "link");
  EXPECT_THROW(lock_flow_place(directory_ / "link"), std::runtime_error);
}

}  // namespace
}  // namespace portico
