// SPDX-License-Identifier: Apache-2.0
// The feedback file: consistent copies, and a clear word when there is none.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <functional>

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
  edit(dir, [](auto& h) { h.abi_version = kAbiVersion + 1; });
  result = read_header(dir);
  EXPECT_EQ(result.status, FeedbackStatus::other_abi);
  EXPECT_NE(result.text.find("ABI version " + std::to_string(kAbiVersion + 1)), std::string::npos)
      << result.text;
  edit(dir, [](auto& h) { h.magic = 0; });
  EXPECT_EQ(read_header(dir).status, FeedbackStatus::unreadable);
  std::filesystem::resize_file(dir.path() / kFeedbackFile, 100);
  EXPECT_EQ(read_header(dir).status, FeedbackStatus::unreadable);
}

TEST(FeedbackFile, AnUpdateThatNeverEndedIsNotShown) {
  TempDir dir;
  {
    FeedbackWriter writer(dir.path(), "test");
    edit(dir, [](auto& h) { h.sequence |= 1; });
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

// Everything that others can do to the file ends with a good one at the next write; counters go on.
TEST(FeedbackFile, WhatOthersDoToItIsMended) {
  const std::vector<std::pair<const char*, std::function<void(const std::filesystem::path&)>>> all = {
      {"truncated", [](const auto& file) { std::filesystem::resize_file(file, 0); }},
      {"cut in the middle", [](const auto& file) { std::filesystem::resize_file(file, 1000); }},
      {"removed", [](const auto& file) { std::filesystem::remove(file); }},
      {"directory removed", [](const auto& file) { std::filesystem::remove_all(file.parent_path()); }},
      {"replaced",
       [](const auto& file) {
         std::filesystem::remove(file);
         std::ofstream(file) << "something else";
       }},
      {"a FIFO",
       [](const auto& file) {
         std::filesystem::remove(file);
         ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
       }},
      {"overwritten", [](const auto& file) {
         std::fstream(file, std::ios::in | std::ios::out) << std::string(sizeof(FeedbackHeader) + 999, 'x');
       }}};
  for (const auto& [what, spoil] : all) {
    SCOPED_TRACE(what);
    TempDir dir;
    const auto run_dir = dir.path() / "run";
    FeedbackWriter writer(run_dir, "test");
    writer.begin().backends[7].packets_in = 70;
    writer.begin().header.worker_count = 1;
    writer.end();
    const uint64_t epoch = writer.view().header.epoch;
    spoil(run_dir / kFeedbackFile);
    writer.begin().drops[3] = 33;
    writer.end();
    auto copy = std::make_unique<Feedback>();
    const FeedbackResult result = FeedbackReader(run_dir).read(*copy);
    ASSERT_TRUE(result.ok()) << result.text;
    EXPECT_TRUE(result.writer_alive);
    EXPECT_EQ(copy->header.epoch, epoch) << "the same dataplane";
    EXPECT_EQ(copy->backends[7].packets_in, 70u);
    EXPECT_EQ(copy->drops[3], 33u);
    EXPECT_EQ(copy->header.sequence % 2, 0u);
    writer.end();
    EXPECT_EQ(writer.trouble(), "");
  }
}

TEST(FeedbackFile, WhatCannotBeMendedIsToldAndTriedAgain) {
  TempDir dir;
  const auto run_dir = dir.path() / "run";
  FeedbackWriter writer(run_dir, "test");
  std::filesystem::remove_all(run_dir);
  std::ofstream(run_dir) << "in the way";
  writer.end();
  EXPECT_NE(writer.trouble().find("run directory"), std::string::npos) << writer.trouble();
  std::filesystem::remove(run_dir);
  for (int i = 0; i < 1000 && !std::filesystem::exists(run_dir / kFeedbackFile); ++i) {
    usleep(10'000);
    writer.end();
  }
  FeedbackHeader header;
  EXPECT_TRUE(FeedbackReader(run_dir).read_header(header).ok());
}

TEST(FeedbackFile, WritesWhatIsUsed) {
  TempDir dir;
  FeedbackWriter writer(dir.path(), "test");
  Feedback& feedback = writer.begin();
  feedback.header.port_count = 1;
  for (auto& port : feedback.ports) port.rx_packets = 5;
  for (auto& service : feedback.services) service.flows = 6;
  for (auto& backend : feedback.backends) backend.flows = 7;
  writer.end({.services = 2, .backends = 3});
  auto copy = std::make_unique<Feedback>();
  ASSERT_TRUE(FeedbackReader(dir.path()).read(*copy).ok());
  EXPECT_EQ(copy->ports[0].rx_packets, 5u);
  EXPECT_EQ(copy->ports[1].rx_packets, 0u);
  EXPECT_EQ(copy->services[1].flows, 6u);
  EXPECT_EQ(copy->services[2].flows, 0u);
  EXPECT_EQ(copy->backends[2].flows, 7u);
  EXPECT_EQ(copy->backends[3].flows, 0u);
}

TEST(FeedbackFile, AnotherDataplanesFileIsNotTakenAway) {
  TempDir dir;
  FeedbackWriter first(dir.path(), "first");
  std::filesystem::remove(dir.path() / kFeedbackFile);
  FeedbackWriter second(dir.path(), "second");
  first.end();
  EXPECT_NE(first.trouble().find("made it anew"), std::string::npos) << first.trouble();
  FeedbackHeader header;
  ASSERT_TRUE(FeedbackReader(dir.path()).read_header(header).ok());
  EXPECT_STREQ(header.version, "second");
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
