// SPDX-License-Identifier: Apache-2.0
// Backends that go down: who is reset, with which numbers, how fast, and who is left alone. And how flows end
// by themselves.
#include <gtest/gtest.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>

#include "dataplane/stages.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint32_t kClientIsn = 1000, kServerIsn = 5000;

TableContent content_to(uint16_t backend) {
  TableContent content = usual_content();
  aim_at(content, backend);
  return content;
}

void set_disposition(TableContent& content, uint16_t backend, BackendDisposition d) {
  content.pools[0].backends[backend - 1u].disposition = static_cast<uint8_t>(d);
}

Tcp client(uint16_t service_port, uint16_t port = 40000) {
  return Tcp(kClient4, port, kVip4, service_port);
}

// A NAT connection after its handshake and a request; returns the SYN as the backend saw it.
Seen open_nat(Rig& rig, uint16_t port = 40000, const char* from = kClient4, const char* vip = kVip4) {
  Seen in = rig.send_one(Tcp(from, port, vip, kNat).flags(kSynFlag).seq(kClientIsn));
  const auto backend = [&] { return Tcp(in.destination, in.destination_port, in.source, in.source_port); };
  rig.send_one(backend().flags(kSynFlag).seq(kServerIsn).ack(kClientIsn + 1));
  rig.send_one(Tcp(from, port, vip, kNat).seq(kClientIsn + 1).ack(kServerIsn + 1));
  rig.send_one(Tcp(from, port, vip, kNat).seq(kClientIsn + 1).ack(kServerIsn + 1).payload("GET /"));
  rig.send_one(backend().seq(kServerIsn + 1).ack(kClientIsn + 6));
  return in;
}

const Seen* sent_to(const std::vector<Seen>& out, const std::string& destination) {
  const auto it =
      std::find_if(out.begin(), out.end(), [&](const Seen& s) { return s.destination == destination; });
  return it == out.end() ? nullptr : &*it;
}

TEST(Reset, TheSweepResetsBothSidesOfAWaitingNatFlow) {
  for (const bool is_v6 : {false, true}) {
    const char* const from = is_v6 ? kClient6 : kClient4;
    const char* const vip = is_v6 ? kVip6 : kVip4;
    TableContent content = content_to(1);
    Rig rig(content);
    const Seen in = open_nat(rig, 40000, from, vip);
    EXPECT_TRUE(rig.sweep_ms(3000).empty());
    set_disposition(content, 1, BackendDisposition::reset);
    rig.adopt(content);
    const auto out = rig.sweep_ms(300);
    ASSERT_EQ(out.size(), 2u);
    const Seen* const to_client = sent_to(out, from);
    ASSERT_NE(to_client, nullptr);
    EXPECT_EQ(to_client->source, vip);
    EXPECT_EQ(to_client->source_port, kNat);
    EXPECT_EQ(to_client->destination_port, 40000);
    EXPECT_EQ(to_client->flags, kRstFlag);
    EXPECT_EQ(to_client->seq, kServerIsn + 1);
    EXPECT_TRUE(to_client->checksums_right);
    EXPECT_EQ(to_client->mac, kGatewayMac);
    const Seen* const to_backend = sent_to(out, in.destination);
    ASSERT_NE(to_backend, nullptr);
    EXPECT_EQ(to_backend->source, in.source);
    EXPECT_EQ(to_backend->source_port, in.source_port);
    EXPECT_EQ(to_backend->seq, kClientIsn + 6);
    EXPECT_TRUE(to_backend->checksums_right);
    EXPECT_EQ(rig.of_backend(1, &BackendFeedback::resets_sent), 1u);
    EXPECT_TRUE(rig.sweep_ms(3000).empty()) << "once is enough";
    EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
    rig.sweep_ms(10000);
    EXPECT_EQ(rig.total(&WorkerCounters::flows), 0u) << "the dead entry goes, too";
    EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 0u);
  }
}

