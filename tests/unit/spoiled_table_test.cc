// SPDX-License-Identifier: Apache-2.0
// What others do to the table file while control runs: it notices, makes the file anew and publishes what was
// current in it, so that the dataplane goes on following.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <functional>
#include <string_view>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "tests/support/table_editor.h"

namespace portico {
namespace {

using Kind = AdoptResult::Kind;
using test::sample_content;
using test::TableEditor;
using test::TempDir;
using Spoil = std::function<void(const std::filesystem::path& file)>;

void overwrite(const std::filesystem::path& file, std::streamoff at, size_t size) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekp(at);
  stream << std::string(size, '\x5a');
}

const std::vector<std::pair<const char*, Spoil>> kSpoils = {
    {"truncated to nothing", [](const auto& file) { std::filesystem::resize_file(file, 0); }},
    {"truncated in the header", [](const auto& file) { std::filesystem::resize_file(file, 100); }},
    {"truncated in the directories", [](const auto& file) { std::filesystem::resize_file(file, 5000); }},
    {"truncated in the blocks",
     [](const auto& file) { std::filesystem::resize_file(file, kBlocksStart + 64); }},
    {"removed", [](const auto& file) { std::filesystem::remove(file); }},
    {"run directory removed", [](const auto& file) { std::filesystem::remove_all(file.parent_path()); }},
    {"replaced",
     [](const auto& file) {
       std::filesystem::remove(file);
       std::ofstream(file) << "not a table";
     }},
    {"replaced by its own copy",
     [](const auto& file) {
       std::filesystem::copy_file(file, file.string() + ".copy");
       std::filesystem::rename(file.string() + ".copy", file);
     }},
    {"a FIFO",
     [](const auto& file) {
       std::filesystem::remove(file);
       ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
     }},
    {"other magic", [](const auto& file) { overwrite(file, 0, 8); }},
    {"other ABI version", [](const auto& file) { overwrite(file, 8, 4); }},
    {"other epoch", [](const auto& file) { overwrite(file, offsetof(TableHeader, epoch), 8); }},
    {"other current", [](const auto& file) { overwrite(file, offsetof(TableHeader, current), 8); }},
    {"garbage all over", [](const auto& file) { overwrite(file, 0, 100'000); }},
};

void expect_follows(Publisher& publisher, Adopter& adopter, uint64_t version) {
  const AdoptResult result = adopter.poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_EQ(result.epoch, publisher.epoch());
  EXPECT_EQ(result.generation, publisher.generation());
  EXPECT_EQ(result.snapshot->config_version, version);
}

TEST(SpoiledTable, TheHeartbeatMakesItAnew) {
  for (const auto& [what, spoil] : kSpoils) {
    SCOPED_TRACE(what);
    TempDir dir;
    const auto run_dir = dir.path() / "run";
    Publisher publisher(run_dir);
    TableContent content = sample_content();
    content.config_version = 5;
    const uint64_t before = publisher.publish(content);
    const uint64_t epoch = publisher.epoch();
    Adopter adopter(run_dir);
    ASSERT_EQ(adopter.poll().kind, Kind::adopted);
    EXPECT_EQ(publisher.heartbeat(), "");
    spoil(run_dir / kTableFile);
    adopter.poll();  // a dataplane that looks in between
    EXPECT_NE(publisher.heartbeat(), "");
    EXPECT_NE(publisher.epoch(), epoch);
    EXPECT_GT(publisher.generation(), before) << "numbers go on";
    expect_follows(publisher, adopter, 5);
    EXPECT_EQ(publisher.heartbeat(), "") << "told once";
    content.config_version = 6;
    publisher.publish(content);
    expect_follows(publisher, adopter, 6);
  }
}

TEST(SpoiledTable, PublishingDoesNotGoIntoAFileThatNobodyReads) {
  for (const auto& [what, spoil] : kSpoils) {
    SCOPED_TRACE(what);
    TempDir dir;
    const auto run_dir = dir.path() / "run";
    Publisher publisher(run_dir);
    TableContent content = sample_content();
    publisher.publish(content);
    Adopter adopter(run_dir);
    adopter.poll();
    spoil(run_dir / kTableFile);
    content.config_version = 9;
    publisher.publish(content);
    expect_follows(publisher, adopter, 9);
    EXPECT_NE(publisher.heartbeat(), "") << "what was mended is told";
  }
}

TEST(SpoiledTable, BeforeAnythingIsPublished) {
  TempDir dir;
  Publisher publisher(dir.path());
  std::filesystem::resize_file(dir.path() / kTableFile, 0);
  EXPECT_NE(publisher.heartbeat(), "");
  publisher.publish(sample_content());
  EXPECT_EQ(Adopter(dir.path()).poll().kind, Kind::adopted);
}

TEST(SpoiledTable, ARestartedControlFindsTheContent) {
  TempDir dir;
  uint64_t generation = 0;
  {
    Publisher publisher(dir.path());
    publisher.publish(sample_content());
    std::filesystem::remove(dir.path() / kTableFile);
    publisher.heartbeat();
    generation = publisher.generation();
  }
  Publisher publisher(dir.path());
  ASSERT_NE(publisher.recovered(), nullptr);
  EXPECT_EQ(publisher.generation(), generation);
  EXPECT_EQ(publisher.recovered()->services->ref.count, sample_content().services.size());
}

// Only the content: nothing in the header says so, and the dataplane does not look at what it knows.
TEST(SpoiledTable, BrokenBlocksAreFoundInTime) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  Adopter adopter(dir.path());
  adopter.poll();
  overwrite(dir.path() / kTableFile, kBlocksStart, 64);
  std::string mended;
  for (int i = 0; i < 2000 && mended.empty(); ++i) {
    mended = publisher.heartbeat();
    usleep(10'000);
  }
  EXPECT_NE(mended.find("checksum"), std::string::npos) << mended;
  expect_follows(publisher, adopter, sample_content().config_version);
  Adopter fresh(dir.path());
  EXPECT_EQ(fresh.poll().kind, Kind::adopted);
}

TEST(SpoiledTable, WhatTheDataplaneFoundBrokenIsPublishedAgain) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  FeedbackWriter dataplane(dir.path(), "test");
  Feedback& feedback = dataplane.begin();
  feedback.header.refused_generation = publisher.generation();
  feedback.header.refused_reason = static_cast<uint32_t>(RefusalReason::bad_checksum);
  dataplane.end();
  const uint64_t epoch = publisher.epoch();
  for (int i = 0; i < 2000 && publisher.epoch() == epoch; ++i) {
    publisher.heartbeat();
    usleep(10'000);
  }
  EXPECT_NE(publisher.epoch(), epoch);
}

TEST(SpoiledTable, WhatCannotBeMendedIsAnErrorAndTriedAgain) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  const auto file = dir.path() / kTableFile;
  std::filesystem::remove(file);
  std::filesystem::create_directory(file);
  const uint64_t generation = publisher.generation();
  for (int i = 0; i < 50; ++i) {
    try {
      publisher.heartbeat();
      FAIL() << "it cannot be mended";
    } catch (const std::runtime_error& error) {
      EXPECT_EQ(error.what(), file.string() +
                                  ": a directory stands in the file's place; remove it, and the file "
                                  "is made anew within a second");
    }
  }
  EXPECT_THROW(publisher.publish(sample_content()), std::runtime_error);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1)
      << "no temporary file stays";
  std::filesystem::remove(file);
  EXPECT_NE(publisher.heartbeat(), "");
  EXPECT_EQ(Adopter(dir.path()).poll().kind, Kind::adopted);
  EXPECT_EQ(publisher.generation(), generation + 1) << "no generation was used up by what failed";
}

// Not even where the file is written whole before its name turns out to be impossible.
TEST(SpoiledTable, FailuresUseUpNoGenerations) {
  TempDir dir;
  const auto run_dir = dir.path() / "run";
  bool is_blocked = false;
  Publisher publisher(run_dir, [&](const char* step) {
    if (is_blocked && std::string_view(step) == "published") throw std::runtime_error("blocked");
  });
  publisher.publish(sample_content());
  const uint64_t generation = publisher.generation();
  std::filesystem::remove(run_dir / kTableFile);
  is_blocked = true;
  for (int i = 0; i < 20; ++i) EXPECT_THROW(publisher.heartbeat(), std::runtime_error);
  is_blocked = false;
  EXPECT_NE(publisher.heartbeat(), "");
  EXPECT_EQ(publisher.generation(), generation + 1);
}

TEST(SpoiledTable, AnotherControlsFileIsNotTakenAway) {
  TempDir dir;
  Publisher first(dir.path());
  first.publish(sample_content());
  std::filesystem::remove(dir.path() / kTableFile);
  Publisher second(dir.path());
  second.publish(sample_content());
  EXPECT_THROW(first.heartbeat(), std::runtime_error);
  EXPECT_EQ(second.heartbeat(), "");
}

}  // namespace
}  // namespace portico
