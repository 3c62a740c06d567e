// SPDX-License-Identifier: Apache-2.0
// Several workers behind a NIC that spreads by a Toeplitz hash: replies find the worker that has the flow.
#include <gtest/gtest.h>
#include <rte_thash.h>

#include <set>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

// Microsoft's verification key, which many NICs have by default.
uint8_t kKey[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
                    0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
                    0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

// The queue that a packet of this tuple comes to.
uint32_t queue_of(const std::string& source, uint16_t source_port, const std::string& destination,
                  uint16_t destination_port, uint32_t queues) {
  const Address from = Address::parse(source).value(), to = Address::parse(destination).value();
  uint32_t words[9];
  uint32_t n = 0;
  const auto add = [&](const Address& a) {
    for (size_t at = a.is_v4() ? 12 : 0; at < 16; at += 4)
      words[n++] = static_cast<uint32_t>(a.bytes[at]) << 24 | static_cast<uint32_t>(a.bytes[at + 1]) << 16 |
                   static_cast<uint32_t>(a.bytes[at + 2]) << 8 | a.bytes[at + 3];
  };
  add(from);
  add(to);
  words[n++] = static_cast<uint32_t>(source_port) << 16 | destination_port;
  return rte_softrss(words, n, kKey) % queues;
}

class HandOver : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Queues, HandOver, testing::Values(1, 2, 3, 8));

TEST_P(HandOver, RepliesReachTheFlowsWorker) {
  const uint32_t queues = GetParam();
  Rig rig(usual_content(), {.workers = queues});
  std::set<std::string> tuples;
  uint64_t elsewhere = 0;
  for (const auto& [client, vip] : {std::pair(kClient4, kVip4), std::pair(kClient6, kVip6)}) {
    for (uint16_t port = 1000; port < 1200; ++port) {
      const uint32_t home = queue_of(client, port, vip, kNat, queues);
      const Seen in = rig.send_one(Tcp(client, port, vip, kNat).flags(kSynFlag), home);
      EXPECT_TRUE(tuples.insert(in.destination + " " + std::to_string(in.source_port)).second)
          << "ports are unique per backend over all workers";
      const uint32_t back = queue_of(in.destination, kNat, in.source, in.source_port, queues);
      elsewhere += back != home;
      const Seen out = rig.send_one(
          Tcp(in.destination, kNat, in.source, in.source_port).flags(kSynFlag).seq(9).ack(1001), back);
      EXPECT_EQ(out.destination, client);
      EXPECT_EQ(out.destination_port, port);
      EXPECT_TRUE(out.checksums_right);
      rig.send_one(Tcp(client, port, vip, kNat).seq(1001).ack(10).payload("x"), home);
    }
  }
  EXPECT_EQ(rig.total(&WorkerCounters::handed_over), elsewhere);
  EXPECT_EQ(elsewhere == 0, queues == 1);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 400u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::packets_out), 400u);
}

}  // namespace
}  // namespace portico::test