TEST(Reset, AChallengeAckGetsAnExactReset) {
  TableContent content = content_to(1);
  Rig rig(content);
  rig.send_one(client(kDsr).flags(kSynFlag).seq(kClientIsn));
  rig.send_one(client(kDsr).seq(kClientIsn + 1).ack(7777));
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  const auto out = rig.sweep_ms(300);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].seq, 7777u);
  const Seen exact = rig.send_one(client(kDsr).seq(kClientIsn + 1).ack(8888));
  EXPECT_EQ(exact.flags, kRstFlag);
  EXPECT_EQ(exact.seq, 8888u);
  EXPECT_EQ(rig.drops(DropReason::flow_reset), 1u);
  aim_at(content, 2);
  rig.adopt(content);
  EXPECT_EQ(rig.send_one(client(kDsr).flags(kSynFlag).seq(4)).mac, "02:00:00:00:00:12")
      << "a dead entry's SYN";
}

TEST(Reset, AClientWithoutAnAnswerGetsItsSynAcknowledged) {
  TableContent content = content_to(1);
  Rig rig(content);
  rig.send_one(client(kNat).flags(kSynFlag).seq(kClientIsn));
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  const auto out = rig.sweep_ms(300);
  const Seen* const to_client = sent_to(out, kClient4);
  ASSERT_NE(to_client, nullptr);
  EXPECT_EQ(to_client->flags, kRstFlag | kAckFlag);
  EXPECT_EQ(to_client->ack, kClientIsn + 1);
}

TEST(Reset, OnlyTheFlowsOfARefusedPortGo) {
  TableContent content = content_to(1);
  Rig rig(content);
  open_nat(rig);
  rig.send_one(client(kDsr).flags(kSynFlag));
  BackendRecord& b = content.pools[0].backends[0];
  b.reset_count = 1;
  b.reset_ports[0] = kNat;
  rig.adopt(content);
  EXPECT_EQ(rig.sweep_ms(300).size(), 2u);
  EXPECT_EQ(rig.send_one(client(kDsr).seq(1001).ack(1)).mac, "02:00:00:00:00:11");
}

TEST(Reset, FinishLetsTheServerStreamUntilTheNextRequest) {
  TableContent content = content_to(1);
  Rig rig(content);
  const Seen in = open_nat(rig);
  set_disposition(content, 1, BackendDisposition::finish);
  rig.adopt(content);
  EXPECT_TRUE(rig.sweep_ms(1000).empty());
  const Seen data = rig.send_one(Tcp(in.destination, in.destination_port, in.source, in.source_port)
                                     .seq(kServerIsn + 1)
                                     .ack(kClientIsn + 6)
                                     .payload("page"));
  EXPECT_EQ(data.payload, "page");
  rig.send_one(client(kNat).seq(kClientIsn + 6).ack(kServerIsn + 5));
  const auto out = rig.send(Bytes(client(kNat).seq(kClientIsn + 6).ack(kServerIsn + 5).payload("GET /next")));
  ASSERT_EQ(out.size(), 2u);
  ASSERT_NE(sent_to(out, kClient4), nullptr);
  EXPECT_EQ(sent_to(out, kClient4)->seq, kServerIsn + 5);
  EXPECT_EQ(sent_to(out, in.destination)->seq, kClientIsn + 6);
  const Seen late = rig.send_one(Tcp(in.destination, in.destination_port, in.source, in.source_port)
                                     .seq(kServerIsn + 5)
                                     .ack(kClientIsn + 6));
  EXPECT_EQ(late.flags, kRstFlag) << "the backend's challenge";
}

TEST(Reset, TheRateHolds) {
  TableContent content = content_to(1);
  content.settings.reset_rate = 100;
  Rig rig(content);
  for (uint16_t port = 1; port <= 60; ++port) rig.send_one(client(kDsr, port).flags(kSynFlag));
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  const size_t first = rig.sweep_ms(200).size();
  EXPECT_GE(first, 10u);
  EXPECT_LE(first, 31u);
  EXPECT_EQ(first + rig.sweep_ms(2000).size(), 60u);
}

