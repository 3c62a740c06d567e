// SPDX-License-Identifier: Apache-2.0
// Mode dnat: backends see the clients' own addresses, and replies are told by the backend's endpoint alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint16_t kHttps = 443, kOther = 444, kBackendPort = 8443;
constexpr uint32_t kWorkers = 3;

struct Ends {
  const char *client, *vip, *backend, *second, *own, *router;
  uint8_t unreachable, too_big;
};
constexpr Ends kV4{kClient4, kVip4, "198.18.1.1", "198.18.1.2", "198.18.1.254", "192.0.2.254", 3, 3},
    kV6{kClient6, kVip6, "2001:db8:1::1", "2001:db8:1::2", "2001:db8:1::fe", "2001:db8:f::1", 1, 2};

// Services 2 on port 443 and 3 on port 444 lead to port 8443 of the same backends. Backend 1 has all slots.
TableContent dnat_content() {
  TableContent c = usual_content();
  c.services.push_back(sample_service(3, 1));
  for (const size_t i : {1u, 2u}) {
    c.services[i].mode = static_cast<uint8_t>(Mode::dnat);
    c.services[i].backend_port = kBackendPort;
  }
  c.listeners.push_back({address(kVip4), kOther, 3, 0});
  c.listeners.push_back({address(kVip6), kOther, 3, 0});
  std::sort(c.listeners.begin(), c.listeners.end(), [](const auto& a, const auto& b) {
    return std::pair(a.address, a.port) < std::pair(b.address, b.port);
  });
  c.own = {{address(kV4.own)}, {address(kV6.own)}};
  c.nat.clear();
  aim_at(c, 1);
  return c;
}

class Dnat : public testing::TestWithParam<Ends> {
 protected:
  void start(const RigOptions& options = {.workers = kWorkers}) {
    rig_ = std::make_unique<Rig>(content_, options);
  }
  const Ends& ends() const { return GetParam(); }
  Tcp from_client(uint16_t port = 40000, uint16_t vip_port = kHttps) const {
    return Tcp(ends().client, port, ends().vip, vip_port);
  }
  Tcp from_backend(uint16_t port = 40000) const {
    return Tcp(ends().backend, kBackendPort, ends().client, port);
  }
  // A handshake whose packets arrive at the workers in turn.
  void connect(uint16_t port = 40000, uint32_t isn = 1000) {
    rig_->send_one(from_client(port).flags(kSynFlag).seq(isn), next_++ % worker_count_);
    rig_->send_one(from_backend(port).flags(kSynFlag).seq(5000).ack(isn + 1), next_++ % worker_count_);
    rig_->send_one(from_client(port).seq(isn + 1).ack(5001), next_++ % worker_count_);
  }

