// SPDX-License-Identifier: Apache-2.0
// Several workers behind a NIC that spreads by a Toeplitz hash: replies find the worker that has the flow.
#include <gtest/gtest.h>
#include <set>

#include "tests/packet/rig.h"
#include "tests/support/nic_model.h"

namespace portico::test {
namespace {

constexpr size_t kEntries = 128;

class HandOver : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Queues, HandOver, testing::Values(1, 2, 3, 8, 16));

// Connections of both families through a NIC that spreads by the model. Returns how many replies arrive at
// another worker than the one that has the flow.
uint64_t connect(Rig& rig, const RssModel& nic) {
  std::set<std::string> tuples;
  uint64_t elsewhere = 0;
  for (const auto& [client, vip] : {std::pair(kClient4, kVip4), std::pair(kClient6, kVip6)}) {
    for (uint16_t port = 1000; port < 1200; ++port) {
      const uint32_t home = queue_of(nic, client, port, vip, kNat);
      const Seen in = rig.send_one(Tcp(client, port, vip, kNat).flags(kSynFlag), home);
      EXPECT_TRUE(tuples.insert(in.destination + " " + std::to_string(in.source_port)).second)
          << "ports are unique per backend over all workers";
      const uint32_t back = queue_of(nic, in.destination, kNat, in.source, in.source_port);
      elsewhere += back != home;
      const Seen out = rig.send_one(
          Tcp(in.destination, kNat, in.source, in.source_port).flags(kSynFlag).seq(9).ack(1001), back);
      EXPECT_EQ(out.destination, client);
      EXPECT_EQ(out.destination_port, port);
      EXPECT_TRUE(out.checksums_right);
      rig.send_one(Tcp(client, port, vip, kNat).seq(1001).ack(10).payload("x"), home);
    }
  }
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 400u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::packets_out), 400u);
  return elsewhere;
}

TEST_P(HandOver, RepliesReachTheFlowsWorker) {
  const uint32_t queues = GetParam();
  Rig rig(usual_content(), {.workers = queues});
  const uint64_t elsewhere = connect(rig, nic_model(kUsualKey, kEntries, queues));
  EXPECT_EQ(rig.total(&WorkerCounters::handed_over), elsewhere);
  EXPECT_EQ(elsewhere == 0, queues == 1);
}

TEST_P(HandOver, WhereTheSpreadIsKnownRepliesComeToTheFlowsWorker) {
  const uint32_t queues = GetParam();
  for (const RssKey& key : {kUsualKey, random_rss_key()}) {
    const RssModel nic = nic_model(key, kEntries, queues);
    Rig rig(usual_content(), {.workers = queues, .spreads = std::make_shared<ReplySpreads>(nic, queues)});
    EXPECT_EQ(connect(rig, nic), 0u);
    EXPECT_EQ(rig.total(&WorkerCounters::handed_over), 0u);
  }
}

// A second port without RSS, or with another key: its replies arrive anywhere.
TEST_P(HandOver, RepliesThatANicSpreadsOtherwiseAreHandedOver) {
  const uint32_t queues = GetParam();
  const RssModel known = nic_model(kUsualKey, kEntries, queues),
                 nic = nic_model(symmetric_key(), 512, queues);
  Rig rig(usual_content(), {.workers = queues, .spreads = std::make_shared<ReplySpreads>(known, queues)});
  const uint64_t elsewhere = connect(rig, nic);
  EXPECT_EQ(rig.total(&WorkerCounters::handed_over), elsewhere);
  EXPECT_EQ(elsewhere == 0, queues == 1);
  // Of a flow that nobody has, it is asked once.
  const uint64_t before = rig.total(&WorkerCounters::handed_over);
  for (uint32_t worker = 0; worker < queues; ++worker)
    EXPECT_TRUE(rig.send_one(Tcp("198.18.1.1", kNat, kNat4, 64999).ack(5), worker).flags & kRstFlag);
  EXPECT_EQ(rig.total(&WorkerCounters::handed_over) - before, queues - 1);
  EXPECT_EQ(rig.drops(DropReason::unknown_reply), queues);
}

// Of few ports each worker gives those that are its own, and no more.
TEST_P(HandOver, AFewPortsAreSharedOutToTheLast) {
  const uint32_t queues = GetParam();
  TableContent content = usual_content();
  aim_at(content, 1);
  content.nat[0].first_port = 5000;
  content.nat[0].last_port = 5063;
  const RssModel nic = nic_model(random_rss_key(), kEntries, queues);
  Rig rig(content, {.workers = queues, .spreads = std::make_shared<ReplySpreads>(nic, queues)});
  std::set<uint16_t> ports;
  for (uint32_t worker = 0; worker < queues; ++worker) {
    for (uint16_t client = 1; client <= 64; ++client) {
      const Seen in = rig.send_one(
          Tcp(kClient4, static_cast<uint16_t>(client + 100 * worker), kVip4, kNat).flags(kSynFlag), worker);
      if (in.destination != "198.18.1.1") break;
      EXPECT_TRUE(ports.insert(in.source_port).second);
      rig.send_one(Tcp("198.18.1.1", kNat, in.source, in.source_port).flags(kSynFlag).seq(9).ack(1001),
                   worker);
      rig.send_one(Tcp(kClient4, static_cast<uint16_t>(client + 100 * worker), kVip4, kNat).seq(1001).ack(10),
                   worker);
    }
  }
  EXPECT_EQ(ports.size(), 64u);
  EXPECT_EQ(rig.total(&WorkerCounters::handed_over), 0u);
}

}  // namespace
}  // namespace portico::test
