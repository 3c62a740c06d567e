// SPDX-License-Identifier: Apache-2.0
// A corrupted, cut, foreign or hostile table file is refused with the reason, and the last good table stays.
#include "contract/adopter.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>

#include "contract/publisher.h"
#include "tests/support/table_editor.h"

namespace portico {
namespace {

using Kind = AdoptResult::Kind;
using test::sample_content;
using test::TableEditor;
using test::TempDir;

AdoptResult adopt(const TableEditor& table) {
  TempDir dir;
  table.save(dir.path());
  return Adopter(dir.path()).poll();
}

void expect_refused(const AdoptResult& result, RefusalReason reason, const std::string& beginning) {
  EXPECT_EQ(result.kind, Kind::refused);
  EXPECT_EQ(result.reason, reason) << result.text;
  EXPECT_EQ(result.text.substr(0, beginning.size()), beginning);
}

struct Case {
  RefusalReason reason;
  const char* beginning;
  std::function<void(TableEditor&)> spoil;
};

TEST(Adopt, HeaderFields) {
  const TableEditor good = TableEditor::publish(sample_content());
  const std::string other_abi =
      "header: abi_version: the table has 0, this program " + std::to_string(kAbiVersion) + "; install";
  for (const Case& c : std::vector<Case>{
           {RefusalReason::bad_magic, "header: magic", [](auto& t) { t.header().magic ^= 1; }},
           {RefusalReason::bad_magic, "header: magic", [](auto& t) { t.header().magic = 0; }},
           {RefusalReason::other_abi, other_abi.c_str(), [](auto& t) { t.header().abi_version = 0; }},
           {RefusalReason::other_abi, "header: abi_version",
            [](auto& t) { t.header().abi_version = kAbiVersion + 1; }},
           {RefusalReason::other_layout, "header: layout_hash", [](auto& t) { t.header().layout_hash ^= 1; }},
           {RefusalReason::other_layout, "header: header_size",
            [](auto& t) { t.header().header_size = 191; }},
           {RefusalReason::bad_directory, "header: epoch", [](auto& t) { t.header().epoch = 0; }},
           {RefusalReason::bad_directory, "directory: epoch", [](auto& t) { t.header().epoch ^= 1; }},
           {RefusalReason::truncated, "header: file_size: 64 is", [](auto& t) { t.header().file_size = 64; }},
           {RefusalReason::truncated, "header: file_size: says",
            [](auto& t) { t.header().file_size = ~0ull; }},
           {RefusalReason::bad_directory, "directory: slot 8", [](auto& t) { t.header().current |= 8; }},
           {RefusalReason::bad_directory, "directory: slot 255", [](auto& t) { t.header().current |= 255; }},
           {RefusalReason::bad_directory, "directory: generation: 1 is not the current one, 2",
            [](auto& t) { t.header().current += 256; }},
       }) {
    SCOPED_TRACE(c.beginning);
    TableEditor bad = good;
    c.spoil(bad);
    expect_refused(adopt(bad), c.reason, c.beginning);
  }
}

TEST(Adopt, DirectoryFields) {
  using enum BlockKind;
  const auto reference = RefusalReason::bad_reference;
  const auto directory = RefusalReason::bad_directory;
  const TableEditor good = TableEditor::publish(sample_content());
  for (const Case& c : std::vector<Case>{
           {directory, "directory: block_count: 9",
            [](auto& t) { t.directory().block_count = kFixedBlocks - 1; }},
           {directory, "directory: block_count: 1035",
            [](auto& t) { t.directory().block_count = kMaxBlocks + 1; }},
           {directory, "directory: block_count: 4294967295",
            [](auto& t) { t.directory().block_count = ~0u; }},
           {directory, "directory: block 0 is not settings", [](auto& t) { t.ref(settings).kind = 2; }},
           {directory, "directory: block 7 is not nat", [](auto& t) { t.ref(nat).kind = 0; }},
           {directory, "directory: block 7 is not nat", [](auto& t) { t.ref(nat).id = 1; }},
           {directory, "directory: settings: not exactly one", [](auto& t) { t.ref(settings).count = 0; }},
           {directory, "directory: settings: not exactly one", [](auto& t) { t.ref(settings).count = 2; }},
           {directory, "directory: block 10 is not the one record",
            [](auto& t) { t.ref(pool, 1).kind = 13; }},
           {directory, "directory: block 10 is not the one record",
            [](auto& t) { t.ref(pool, 1).count = 2; }},
           {directory, "directory: block 10 is not the one record",
            [](auto& t) { t.ref(pool, 1).id = kMaxPools; }},
           {directory, "directory: block 11 is not the backends of pool 1",
            [](auto& t) { t.ref(backends, 1).id = 2; }},
           {directory, "directory: block 13 is not the one record", [](auto& t) { t.ref(pool, 2).id = 1; }},
           {directory, "directory: block 15 is not the one record", [](auto& t) { t.ref(lookup, 2).id = 3; }},
           {directory, "directory: block 17 is not the backends",
            [](auto& t) { t.directory().block_count = kFixedBlocks + 7; }},
           {reference, "block ports: count: 17 is above 16", [](auto& t) { t.ref(ports).count = 17; }},
           {reference, "block lookup of pool 1: count:", [](auto& t) { t.ref(lookup, 1).count = ~0u; }},
           {reference, "block ports: size:", [](auto& t) { t.ref(ports).count = 1; }},
           {reference, "block ports: size:", [](auto& t) { t.ref(ports).size += 1; }},
           {reference, "block nat: offset: not a multiple", [](auto& t) { t.ref(nat).offset += 8; }},
           {reference, "block nat: offset: inside the header", [](auto& t) { t.ref(nat).offset = 0; }},
           {reference, "block nat: offset: outside the file", [](auto& t) { t.ref(nat).offset = ~63ull; }},
           {reference, "block nat: offset: outside the file",
            [](auto& t) { t.ref(nat).offset = t.bytes().size() / 64 * 64; }},
           {reference, "block nat: version", [](auto& t) { t.ref(nat).version = 0; }},
       }) {
    SCOPED_TRACE(c.beginning);
    TableEditor bad = good;
    c.spoil(bad);
    bad.seal();
    expect_refused(adopt(bad), c.reason, c.beginning);
  }
}

TEST(Adopt, AnyFlippedByteOfWhatIsNamedIsSeen) {
  const TableEditor good = TableEditor::publish(sample_content());
  TableEditor bad = good;
  bad.directory().published_realtime_ns ^= 1;
  expect_refused(adopt(bad), RefusalReason::bad_checksum, "directory: wrong checksum");
  for (uint32_t i = 0; i < TableEditor(good).directory().block_count; ++i) {
    bad = good;
    const BlockRef& ref = bad.directory().blocks[i];
    if (ref.size == 0) continue;
    bad.bytes()[ref.offset + ref.size / 2] ^= 0x10;
    expect_refused(adopt(bad), RefusalReason::bad_checksum, "block ");
    bad = good;
    bad.directory().blocks[i].checksum ^= 1;
    bad.directory().checksum = checksum_of(bad.directory());
    expect_refused(adopt(bad), RefusalReason::bad_checksum, "block ");
  }
}

TEST(Adopt, CutAtEveryBoundary) {
  TableEditor good = TableEditor::publish(sample_content());
  std::vector<uint64_t> cuts = {8, 16, 64, 72, sizeof(TableHeader), directory_offset(1), kBlocksStart};
  for (uint32_t i = 0; i < good.directory().block_count; ++i) {
    const BlockRef& ref = good.directory().blocks[i];
    cuts.insert(cuts.end(), {ref.offset, ref.offset + ref.size});
  }
  for (const uint64_t cut : cuts) {
    SCOPED_TRACE(cut);
    for (const uint64_t size : {cut - 1, cut}) {
      TableEditor bad = good;
      bad.bytes().resize(size);
      const AdoptResult result = adopt(bad);
      EXPECT_EQ(result.kind, Kind::refused) << result.text;
      if (size < kBlocksStart) continue;
      // A header that admits to the cut: then it is the block that lies outside.
      EXPECT_EQ(result.reason, RefusalReason::truncated);
      bad.header().file_size = size;
      uint64_t end = 0;
      for (uint32_t i = 0; i < bad.directory().block_count; ++i)
        end = std::max(end, bad.directory().blocks[i].offset + bad.directory().blocks[i].size);
      if (size < end) expect_refused(adopt(bad), RefusalReason::bad_reference, "block ");
    }
  }
  TableEditor empty = good;
  empty.bytes().clear();
  EXPECT_EQ(adopt(empty).reason, RefusalReason::bad_magic);
}

TEST(Adopt, ReplacedByWhatIsNoFile) {
  TempDir dir;
  std::filesystem::create_directory(dir.path() / kTableFile);
  expect_refused(Adopter(dir.path()).poll(), RefusalReason::bad_magic, "table: not a regular file");
  std::filesystem::remove(dir.path() / kTableFile);
  ASSERT_EQ(mkfifo((dir.path() / kTableFile).c_str(), 0600), 0);
  Adopter adopter(dir.path());
  expect_refused(adopter.poll(), RefusalReason::bad_magic, "table: not a regular file");
  EXPECT_EQ(adopter.poll().kind, Kind::unchanged) << "complains once";
}

TEST(Adopt, ARefusedGenerationIsNotTriedAgainAndTheLastGoodOneStays) {
  TempDir dir;
  Publisher(dir.path()).publish(sample_content());
  Adopter adopter(dir.path());
  ASSERT_EQ(adopter.poll().kind, Kind::adopted);
  const auto good = adopter.snapshot();
  TableEditor bad = TableEditor::open(dir.path());
  bad.header().epoch = bad.directory().epoch = 77;
  bad.record<SettingsRecord>(BlockKind::settings, 0).idle = 9;
  bad.seal().save(dir.path());
  expect_refused(adopter.poll(), RefusalReason::bad_record, "settings[0].idle");
  EXPECT_EQ(adopter.poll().kind, Kind::unchanged);
  EXPECT_EQ(adopter.snapshot(), good);
  // Control, restarted, does not go on with such a file either.
  Publisher publisher(dir.path());
  EXPECT_EQ(publisher.recovered(), nullptr);
  EXPECT_NE(publisher.epoch(), 77u);
  EXPECT_EQ(adopter.poll().kind, Kind::no_table);
  publisher.publish(sample_content());
  EXPECT_EQ(adopter.poll().kind, Kind::adopted);
}

TEST(Adopt, RecreatedFileIsAnotherTable) {
  TempDir dir;
  auto publisher = std::make_unique<Publisher>(dir.path());
  for (int i = 0; i < 5; ++i) publisher->publish(sample_content());
  Adopter adopter(dir.path());
  const AdoptResult first = adopter.poll();
  ASSERT_EQ(first.generation, 5u);
  publisher.reset();
  std::filesystem::remove(dir.path() / kTableFile);
  EXPECT_EQ(adopter.poll().kind, Kind::no_table);
  publisher = std::make_unique<Publisher>(dir.path());
  publisher->publish(sample_content());
  const AdoptResult second = adopter.poll();
  ASSERT_EQ(second.kind, Kind::adopted) << second.text;
  EXPECT_EQ(second.generation, 1u) << "generations start over";
  EXPECT_NE(second.epoch, first.epoch);
  EXPECT_EQ(second.blocks_copied, kFixedBlocks + 8) << "nothing of another epoch is taken for the same";
}

TEST(Adopt, GenerationsDoNotGoBackwards) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  const TableEditor old = TableEditor::open(dir.path());
  publisher.publish(sample_content());
  Adopter adopter(dir.path());
  ASSERT_EQ(adopter.poll().kind, Kind::adopted);
  old.save(dir.path());
  expect_refused(adopter.poll(), RefusalReason::bad_directory,
                 "header: current: the generation went backwards");
}

TEST(Adopt, SaysWhatItIsAboutToCopyAndWhenItIsDone) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  std::vector<std::pair<uint64_t, uint64_t>> said;
  Adopter adopter(dir.path(),
                  [&](uint64_t epoch, uint64_t generation) { said.emplace_back(epoch, generation); });
  adopter.poll();
  const uint64_t epoch = publisher.epoch();
  EXPECT_EQ(said, (decltype(said){{epoch, 1}, {epoch, 0}}));
  adopter.poll();
  EXPECT_EQ(said.size(), 2u) << "nothing new, nothing said";
}