TEST(Reset, WithoutABufferTheResetIsCountedAndPutOff) {
  TableContent content = content_to(1);
  Rig rig(content);
  rig.send_one(client(kDsr).flags(kSynFlag));
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  std::vector<rte_mbuf*> all;
  while (rte_mbuf* m = rte_pktmbuf_alloc(packet_pool())) all.push_back(m);
  EXPECT_TRUE(rig.sweep_ms(300).empty());
  EXPECT_GE(rig.drops(DropReason::no_mbuf), 1u);
  rte_pktmbuf_free_bulk(all.data(), static_cast<unsigned>(all.size()));
  EXPECT_EQ(rig.sweep_ms(300).size(), 1u);
}

TEST(Reset, AReusedBackendIdNeverGetsAnOldFlow) {
  TableContent content = content_to(1);
  Rig rig(content);
  open_nat(rig);
  content.pools[0].backends[0].address_v4 = address("198.18.1.99");
  rig.adopt(content);
  const auto out = rig.send(Bytes(client(kNat).seq(kClientIsn + 6).ack(kServerIsn + 1).payload("x")));
  EXPECT_EQ(sent_to(out, "198.18.1.99"), nullptr);
  ASSERT_NE(sent_to(out, kClient4), nullptr);
  EXPECT_EQ(sent_to(out, kClient4)->flags, kRstFlag);
}

TEST(Reset, FlowsOfARemovedServiceOrBackendAreReset) {
  TableContent content = content_to(1);
  Rig rig(content);
  open_nat(rig);
  rig.send_one(client(kDsr).flags(kSynFlag).seq(1));
  content.services.erase(content.services.begin());
  std::erase_if(content.listeners, [](const ListenerRecord& l) { return l.service == 1; });
  aim_at(content, 2);
  content.pools[0].backends.erase(content.pools[0].backends.begin());
  content.pools[0].record.backend_count = content.pools[0].record.usable_count = 2;
  for (auto& slot : content.pools[0].lookup) slot = 3;
  rig.adopt(content);
  EXPECT_EQ(rig.sweep_ms(300).size(), 3u);
  rig.sweep_ms(15000);
  EXPECT_EQ(rig.of_backend(1, &BackendFeedback::flows), 0u);
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::flows), 0u);
}

TEST(Expiry, StatesHaveTheirOwnTimes) {
  TableContent content = content_to(1);
  content.settings.timeout_syn_ms = 5000;
  content.settings.timeout_closing_ms = 2000;
  content.settings.timeout_half_closed_ms = 60000;
  for (auto& s : content.services) s.idle_timeout_ms = 600000;
  Rig rig(content);
  open_nat(rig, 1);
  rig.send_one(client(kNat, 2).flags(kSynFlag));
  const Seen closing = open_nat(rig, 3);
  rig.send_one(client(kNat, 3).flags(kFinFlag).seq(kClientIsn + 6).ack(kServerIsn + 1));
  rig.send_one(Tcp(closing.destination, kNat, closing.source, closing.source_port)
                   .flags(kFinFlag)
                   .ack(kClientIsn + 7));
  const Seen half = open_nat(rig, 4);
  rig.send_one(client(kNat, 4).flags(kFinFlag).seq(kClientIsn + 6).ack(kServerIsn + 1));
  rig.sweep_ms(4500);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 3u) << "closing is over";
  rig.sweep_ms(3000);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 2u) << "syn is over";
  for (int i = 0; i < 5; ++i) {
    rig.sweep_ms(30000);
    rig.send_one(Tcp(half.destination, kNat, half.source, half.source_port)
                     .seq(9)
                     .ack(kClientIsn + 7)
                     .payload("more"));
  }
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 2u) << "half closed, but the backend streams";
  rig.sweep_ms(64000);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
  rig.sweep_ms(600000);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 0u);
}

