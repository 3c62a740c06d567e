// SPDX-License-Identifier: Apache-2.0
// Control may die between any two stores: what it leaves is a good table, and its successor goes on from
// there. Memory comes back when nobody needs it, not before.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <fstream>
#include <functional>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "tests/support/table_editor.h"

namespace portico {
namespace {

using Kind = AdoptResult::Kind;
using test::sample_content;
using test::TableEditor;
using test::TempDir;

// A content that says everywhere which one it is.
TableContent marked_content(uint32_t mark) {
  TableContent c = sample_content();
  c.config_version = mark;
  c.settings.hash_key[0] = mark;
  for (ServiceRecord& service : c.services) service.idle_timeout_ms = mark;
  for (NextHopRecord& hop : c.next_hops) hop.mtu = 1000 + mark % 500;
  // Sizes change, too, so that blocks wander through the file.
  c.pools[1] = test::sample_pool(2, 20, static_cast<uint16_t>(1 + mark % 100), mark % 3 ? 257 : 1021);
  return c;
}

// The mark, if all parts agree on it.
void expect_consistent(const Snapshot& s) {
  const uint64_t mark = s.config_version;
  EXPECT_EQ(s.settings->records<SettingsRecord>()[0].hash_key[0], mark);
  for (const auto& service : s.services->records<ServiceRecord>()) EXPECT_EQ(service.idle_timeout_ms, mark);
  for (const auto& hop : s.next_hops->records<NextHopRecord>()) EXPECT_EQ(hop.mtu, 1000 + mark % 500);
  EXPECT_EQ(s.pools[1].backends->ref.count, 1 + mark % 100);
}

// Runs `work` in a process of its own; true if it came to its end with status 0.
bool run_in_child(const std::function<void()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      _exit(2);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) <= 1) << "child ended with " << status;
  return status == 0;
}

// Kills a publisher at its first step, its second, and so on, until it gets through; each time `prepare`
// makes the run directory, and the table is used and taken over afterwards.
void kill_at_every_step(const std::function<void(const std::filesystem::path&)>& prepare,
                        bool foreign = false) {
  bool finished = false;
  for (int last_step = 1; !finished; ++last_step) {
    SCOPED_TRACE("killed at step " + std::to_string(last_step));
    TempDir dir;
    prepare(dir.path());
    Adopter running(dir.path());  // a dataplane that was there before
    running.poll();
    finished = run_in_child([&] {
      int steps = 0;
      Publisher publisher(dir.path(), [&](const char*) {
        if (++steps == last_step) _exit(1);
      });
      publisher.publish(marked_content(11));
      publisher.publish(marked_content(12));
    });
    const AdoptResult seen = running.poll();
    EXPECT_TRUE(seen.kind != Kind::refused) << seen.text;
    if (running.snapshot()) expect_consistent(*running.snapshot());
    Adopter restarted(dir.path());
    const AdoptResult fresh = restarted.poll();
    EXPECT_TRUE(fresh.kind != Kind::refused || (foreign && fresh.reason == RefusalReason::bad_magic))
        << fresh.text;

    Publisher successor(dir.path());
    for (const auto& entry : std::filesystem::directory_iterator(dir.path()))
      EXPECT_EQ(entry.path().filename(), kTableFile) << "nothing is left lying about";
    if (fresh.kind == Kind::adopted) {
      ASSERT_NE(successor.recovered(), nullptr);
      EXPECT_EQ(successor.recovered()->config_version, fresh.snapshot->config_version);
      EXPECT_EQ(successor.generation(), fresh.generation);
    }
    const uint64_t generation = successor.publish(marked_content(13));
    for (Adopter* adopter : {&running, &restarted}) {
      const AdoptResult result = adopter->poll();
      ASSERT_EQ(result.kind, Kind::adopted) << result.text;
      EXPECT_EQ(result.generation, generation);
      EXPECT_EQ(result.snapshot->config_version, 13u);
      expect_consistent(*result.snapshot);
    }
    ASSERT_LT(last_step, 1000);
  }
}

TEST(Takeover, KilledAtEveryStepOfARunningTable) {
  kill_at_every_step([](const auto& dir) {
    Publisher publisher(dir);
    for (uint32_t mark = 1; mark <= 10; ++mark) publisher.publish(marked_content(mark));
  });
}

TEST(Takeover, KilledAtEveryStepOfANewTable) {
  kill_at_every_step([](const auto&) {});
}