TEST(Adopt, StartsOverWhenControlMovesOn) {
  TempDir dir;
  Publisher publisher(dir.path());
  TableContent content = sample_content();
  publisher.publish(content);
  int republish = 3;
  Adopter adopter(dir.path(), [&](uint64_t, uint64_t generation) {
    if (generation == 0 || republish-- <= 0) return;
    content.settings.reset_rate++;
    publisher.publish(content);
  });
  AdoptResult result = adopter.poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_EQ(result.generation, 4u);
  EXPECT_EQ(result.attempts, 4u);
  republish = 1000;
  content.settings.reset_rate++;
  publisher.publish(content);
  expect_refused(adopter.poll(), RefusalReason::moved_on, "table: republished");
  republish = 0;
  result = adopter.poll();
  EXPECT_EQ(result.kind, Kind::adopted) << "once control keeps still";
  EXPECT_EQ(result.generation, publisher.generation());
}

TEST(Adopt, StatusForPeople) {
  TempDir dir;
  EXPECT_NE(read_table_status(dir.path()).text.find("start portico-control"), std::string::npos);
  {
    Publisher publisher(dir.path());
    publisher.publish(sample_content());
    const TableStatus status = read_table_status(dir.path());
    EXPECT_TRUE(status.readable);
    EXPECT_TRUE(status.writer.alive);
    EXPECT_EQ(status.writer.pid, getpid());
    EXPECT_EQ(status.generation, 1u);
  }
  EXPECT_FALSE(read_table_status(dir.path()).writer.alive);
  EXPECT_TRUE(read_table_status(dir.path()).readable);
  TableEditor other = TableEditor::open(dir.path());
  other.header().abi_version = kAbiVersion + 1;
  other.save(dir.path());
  EXPECT_NE(read_table_status(dir.path()).text.find("abi_version"), std::string::npos);
}

}  // namespace
}  // namespace portico