TEST(Expiry, AForgedResetDoesNotEndAFlow) {
  TableContent content = content_to(1);
  Rig rig(content);
  open_nat(rig);
  rig.send_one(client(kNat).flags(kRstFlag).seq(31337));
  rig.send_one(client(kNat).seq(kClientIsn + 6).ack(kServerIsn + 1).payload("y"));
  rig.sweep_ms(60000);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
}

TEST(Flood, ProbationaryFlowsGiveWayToNewOnesButEstablishedStay) {
  Rig rig(content_to(1), {.flows = 64});
  for (uint16_t port = 1; port <= 32; ++port) open_nat(rig, port);
  for (uint16_t port = 1; port <= 32; ++port) {
    rig.send_one(client(kDsr, port).flags(kSynFlag).seq(1));
    rig.advance_ms(600);
    rig.send_one(client(kDsr, port).seq(2).ack(9));
  }
  std::vector<Bytes> flood;
  for (uint16_t i = 0; i < 5000; ++i) {
    flood.push_back(Tcp("198.51.100.9", static_cast<uint16_t>(1000 + i), kVip4, kDsr).flags(kSynFlag));
    flood.push_back(Tcp("198.51.100.9", static_cast<uint16_t>(1000 + i), kVip4, kNat).flags(kSynFlag));
  }
  rig.send(flood);
  EXPECT_GT(rig.total(&WorkerCounters::evictions), 1000u);
  const uint64_t missed =
      rig.of_service(1, &ServiceFeedback::missed) + rig.of_service(2, &ServiceFeedback::missed);
  for (uint16_t port = 1; port <= 32; ++port) {
    rig.send_one(client(kDsr, port).seq(2).ack(9));
    rig.send_one(client(kNat, port).seq(kClientIsn + 6).ack(kServerIsn + 1));
  }
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::missed) + rig.of_service(2, &ServiceFeedback::missed),
            missed);
}

TEST(Flood, OverAFullTableGoesByTheHashInsteadOfTurningItOver) {
  constexpr uint32_t kFlows = 64, kSyns = 15000, kEvictions = kDsrEvictionRate / 10;
  Rig rig(content_to(1), {.flows = kFlows});
  std::vector<Bytes> flood;
  for (uint16_t i = 0; i < kSyns; ++i)
    flood.push_back(Tcp("198.51.100.9", static_cast<uint16_t>(1000 + i), kVip4, kDsr).flags(kSynFlag));
  rig.send(flood);
  EXPECT_EQ(rig.total(&WorkerCounters::forwarded), kSyns);
  EXPECT_EQ(rig.total(&WorkerCounters::evictions), kEvictions);
  EXPECT_EQ(rig.total(&WorkerCounters::flows_uninserted), kSyns - kEvictions - kFlows);
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::new_flows), kSyns);
  rig.advance_ms(1);
  rig.send(client(kDsr).flags(kSynFlag));
  EXPECT_EQ(rig.total(&WorkerCounters::evictions), kEvictions + 1);
}

// SYNs of NAT flows from `first` on; the flows' sides toward the backend.
std::vector<Seen> open_half(Rig& rig, uint16_t first, uint16_t count) {
  std::vector<Seen> seen;
  for (uint16_t i = 0; i < count; ++i)
    seen.push_back(
        rig.send_one(client(kNat, static_cast<uint16_t>(first + i)).flags(kSynFlag).seq(kClientIsn)));
  return seen;
}
bool is_known(Rig& rig, const Seen& in) {
  const auto out = rig.send(Tcp(in.destination, in.destination_port, in.source, in.source_port)
                                .flags(kSynFlag | kAckFlag)
                                .seq(kServerIsn)
                                .ack(kClientIsn + 1));
  return sent_to(out, kClient4) != nullptr;
}