TEST(Takeover, KilledAtEveryStepOfReplacingAForeignTable) {
  kill_at_every_step([](const auto& dir) { std::ofstream(dir / kTableFile) << "not a table"; }, true);
}

TEST(Takeover, KeepsEpochAndUnchangedBlocks) {
  TempDir dir;
  uint64_t epoch = 0;
  {
    Publisher publisher(dir.path());
    epoch = publisher.epoch();
    publisher.publish(marked_content(1));
  }
  Adopter adopter(dir.path());
  adopter.poll();
  Publisher publisher(dir.path());
  EXPECT_EQ(publisher.epoch(), epoch);
  ASSERT_NE(publisher.recovered(), nullptr);
  expect_consistent(*publisher.recovered());
  EXPECT_EQ(adopter.poll().kind, Kind::unchanged) << "a restart of control is nothing to the dataplane";
  EXPECT_EQ(publisher.publish(marked_content(1)), 2u);
  EXPECT_EQ(adopter.poll().blocks_copied, 0u);
}

TEST(Takeover, AnotherBuildsTableIsReplaced) {
  for (const auto& spoil : std::vector<std::function<void(TableEditor&)>>{
           [](auto& t) { t.header().abi_version = 0; }, [](auto& t) { t.header().layout_hash ^= 1; },
           [](auto& t) { t.bytes().resize(100); }, [](auto& t) { t.directory().checksum ^= 1; },
           [](auto& t) { t.directory().generation = ~0ull, t.header().current = ~0ull << 8, t.seal(); }}) {
    TempDir dir;
    TableEditor other = TableEditor::publish(marked_content(1));
    spoil(other);
    other.save(dir.path());
    Publisher publisher(dir.path());
    EXPECT_EQ(publisher.recovered(), nullptr);
    EXPECT_EQ(publisher.publish(marked_content(2)), 1u);
    EXPECT_EQ(Adopter(dir.path()).poll().kind, Kind::adopted);
  }
}

// The dataplane has adopted generation 3; what tells that number is gone from the file. Generation 1 of the
// same epoch would be refused as a step backwards, for ever.
TEST(Takeover, AFileThatForgotItsGenerationsGetsANewEpoch) {
  for (const auto& spoil : std::vector<std::function<void(TableEditor&)>>{
           [](auto& t) { t.directory().checksum ^= 1, t.header().current = 0; },
           [](auto& t) { t.header().current = 0; },
           [](auto& t) {
             t.directory().checksum ^= 1;
             t.header().current = current_word(1, 0);  // whole and valid, but older
           }}) {
    TempDir dir;
    uint64_t epoch = 0;
    {
      Publisher publisher(dir.path());
      epoch = publisher.epoch();
      for (uint32_t mark = 1; mark <= 3; ++mark) publisher.publish(marked_content(mark));
    }
    Adopter running(dir.path());
    ASSERT_EQ(running.poll().generation, 3u);
    FeedbackWriter feedback(dir.path(), "test");
    feedback.begin().header.table_epoch = epoch;
    feedback.begin().header.adopted_generation = 3;
    feedback.end();

    TableEditor table = TableEditor::open(dir.path());
    spoil(table);
    table.save(dir.path());
    Publisher successor(dir.path());
    EXPECT_NE(successor.epoch(), epoch);
    successor.publish(marked_content(13));
    const AdoptResult result = running.poll();
    ASSERT_EQ(result.kind, Kind::adopted) << result.text;
    EXPECT_EQ(result.snapshot->config_version, 13u);
  }
}

// The blocks of a generation as they stand in the file now: all still what the directory says?
bool is_intact(const std::filesystem::path& dir, uint64_t generation) {
  TableEditor table = TableEditor::open(dir);
  for (uint64_t slot = 0; slot < kDirectorySlots; ++slot) {
    table.header().current = current_word(generation, slot);
    const Directory& d = table.directory();
    if (d.generation != generation || d.checksum != checksum_of(d)) continue;
    for (uint32_t i = 0; i < d.block_count; ++i)
      if (checksum_of(table.bytes().data() + d.blocks[i].offset, d.blocks[i].size) != d.blocks[i].checksum)
        return false;
    return true;
  }
  return false;
}

