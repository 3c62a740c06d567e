// SPDX-License-Identifier: Apache-2.0
// What control puts into the table file is what the dataplane takes out of it, at the cost of what changed.
#include "contract/publisher.h"

#include <gtest/gtest.h>

#include "contract/adopter.h"
#include "contract/table_file.h"
#include "tests/support/sample_table.h"

namespace portico {
namespace {

using Kind = AdoptResult::Kind;
using test::big_content;
using test::sample_content;
using test::TempDir;

TEST(Publish, AdoptedAsPublished) {
  TempDir dir;
  Publisher publisher(dir.path());
  Adopter adopter(dir.path());
  EXPECT_EQ(adopter.poll().kind, Kind::no_table);
  EXPECT_EQ(publisher.publish(sample_content()), 1u);
  const AdoptResult result = adopter.poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_EQ(result.generation, 1u);
  EXPECT_EQ(result.epoch, publisher.epoch());
  const Snapshot& s = *result.snapshot;
  EXPECT_EQ(s.config_version, 1u);
  EXPECT_EQ(s.services->records<ServiceRecord>()[1].access_list, 5);
  EXPECT_EQ(s.listeners->ref.count, 3u);
  ASSERT_EQ(s.pools.size(), 3u);
  EXPECT_EQ(s.pools[0].pool().usable_count, 3u);
  EXPECT_EQ(s.pools[0].lookup->ref.count, 251u);
  EXPECT_EQ(s.pools[2].lookup, nullptr);
  EXPECT_EQ(s.pools[2].pool().backend_count, 0u);
  EXPECT_EQ(adopter.poll().kind, Kind::unchanged);
}

TEST(Publish, EmptyTableIsATable) {
  TempDir dir;
  Publisher publisher(dir.path());
  TableContent content;
  content.settings = test::sample_settings();
  publisher.publish(content);
  const AdoptResult result = Adopter(dir.path()).poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_TRUE(result.snapshot->pools.empty());
}

TEST(Publish, OneOf256PoolsCostsItsOwnBlocks) {
  TempDir dir;
  Publisher publisher(dir.path());
  Adopter adopter(dir.path());
  TableContent content = big_content(256, 1021, 1024);
  publisher.publish(content);
  const AdoptResult all = adopter.poll();
  ASSERT_EQ(all.kind, Kind::adopted) << all.text;
  EXPECT_EQ(all.blocks_copied, kFixedBlocks + 256 * (kBlocksPerPool - 1)) << "no fallbacks";

  TableContent::Pool& pool = content.pools[100];
  pool.lookup[5] = pool.lookup[6];
  publisher.publish(content);
  const AdoptResult lookup = adopter.poll();
  ASSERT_EQ(lookup.kind, Kind::adopted) << lookup.text;
  EXPECT_EQ(lookup.blocks_copied, 1u);
  EXPECT_EQ(lookup.bytes_copied, 1021u * 2);
  EXPECT_EQ(publisher.last_written().bytes, 1021u * 2);
  EXPECT_EQ(lookup.snapshot->pools[99].lookup, all.snapshot->pools[99].lookup) << "the very same block";
  EXPECT_NE(lookup.snapshot->pools[100].lookup, all.snapshot->pools[100].lookup);

  pool.backends.pop_back();
  for (uint16_t& slot : pool.lookup) slot = pool.backends[0].id;
  publisher.publish(content);
  const AdoptResult changed = adopter.poll();
  ASSERT_EQ(changed.kind, Kind::adopted) << changed.text;
  EXPECT_EQ(changed.blocks_copied, 3u);
  EXPECT_EQ(changed.bytes_copied, sizeof(PoolRecord) + 3 * sizeof(BackendRecord) + 1021u * 2);
}

TEST(Publish, AKnownChecksumSparesLookingAtTheSlots) {
  TempDir dir;
  Publisher publisher(dir.path());
  TableContent content = big_content(3, 1021, 12);
  const auto sum = [](TableContent::Pool& pool) {
    pool.lookup_checksum = checksum_of(pool.lookup.data(), pool.lookup.size() * sizeof(uint16_t));
  };
  for (auto& pool : content.pools) sum(pool);
  publisher.publish(content);
  content.pools[1].backends[0].weight += 1;
  publisher.publish(content);
  EXPECT_EQ(publisher.last_written().blocks, 1u) << "the backends";
  for (uint16_t& slot : content.pools[1].lookup) slot = content.pools[1].backends[0].id;
  sum(content.pools[1]);
  publisher.publish(content);
  EXPECT_EQ(publisher.last_written().blocks, 2u) << "the slots, and how many backends have some";
  const AdoptResult adopted = Adopter(dir.path()).poll();
  ASSERT_EQ(adopted.kind, Kind::adopted) << adopted.text;
  EXPECT_EQ(adopted.snapshot->pools[1].pool().usable_count, 1u);
}

TEST(Publish, TheSameContentAgainCopiesNothing) {
  TempDir dir;
  Publisher publisher(dir.path());
  Adopter adopter(dir.path());
  publisher.publish(sample_content());
  adopter.poll();
  TableContent content = sample_content();
  content.config_version = 2;
  publisher.publish(content);
  const AdoptResult result = adopter.poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_EQ(result.blocks_copied, 0u);
  EXPECT_EQ(result.snapshot->config_version, 2u);
}

TEST(Publish, LargestTable) {
  TempDir dir;
  Publisher publisher(dir.path());
  TableContent content = big_content(256, kDefaultLookupSize, kMaxBackends);
  while (content.services.size() < kMaxServices) {
    const auto id = static_cast<uint16_t>(content.services.size());
    content.services.push_back(test::sample_service(id, id % kMaxPools));
    content.listeners.push_back({test::v4_host(1024u + id), 443, id, 0});
  }
  publisher.publish(content);
  Adopter adopter(dir.path());
  const AdoptResult result = adopter.poll();
  ASSERT_EQ(result.kind, Kind::adopted) << result.text;
  EXPECT_EQ(result.snapshot->pools.size(), kMaxPools);
  EXPECT_GE(result.bytes_copied, uint64_t{256} * kDefaultLookupSize * 2);
  content.pools.push_back(content.pools.back());
  EXPECT_THROW(publisher.publish(content), std::invalid_argument);
}

TEST(Publish, RefusesWhatTheDataplaneWouldRefuse) {
  TempDir dir;
  Publisher publisher(dir.path());
  publisher.publish(sample_content());
  TableContent content = sample_content();
  content.services[1].pool = 99;
  try {
    publisher.publish(content);
    FAIL() << "published a service of a pool that is not there";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "services[1].pool: there is no pool 99");
  }
  EXPECT_EQ(publisher.generation(), 1u);
  EXPECT_EQ(publisher.publish(sample_content()), 2u) << "and goes on";
}

TEST(Publish, SecondInstanceIsToldWhoIsThere) {
  TempDir dir;
  Publisher publisher(dir.path());
  try {
    Publisher second(dir.path());
    FAIL() << "two publishers on one run directory";
  } catch (const std::runtime_error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("a second instance on the same run directory"), std::string::npos) << text;
    EXPECT_NE(text.find("process " + std::to_string(getpid())), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace portico