TEST(Flood, OfHalfOpenNatFlowsInAFullTableTheOldestGivesWay) {
  constexpr uint16_t kOpen = 252;  // far more than are looked at for one that is over
  Rig rig(content_to(1), {.flows = kOpen + 4});
  for (uint16_t port = 1; port <= kOpen; ++port) open_nat(rig, port);
  const std::vector<Seen> half_open = open_half(rig, 1000, 4);
  EXPECT_EQ(open_half(rig, 2000, 2).size(), 2u);
  EXPECT_EQ(rig.total(&WorkerCounters::evictions), 2u);
  EXPECT_FALSE(is_known(rig, half_open[0]) || is_known(rig, half_open[1]));
  EXPECT_TRUE(is_known(rig, half_open[2]) && is_known(rig, half_open[3]));
}

TEST(Flood, NatFlowsThatAreOverGiveWayBeforeHalfOpenOnes) {
  Rig rig(content_to(1), {.flows = 64});
  for (uint16_t port = 1; port <= 60; ++port) {
    open_nat(rig, port);
    rig.send_one(client(kNat, port).flags(kRstFlag).seq(kClientIsn + 6));
  }
  const std::vector<Seen> half_open = open_half(rig, 100, 4);
  open_half(rig, 200, 20);
  EXPECT_EQ(rig.total(&WorkerCounters::evictions), 20u);
  for (const Seen& in : half_open) EXPECT_TRUE(is_known(rig, in));
}

TEST(Flood, HalfOpenFlowsHoldAQuarterOfThePorts) {
  TableContent content = content_to(1);
  content.nat[0].first_port = 2000;
  content.nat[0].last_port = 2099;
  Rig rig(content);
  const std::string first_port = std::to_string(rig.send_one(client(kNat, 1).flags(kSynFlag)).source_port);
  for (uint16_t port = 2; port <= 200; ++port) rig.send_one(client(kNat, port).flags(kSynFlag));
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 25u);
  EXPECT_TRUE(rig.send_one(client(kNat, 1).ack(1)).flags & kRstFlag) << "the oldest is gone";
  EXPECT_FALSE(rig.send_one(client(kNat, 200).flags(kSynFlag)).flags & kRstFlag);
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 25u);
}

TEST(Flood, AboveTheRateDsrForwardsWithoutRemembering) {
  TableContent content = content_to(1);
  content.settings.new_flow_rate = 50;
  Rig rig(content);
  for (uint16_t port = 1; port <= 100; ++port) rig.send_one(client(kDsr, port).flags(kSynFlag));
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 5u);
  EXPECT_EQ(rig.total(&WorkerCounters::flows_uninserted), 95u);
  EXPECT_EQ(rig.total(&WorkerCounters::forwarded), 100u);
}

TEST(NatPorts, TheOneClosedLongestAgoIsTakenAgainOnlyWhenNoneIsFree) {
  TableContent content = content_to(1);
  content.nat[0].first_port = 2000;
  content.nat[0].last_port = 2007;
  Rig rig(content);
  std::vector<uint16_t> ports;
  for (uint16_t port = 1; port <= 8; ++port) {
    ports.push_back(open_nat(rig, port).source_port);
    if (port == 5) rig.send_one(client(kNat, 5).flags(kRstFlag).seq(kClientIsn + 6));
  }
  rig.advance_ms(100);
  rig.send_one(client(kNat, 3).flags(kRstFlag).seq(kClientIsn + 6));
  std::vector<uint16_t> sorted = ports;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end())
      << "while one is free, no closed one is taken";
  EXPECT_EQ(open_nat(rig, 20).source_port, ports[4]);
  EXPECT_EQ(open_nat(rig, 21).source_port, ports[2]);
  EXPECT_TRUE(rig.send_one(client(kNat, 22).flags(kSynFlag)).flags & kRstFlag);
}

}  // namespace
}  // namespace portico::test