  TableContent content_ = dnat_content();
  uint32_t worker_count_ = kWorkers, next_ = 0;
  std::unique_ptr<Rig> rig_;
};
INSTANTIATE_TEST_SUITE_P(Families, Dnat, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

TEST_P(Dnat, ASynWithoutAnswerIsCounted) {
  start();
  connect(40000);
  rig_->send_one(from_client(40001).flags(kSynFlag).seq(1000));
  rig_->sweep_ms(170);
  EXPECT_EQ(rig_->of_backend(1, &BackendFeedback::syns_unanswered), 0u);
  rig_->sweep_ms(60);
  EXPECT_EQ(rig_->of_backend(1, &BackendFeedback::syns_unanswered), 1u);
}

TEST_P(Dnat, TheBackendSeesTheClientAndTheClientSeesTheVip) {
  start();
  for (uint16_t port = 40000; port < 40030; ++port) {
    for (uint32_t at = 0; at < kWorkers; ++at) {
      const bool is_first = at == 0;
      const Tcp in = is_first ? from_client(port).flags(kSynFlag) : from_client(port).seq(1001).ack(5001);
      const Seen to = rig_->send_one(in, at);
      EXPECT_EQ(to.source, ends().client);
      EXPECT_EQ(to.source_port, port);
      EXPECT_EQ(to.destination, ends().backend);
      EXPECT_EQ(to.destination_port, kBackendPort);
      EXPECT_EQ(to.mac, "02:00:00:00:00:11");
      EXPECT_EQ(to.ttl, 63);
      EXPECT_TRUE(to.checksums_right);
      Tcp out = from_backend(port).seq(5000).ack(1001);
      if (is_first) out.flags(kSynFlag | kAckFlag);
      const Seen back = rig_->send_one(out, (at + 1) % kWorkers);
      EXPECT_EQ(back.source, ends().vip);
      EXPECT_EQ(back.source_port, kHttps);
      EXPECT_EQ(back.destination, ends().client);
      EXPECT_EQ(back.destination_port, port);
      EXPECT_TRUE(back.checksums_right);
    }
  }
  EXPECT_EQ(rig_->total(&WorkerCounters::flows), 30u);
  EXPECT_EQ(rig_->total(&WorkerCounters::nat_ports_used), 0u);
  EXPECT_EQ(rig_->of_service(2, &ServiceFeedback::packets_in), 90u);
  EXPECT_EQ(rig_->of_service(2, &ServiceFeedback::packets_out), 90u);
  for (uint32_t i = 0; i < kWorkers; ++i)
    EXPECT_GT(load_counter(rig_->worker(i).counters().flows), 0u) << "clients spread over the workers";
}

TEST_P(Dnat, BurstsOfBothDirectionsGoThroughAlike) {
  worker_count_ = 1;
  start({.workers = 1});
  for (uint16_t port = 1; port <= 20; ++port) connect(port);
  std::vector<Bytes> burst;
  for (uint16_t port = 1; port <= 20; ++port) {
    burst.push_back(from_client(port).seq(1001).ack(5001).payload("abc"));
    burst.push_back(from_backend(port).seq(5001).ack(1004).payload("defg"));
  }
  const auto out = rig_->send(burst);
  ASSERT_EQ(out.size(), 40u);
  for (const Seen& seen : out) {
    EXPECT_EQ(seen.payload, seen.destination == ends().backend ? "abc" : "defg");
    EXPECT_TRUE(seen.checksums_right);
  }
}

TEST_P(Dnat, WhatBackendsSendToTheHostItselfIsTheKernels) {
  start({.workers = kWorkers, .kernel_ports = 1});
  EXPECT_TRUE(rig_->send(Tcp(ends().backend, kBackendPort, ends().own, 50000).ack(1)).empty());
  EXPECT_TRUE(rig_->send(Tcp(ends().backend, 50000, ends().client, 443).flags(kSynFlag)).empty());
  EXPECT_TRUE(rig_->send(Tcp(ends().router, kBackendPort, ends().client, 50000).ack(1)).empty());
  EXPECT_EQ(rig_->kernel_packets(), 3u);
  EXPECT_EQ(rig_->drops(DropReason::unknown_reply), 0u);
}

TEST_P(Dnat, AReplyToNobodyIsAnsweredWithReset) {
  start();
  for (uint32_t at = 0; at < kWorkers; ++at) {
    const Seen rst = rig_->send_one(from_backend(50000).ack(77), at);
    EXPECT_EQ(rst.flags, kRstFlag);
    EXPECT_EQ(rst.seq, 77u);
    EXPECT_EQ(rst.source, ends().client);
    EXPECT_EQ(rst.destination, ends().backend);
  }
  EXPECT_EQ(rig_->drops(DropReason::unknown_reply), kWorkers);
  EXPECT_EQ(rig_->send_one(from_client().ack(5)).flags, kRstFlag) << "nor is a connection taken up half way";
  EXPECT_EQ(rig_->drops(DropReason::unknown_flow), 1u);
}

TEST_P(Dnat, ASecondConnectionThatRepliesWouldNotTellApartIsRefused) {
  start();
  connect();
  for (uint32_t at = 0; at < kWorkers; ++at) {
    const Seen refused = rig_->send_one(from_client(40000, kOther).flags(kSynFlag), at);
    EXPECT_TRUE(refused.flags & kRstFlag);
    EXPECT_EQ(refused.source_port, kOther);
  }
  EXPECT_EQ(rig_->drops(DropReason::reply_ambiguous), kWorkers);
  EXPECT_EQ(rig_->send_one(from_client(40001, kOther).flags(kSynFlag)).destination_port, kBackendPort);
  const Seen back = rig_->send_one(from_backend().seq(5001).ack(1001).payload("x"));
  EXPECT_EQ(back.source_port, kHttps) << "the first one goes on";
  rig_->send(from_backend().seq(5002).flags(kFinFlag | kAckFlag).ack(1001));
  rig_->send(from_client().seq(1001).flags(kFinFlag | kAckFlag).ack(5003));
  EXPECT_EQ(rig_->send_one(from_client(40000, kOther).flags(kSynFlag)).destination, ends().backend)
      << "when the first is over, its place is free";
  EXPECT_EQ(rig_->send_one(from_backend().flags(kSynFlag).seq(1).ack(1001)).source_port, kOther);
}

TEST_P(Dnat, APortIsUsedAgainForTheSameService) {
  start();
  for (uint32_t i = 0; i < 3; ++i) {
    connect(40000, 1000 + i * 100);
    rig_->send(from_client().seq(1001 + i * 100).flags(kRstFlag));
    EXPECT_EQ(rig_->total(&WorkerCounters::flows), 1u);
  }
  EXPECT_EQ(rig_->of_service(2, &ServiceFeedback::new_flows), 3u);
  rig_->sweep_ms(90'000);
  EXPECT_EQ(rig_->total(&WorkerCounters::flows), 0u);
  connect();
  EXPECT_EQ(rig_->total(&WorkerCounters::nat_ports_used), 0u);
}

TEST_P(Dnat, ErrorsAboutPacketsToTheBackendReachTheClientAsAboutItsOwn) {
  start();
  connect();
  const Bytes sent = Tcp(ends().client, 40000, ends().backend, kBackendPort).ack(1).payload("abcdefgh").ip();
  for (uint32_t at = 0; at < kWorkers; ++at) {
    const Seen out =
        rig_->send_one(icmp_error(ends().router, ends().client, ends().too_big, sent, sent.size()), at);
    EXPECT_EQ(out.source, ends().router);
    EXPECT_EQ(out.destination, ends().client);
    EXPECT_TRUE(out.checksums_right);
    const Seen inner = read_ip(out.icmp_embedded);
    EXPECT_EQ(inner.source, ends().client);
    EXPECT_EQ(inner.destination, ends().vip);
    EXPECT_EQ(inner.destination_port, kHttps);
    EXPECT_TRUE(inner.checksums_right);
  }
  const Seen own =
      rig_->send_one(icmp_error(ends().backend, ends().client, ends().unreachable, sent, sent.size()));
  EXPECT_EQ(own.source, ends().vip) << "clients do not know the backend";
  const Bytes unknown = Tcp(ends().client, 40001, ends().backend, kBackendPort).ack(1).ip();
  EXPECT_TRUE(rig_->send(icmp_error(ends().router, ends().client, ends().too_big, unknown, 48)).empty());
  EXPECT_EQ(rig_->drops(DropReason::icmp_unknown_flow), 1u);
  const Bytes other = Tcp(ends().client, 40000, ends().backend, 22).ack(1).ip();
  EXPECT_TRUE(rig_->send(icmp_error(ends().router, ends().client, ends().too_big, other, 48)).empty());
  EXPECT_EQ(rig_->drops(DropReason::not_ours), 1u) << "of other connections, the kernel's";
}

TEST_P(Dnat, ErrorsAboutPacketsToTheClientReachTheBackend) {
  start();
  connect();
  const Bytes sent = Tcp(ends().vip, kHttps, ends().client, 40000).ack(1).payload("0123456").ip();
  for (uint32_t at = 0; at < kWorkers; ++at) {
    const Seen out =
        rig_->send_one(icmp_error(ends().router, ends().vip, ends().too_big, sent, sent.size()), at);
    EXPECT_EQ(out.destination, ends().backend);
    EXPECT_EQ(out.mac, "02:00:00:00:00:11");
    EXPECT_TRUE(out.checksums_right);
    const Seen inner = read_ip(out.icmp_embedded);
    EXPECT_EQ(inner.source, ends().backend);
    EXPECT_EQ(inner.source_port, kBackendPort);
    EXPECT_EQ(inner.destination, ends().client);
    EXPECT_EQ(inner.destination_port, 40000);
    EXPECT_TRUE(inner.checksums_right);
  }
}

TEST_P(Dnat, WhenTheBackendGoesDownBothEndsAreReset) {
  start();
  connect();
  content_.pools[0].backends[0].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  aim_at(content_, 2);
  rig_->adopt(content_);
  const auto sent = rig_->sweep_ms(1000);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].source, ends().vip);
  EXPECT_EQ(sent[0].destination, ends().client);
  EXPECT_EQ(sent[0].seq, 5001u);
  EXPECT_EQ(sent[1].source, ends().client);
  EXPECT_EQ(sent[1].destination, ends().backend);
  EXPECT_EQ(sent[1].destination_port, kBackendPort);
  EXPECT_EQ(sent[1].seq, 1001u);
  EXPECT_EQ(rig_->send_one(from_client().flags(kSynFlag).seq(9)).destination, ends().second);
}