TEST(Reuse, WhatALivingDataplaneNamesIsNotTouched) {
  TempDir dir;
  Publisher publisher(dir.path());
  FeedbackWriter dataplane(dir.path(), "test");
  for (uint32_t mark = 1; mark <= 3; ++mark) publisher.publish(marked_content(mark));
  Feedback& feedback = dataplane.begin();
  feedback.header.table_epoch = publisher.epoch();
  feedback.header.adopted_generation = 2;
  feedback.header.pending_generation = 3;
  dataplane.end();
  for (uint32_t mark = 4; mark <= 60; ++mark) {
    publisher.publish(marked_content(mark));
    ASSERT_TRUE(is_intact(dir.path(), 2)) << "adopted, at " << mark;
    ASSERT_TRUE(is_intact(dir.path(), 3)) << "pending, at " << mark;
    ASSERT_TRUE(is_intact(dir.path(), mark)) << "current";
  }
}

TEST(Reuse, ControlRestartedStillKnowsWhatIsHeld) {
  TempDir dir;
  FeedbackWriter dataplane(dir.path(), "test");
  for (uint32_t mark = 1; mark <= 40; ++mark) {
    Publisher publisher(dir.path());
    publisher.publish(marked_content(mark));
    Feedback& feedback = dataplane.begin();
    feedback.header.table_epoch = publisher.epoch();
    feedback.header.pending_generation = 1;
    dataplane.end();
    ASSERT_TRUE(is_intact(dir.path(), 1)) << mark;
  }
}

TEST(Reuse, ADataplaneThatCannotBeAskedKeepsWhatItMayRead) {
  TempDir dir;
  Publisher publisher(dir.path());
  FeedbackWriter dataplane(dir.path(), "test");
  {
    const uint64_t in_the_middle = 1;
    std::fstream file(dir.path() / kFeedbackFile, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(offsetof(FeedbackHeader, sequence));
    file.write(reinterpret_cast<const char*>(&in_the_middle), sizeof in_the_middle);
  }
  for (uint32_t mark = 1; mark <= 20; ++mark) {
    publisher.publish(marked_content(mark));
    ASSERT_TRUE(mark <= 3 || is_intact(dir.path(), mark - 3));
  }
}

TEST(Reuse, MemoryComesBackWhenTheReaderIsDead) {
  TempDir dir;
  Publisher publisher(dir.path());
  uint64_t largest = 0;
  {
    FeedbackWriter dataplane(dir.path(), "test");
    Feedback& feedback = dataplane.begin();
    feedback.header.table_epoch = publisher.epoch();
    feedback.header.pending_generation = 1;
    dataplane.end();
    publisher.publish(marked_content(1));
    publisher.publish(marked_content(2));
    EXPECT_TRUE(is_intact(dir.path(), 1));
  }
  for (uint32_t mark = 3; mark <= 300; ++mark) {
    publisher.publish(marked_content(mark));
    TableEditor table = TableEditor::open(dir.path());
    for (uint32_t i = 0; i < table.directory().block_count; ++i)
      largest = std::max(largest, table.directory().blocks[i].offset + table.directory().blocks[i].size);
  }
  EXPECT_FALSE(is_intact(dir.path(), 1));
  const uint64_t one =
      3 * 1024 + 130 * sizeof(BackendRecord) + 2 * sizeof(PortRecord);  // a generation's size, amply
  EXPECT_LT(largest - kBlocksStart, 4 * one);
}

// Both sides at full speed in two processes: whatever is adopted is whole.
TEST(Takeover, PublisherAndAdopterAtFullSpeed) {
  constexpr uint32_t kGenerations = 3000;
  TempDir dir;
  const pid_t child = fork();
  if (child == 0) {
    for (uint32_t mark = 1; mark <= kGenerations;) {  // restarts every 100
      Publisher publisher(dir.path());
      for (int i = 0; i < 100 && mark <= kGenerations; ++i) publisher.publish(marked_content(mark++));
    }
    _exit(0);
  }
  FeedbackWriter dataplane(dir.path(), "test");
  Adopter adopter(dir.path(), [&](uint64_t epoch, uint64_t generation) {
    Feedback& feedback = dataplane.begin();
    feedback.header.table_epoch = epoch;
    feedback.header.pending_generation = generation;
    dataplane.end();
  });
  const auto poll_once = [&] {
    const AdoptResult result = adopter.poll();
    if (result.kind == Kind::adopted) expect_consistent(*result.snapshot);
    EXPECT_TRUE(result.kind != Kind::refused || result.reason == RefusalReason::moved_on) << result.text;
  };
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0 && !::testing::Test::HasFailure()) poll_once();
  if (::testing::Test::HasFailure()) waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  poll_once();
  poll_once();
  ASSERT_NE(adopter.snapshot(), nullptr);
  EXPECT_EQ(adopter.snapshot()->config_version, kGenerations);
}

}  // namespace
}  // namespace portico
