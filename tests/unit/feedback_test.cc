// SPDX-License-Identifier: Apache-2.0
// The feedback file: consistent copies, and a clear word when there is none.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "contract/feedback_file.h"
#include "tests/support/sample_table.h"

namespace portico {
namespace {

using test::TempDir;

// Changes the file's header behind the writer's back.
template <typename Change>
void edit(const TempDir& dir, Change change) {
  std::fstream file(dir.path() / kFeedbackFile, std::ios::binary | std::ios::in | std::ios::out);
  FeedbackHeader header;
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  change(header);
  file.seekp(0);
  file.write(reinterpret_cast<const char*>(&header), sizeof header);
}

FeedbackResult read_header(const TempDir& dir) {
  FeedbackHeader header;
  return FeedbackReader(dir.path()).read_header(header);
}

TEST(FeedbackFile, ReadsWhatIsWritten) {
  TempDir dir;
  FeedbackWriter writer(dir.path(), "portico 0.1.0");
  Feedback& feedback = writer.begin();
  feedback.drops[3] = 7;
  feedback.backends[kMaxBackends - 1].flows = 9;
  feedback.resolve[kMaxResolveRequests - 1].port = 2;
  writer.end();
  auto copy = std::make_unique<Feedback>();
  const FeedbackResult result = FeedbackReader(dir.path()).read(*copy);
  ASSERT_TRUE(result.ok()) << result.text;
  EXPECT_TRUE(result.writer_alive);
  EXPECT_FALSE(result.stale);
  EXPECT_EQ(result.pid, getpid());
  EXPECT_STREQ(copy->header.version, "portico 0.1.0");
  EXPECT_EQ(copy->header.state, static_cast<uint32_t>(DataplaneState::starting));
  EXPECT_NE(copy->header.epoch, 0u);
  EXPECT_EQ(copy->drops[3], 7u);
  EXPECT_EQ(copy->backends[kMaxBackends - 1].flows, 9u);
  EXPECT_EQ(copy->resolve[kMaxResolveRequests - 1].port, 2u);
}

TEST(FeedbackFile, IsNotForTheWholeWorld) {
  TempDir dir;
  FeedbackWriter writer(dir.path(), "test");
  struct stat status;
  ASSERT_EQ(stat((dir.path() / kFeedbackFile).c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(FeedbackFile, AbsentDeadStaleAndForeignAreToldApart) {
  TempDir dir;
  FeedbackResult result = read_header(dir);
  EXPECT_EQ(result.status, FeedbackStatus::absent);
  EXPECT_NE(result.text.find("start portico-dataplane"), std::string::npos) << result.text;
  {
    FeedbackWriter writer(dir.path(), "test");
    edit(dir, [](auto& h) { h.heartbeat_ns = 1; });
    result = read_header(dir);
    EXPECT_TRUE(result.ok() && result.writer_alive && result.stale);
  }
  result = read_header(dir);
  EXPECT_TRUE(result.ok());
  EXPECT_FALSE(result.writer_alive) << "the lock went with the writer";
  EXPECT_FALSE(feedback_writer(dir.path()).alive);
  edit(dir, [](auto& h) { h.layout_hash ^= 1; });
  EXPECT_EQ(read_header(dir).status, FeedbackStatus::other_layout);
  edit(dir, [](auto& h) { h.abi_version = 9; });
  result = read_header(dir);
  EXPECT_EQ(result.status, FeedbackStatus::other_abi);
  EXPECT_NE(result.text.find("ABI version 9"), std::string::npos) << result.text;
  edit(dir, [](auto& h) { h.magic = 0; });
  EXPECT_EQ(read_header(dir).status, FeedbackStatus::unreadable);
  std::filesystem::resize_file(dir.path() / kFeedbackFile, 100);
  EXPECT_EQ(read_header(dir).status, FeedbackStatus::unreadable);
}

TEST(FeedbackFile, AnUpdateThatNeverEndedIsNotShown) {
  TempDir dir;
  {
    FeedbackWriter writer(dir.path(), "test");
    writer.begin();
    EXPECT_EQ(read_header(dir).status, FeedbackStatus::busy);
  }
  const FeedbackResult result = read_header(dir);
  EXPECT_EQ(result.status, FeedbackStatus::busy);
  EXPECT_FALSE(result.writer_alive);
  EXPECT_NE(result.text.find("died"), std::string::npos) << result.text;
  FeedbackWriter next(dir.path(), "test");
  EXPECT_TRUE(read_header(dir).ok()) << "a restarted dataplane starts a new file";
}

TEST(FeedbackFile, SecondInstanceIsToldWhoIsThere) {
  TempDir dir;
  FeedbackWriter writer(dir.path(), "test");
  try {
    FeedbackWriter second(dir.path(), "test");
    FAIL() << "two dataplanes on one run directory";
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("a second instance on the same run directory"), std::string::npos) << text;
    EXPECT_NE(text.find("process " + std::to_string(getpid())), std::string::npos) << text;
  }
}

TEST(FeedbackFile, CopiesAreConsistentWhileAnotherProcessWrites) {
  TempDir dir;
  const pid_t child = fork();
  if (child == 0) {
    FeedbackWriter writer(dir.path(), "test");
    for (uint64_t i = 1; i <= 2000; ++i) {
      Feedback& feedback = writer.begin();
      feedback.to_kernel = i;
      for (auto& backend : feedback.backends) backend.packets_in = i;
      feedback.resolve[kMaxResolveRequests - 1].requested_ns = i;
      writer.end();
      if (i % 8 == 0) usleep(100);
    }
    _exit(0);
  }
  auto copy = std::make_unique<Feedback>();
  const FeedbackReader reader(dir.path());
  int status = 0, read = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (!reader.read(*copy).ok()) continue;
    ++read;
    ASSERT_EQ(copy->backends[0].packets_in, copy->to_kernel);
    ASSERT_EQ(copy->backends[kMaxBackends - 1].packets_in, copy->to_kernel);
    ASSERT_EQ(copy->resolve[kMaxResolveRequests - 1].requested_ns, copy->to_kernel);
  }
  EXPECT_EQ(status, 0);
  ASSERT_TRUE(reader.read(*copy).ok());
  EXPECT_EQ(copy->to_kernel, 2000u);
}

TEST(RunDir, UnusableDirectoryIsAClearError) {
  TempDir dir;
  std::ofstream(dir.path() / "file") << "x";
  try {
    ensure_run_dir(dir.path() / "file" / "run");
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("run directory"), std::string::npos) << error.what();
  }
  ensure_run_dir(dir.path() / "a" / "b");
  struct stat status;
  ASSERT_EQ(stat((dir.path() / "a" / "b").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0750u);
}

}  // namespace
}  // namespace portico