TEST_P(Dnat, AServiceThatBecomesNatResetsItsConnections) {
  start();
  connect();
  content_.services[1].mode = static_cast<uint8_t>(Mode::nat);
  content_.nat = usual_content().nat;
  rig_->adopt(content_);
  const auto sent = rig_->sweep_ms(1000);
  EXPECT_EQ(sent.size(), 2u);
}

TEST_P(Dnat, ConnectionsOutliveTheProcessWithAnyNumberOfWorkers) {
  char name[] = "/dev/shm/portico-dnat-XXXXXX";
  const std::filesystem::path directory = mkdtemp(name);
  uint64_t now = 1'000'000'000;
  uint32_t before = 0;
  for (const uint32_t workers : {1u, 3u, 2u, 2u}) {
    worker_count_ = workers;
    start({.workers = workers, .keep = directory, .now = now});
    if (before == 0)
      for (uint16_t port = 1; port <= 40; ++port) connect(port);
    EXPECT_EQ(rig_->total(&WorkerCounters::flows), 40u);
    for (uint16_t port = 1; port <= 40; ++port) {
      EXPECT_EQ(rig_->send_one(from_client(port).seq(1001).ack(5001), port % workers).destination,
                ends().backend);
      EXPECT_EQ(rig_->send_one(from_backend(port).seq(5001).ack(1001), (port + 1) % workers).source_port,
                kHttps);
    }
    before = workers;
    now = rig_->now() + 100'000;
    rig_.reset();
  }
  std::filesystem::remove_all(directory);
}

// Whoever sends from a backend's port in its name can reach no connection but those that are there.
TEST_P(Dnat, ListenersComeBeforeReplies) {
  start();
  const Seen out = rig_->send_one(Tcp(ends().backend, kBackendPort, ends().vip, kHttps).flags(kSynFlag));
  EXPECT_EQ(out.source, ends().backend);
  EXPECT_EQ(out.destination_port, kBackendPort) << "a portal that is a client, too";
}

}  // namespace
}  // namespace portico::test
