// SPDX-License-Identifier: Apache-2.0
// Walks through live flows: each is seen once, filters hold, and the worker goes on meanwhile.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "dataplane/flow_list.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

struct Seen4 {
  std::multiset<uint16_t> ports;
  uint64_t counted = 0;
  uint32_t pages = 0;
  std::vector<ListedFlow> flows;
};

Seen4 walk(Rig& rig, const FlowFilter& filter, uint32_t visits, uint32_t page) {
  Seen4 seen;
  FlowWalk walk{.filter = filter, .most_visits = visits, .most_flows = page};
  while (!walk.is_over && ++seen.pages < 10'000) {
    walk.flows.clear();
    rig.worker().look_through(walk, rig.now());
    EXPECT_LE(walk.flows.size(), page);
    for (const ListedFlow& flow : walk.flows) seen.ports.insert(flow.client_port);
    seen.flows.insert(seen.flows.end(), walk.flows.begin(), walk.flows.end());
  }
  for (const uint64_t n : walk.by_state) seen.counted += n;
  return seen;
}

// 40 flows of each family and mode.
void open_flows(Rig& rig) {
  for (uint16_t i = 0; i < 40; ++i) {
    rig.send_one(Tcp(kClient4, static_cast<uint16_t>(1000 + i), kVip4, kNat).flags(kSynFlag));
    rig.send_one(Tcp(kClient6, static_cast<uint16_t>(2000 + i), kVip6, kNat).flags(kSynFlag));
    rig.send_one(Tcp("198.18.77.7", static_cast<uint16_t>(3000 + i), kVip4, kDsr).flags(kSynFlag));
    rig.send_one(Tcp(kClient6, static_cast<uint16_t>(4000 + i), kVip6, kDsr).flags(kSynFlag));
  }
}

TEST(FlowWalk, SeesEachFlowOnceWhateverThePages) {
  Rig rig(usual_content());
  open_flows(rig);
  for (const auto& [visits, page] : {std::pair{1000u, 1000u}, {1u, 1000u}, {7u, 3u}, {1000u, 1u}}) {
    const Seen4 seen = walk(rig, {}, visits, page);
    EXPECT_EQ(seen.ports.size(), 160u) << visits << ", " << page;
    EXPECT_EQ(std::set(seen.ports.begin(), seen.ports.end()).size(), 160u);
    EXPECT_EQ(seen.counted, 160u);
  }
  const Seen4 counted = walk(rig, {}, 13, 0);
  EXPECT_EQ(counted.counted, 160u);
  EXPECT_TRUE(counted.flows.empty());
}

TEST(FlowWalk, FiltersByServiceBackendAndClient) {
  Rig rig(usual_content());
  open_flows(rig);
  const Seen4 one = walk(rig, {.client = Prefix::parse("198.18.77.0/24")}, 1000, 1000);
  EXPECT_EQ(one.ports.size(), 40u);
  EXPECT_EQ(*one.ports.begin(), 3000);
  const uint16_t service = one.flows[0].service;
  EXPECT_EQ(walk(rig, {.service = service}, 1000, 0).counted, 80u);
  EXPECT_EQ(walk(rig, {.service = service, .client = Prefix::parse("2001:db8::/32")}, 1000, 0).counted, 40u);
  uint64_t sum = 0;
  std::set<uint16_t> backends;
  for (const ListedFlow& flow : walk(rig, {}, 1000, 1000).flows) backends.insert(flow.backend);
  for (const uint16_t backend : backends) sum += walk(rig, {.backend = backend}, 1000, 0).counted;
  EXPECT_EQ(sum, 160u);
  EXPECT_EQ(walk(rig, {.backend = 4000}, 1000, 0).counted, 0u);
}

TEST(FlowWalk, SaysWhatAFlowIs) {
  Rig rig(usual_content());
  const Seen in = rig.send_one(Tcp(kClient4, 1000, kVip4, kNat).flags(kSynFlag));
  rig.advance_ms(320);
  const Seen4 seen = walk(rig, {}, 1000, 10);
  ASSERT_EQ(seen.flows.size(), 1u);
  const ListedFlow& flow = seen.flows[0];
  EXPECT_EQ(to_string(flow.client), kClient4);
  EXPECT_EQ(to_string(flow.vip), kVip4);
  EXPECT_EQ(flow.vip_port, kNat);
  EXPECT_EQ(to_string(flow.nat), in.source);
  EXPECT_EQ(flow.nat_port, in.source_port);
  EXPECT_EQ(flow.state, FlowState::syn);
  EXPECT_NEAR(flow.idle_ms, 320, 32);
}

// Flows push each other out of a small table as fast as can be: none is seen that is a mixture of two. Of
// each the client's last byte and port say the same.
TEST(FlowWalk, TheWorkerGoesOn) {
  Rig rig(usual_content(), {.flows = 4});
  std::atomic<bool> is_over{false};
  uint64_t seen = 0, mixed = 0;
  std::thread reader([&] {
    while (!is_over) {
      FlowWalk walk{.most_visits = 100, .most_flows = 50};
      rig.worker().look_through(walk, 0);
      for (const ListedFlow& flow : walk.flows) {
        mixed += flow.client.bytes[15] != (flow.client_port & 0xff) || to_string(flow.vip) != kVip4;
        ++seen;
      }
    }
  });
  for (uint32_t round = 0; round < 3000; ++round) {
    std::vector<Bytes> burst;
    for (uint32_t i = 1; i <= 64; ++i) {
      const uint32_t n = (round * 64 + i) % 250 + 1;
      const std::string client = "198.18.77." + std::to_string(n);
      burst.push_back(Tcp(client.c_str(), static_cast<uint16_t>(1024 + n), kVip4, kNat).flags(kSynFlag));
    }
    rig.send(burst);
  }
  is_over = true;
  reader.join();
  EXPECT_GT(seen, 1000u);
  EXPECT_EQ(mixed, 0u);
}

TEST(FlowsQuery, TakesWhatAnAnswerNamedAndNothingElse) {
  std::string complaint;
  const auto query =
      parse_flows_query("3,-,2001:db8::/32,40," + std::to_string(flows_cursor(2, 77)), complaint);
  ASSERT_TRUE(query) << complaint;
  EXPECT_EQ(query->filter.service, 3);
  EXPECT_EQ(query->filter.backend, kNone);
  EXPECT_EQ(to_string(*query->filter.client), "2001:db8::/32");
  EXPECT_EQ(query->count, 40u);
  EXPECT_EQ(query->worker, 2u);
  EXPECT_EQ(query->at, 77u);
  for (const char* wrong : {"", "-,-,-,1", "-,-,-,1,0,0", "x,-,-,1,0", "-,65535,-,1,0",
                            "-,-,192.0.2.1/24,1,0", "-,-,-,-1,0", "-,-,-,1,-", "-,-,-,99999999999,0", ",,,,"})
    EXPECT_FALSE(parse_flows_query(wrong, complaint)) << wrong;
  // A cursor that no answer named ends the walk.
  Rig rig(usual_content());
  open_flows(rig);
  for (const uint64_t at : {~uint64_t{0} >> 24, uint64_t{9} << 32, uint64_t{1} << 31}) {
    FlowWalk walk{.at = at, .most_visits = 1000, .most_flows = 10};
    rig.worker().look_through(walk, rig.now());
    EXPECT_TRUE(walk.is_over || walk.flows.size() <= 10);
  }
}

}  // namespace
}  // namespace portico::test
