// SPDX-License-Identifier: Apache-2.0
// What a SYN does to a flow that is there already: RFC 9293 section 3.10.7.4 and RFC 5961 section 4 let an
// open connection's owner decide; RFC 6191 lets a new one follow an old one.
#include <gtest/gtest.h>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr const char* kFirstMac = "02:00:00:00:00:11";
constexpr const char* kSecondMac = "02:00:00:00:00:12";
constexpr uint32_t kIsn = 1000, kServerIsn = 5000;

Tcp client(uint16_t service_port, uint16_t port = 40000) {
  return Tcp(kClient4, port, kVip4, service_port);
}
Tcp reply_to(const Seen& in) {
  return Tcp(in.destination, in.destination_port, in.source, in.source_port);
}

TableContent content_to(uint16_t backend) {
  TableContent content = usual_content();
  aim_at(content, backend);
  return content;
}

// A connection to backend 1 that is beyond its probation; returns its SYN as the backend saw it.
Seen open(Rig& rig, uint16_t service, uint16_t port = 40000) {
  Seen in = rig.send_one(client(service, port).flags(kSynFlag).seq(kIsn));
  if (service == kNat) rig.send(reply_to(in).flags(kSynFlag).seq(kServerIsn).ack(kIsn + 1));
  rig.advance_ms(600);
  rig.send(client(service, port).seq(kIsn + 1).ack(kServerIsn + 1));
  return in;
}

enum class Side : uint8_t { neither, client, server };
enum class Backend : uint8_t { takes_new, drained, finishing, down };

struct Row {
  uint16_t service;
  Side closed;  // who has sent FIN
  Backend backend;
  uint32_t silent_ms;
  bool goes_to_new;  // else to the backend that the flow has
};

// All of another initial sequence number than the flow's.
constexpr Row kRows[] = {
    {kNat, Side::neither, Backend::takes_new, 100, false},
    {kNat, Side::neither, Backend::takes_new, 60000, false},
    {kNat, Side::neither, Backend::drained, 100, false},
    {kNat, Side::neither, Backend::drained, 6000, true},
    {kNat, Side::neither, Backend::finishing, 100, true},
    {kNat, Side::neither, Backend::down, 100, true},
    {kNat, Side::client, Backend::takes_new, 100, false},
    {kNat, Side::client, Backend::takes_new, 6000, true},
    {kNat, Side::client, Backend::drained, 100, false},
    {kNat, Side::client, Backend::drained, 6000, true},
    {kNat, Side::client, Backend::finishing, 100, true},
    {kNat, Side::client, Backend::down, 100, true},
    {kNat, Side::server, Backend::takes_new, 100, false},
    {kNat, Side::server, Backend::takes_new, 6000, true},
    {kNat, Side::server, Backend::drained, 6000, true},
    {kDsr, Side::neither, Backend::takes_new, 6000, false},
    {kDsr, Side::neither, Backend::drained, 100, false},
    {kDsr, Side::neither, Backend::drained, 6000, true},
    {kDsr, Side::neither, Backend::finishing, 100, true},
    {kDsr, Side::neither, Backend::down, 100, true},
    // Only the client's packets pass: its FIN may be all that shows of the end.
    {kDsr, Side::client, Backend::takes_new, 100, true},
    {kDsr, Side::client, Backend::drained, 100, true},
};

void set_backend(TableContent& content, Backend how) {
  aim_at(content, 2);
  if (how == Backend::takes_new) content.pools[0].lookup.back() = 1;
  const auto d = how == Backend::finishing ? BackendDisposition::finish
                 : how == Backend::down    ? BackendDisposition::reset
                                           : BackendDisposition::forward;
  content.pools[0].backends[0].disposition = static_cast<uint8_t>(d);
}

TEST(Syn, OfAnotherNumberMeetsAFlow) {
  for (size_t i = 0; i < std::size(kRows); ++i) {
    const Row& row = kRows[i];
    SCOPED_TRACE("row " + std::to_string(i));
    TableContent content = content_to(1);
    Rig rig(content);
    const Seen in = open(rig, row.service);
    if (row.closed == Side::client)
      rig.send(client(row.service).flags(kFinFlag).seq(kIsn + 1).ack(kServerIsn + 1));
    if (row.closed == Side::server) rig.send(reply_to(in).flags(kFinFlag).seq(kServerIsn + 1).ack(kIsn + 1));
    set_backend(content, row.backend);
    rig.adopt(content);
    rig.advance_ms(row.silent_ms);
    const Seen out = rig.send_one(client(row.service).flags(kSynFlag).seq(99999));
    EXPECT_EQ(out.mac, row.goes_to_new ? kSecondMac : kFirstMac);
    EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
  }
}

struct RepeatRow {
  uint16_t service;
  bool is_answered;
  Backend backend;
  bool goes_to_new;
};
// All of the flow's own initial sequence number.
constexpr RepeatRow kRepeatRows[] = {
    {kNat, false, Backend::takes_new, false},
    {kNat, false, Backend::drained, true},  // or in doubt: it is silent, and may only seem dead
    {kNat, false, Backend::finishing, true},
    {kNat, false, Backend::down, true},
    {kNat, true, Backend::takes_new, false},
    {kNat, true, Backend::drained, false},
    {kNat, true, Backend::finishing, false},
    // Nobody sees whether it was answered.
    {kDsr, false, Backend::takes_new, false},
    {kDsr, false, Backend::drained, false},
    {kDsr, false, Backend::down, true},
};

TEST(Syn, ThatComesAgainGoesElsewhereIfItWasNeverAnswered) {
  for (size_t i = 0; i < std::size(kRepeatRows); ++i) {
    const RepeatRow& row = kRepeatRows[i];
    SCOPED_TRACE("row " + std::to_string(i));
    TableContent content = content_to(1);
    Rig rig(content);
    const Tcp syn = client(row.service).flags(kSynFlag).seq(kIsn);
    const Seen in = rig.send_one(syn);
    if (row.is_answered) rig.send(reply_to(in).flags(kSynFlag).seq(kServerIsn).ack(kIsn + 1));
    set_backend(content, row.backend);
    rig.adopt(content);
    rig.advance_ms(3000);
    EXPECT_EQ(rig.send_one(syn).mac, row.goes_to_new ? kSecondMac : kFirstMac);
    EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
  }
}

TEST(Syn, ThatIsRefusedEndsNoFlow) {
  for (const uint16_t service : {kDsr, kNat}) {
    TableContent content = content_to(1);
    Rig rig(content);
    open(rig, service);
    set_backend(content, Backend::finishing);
    TableContent refusing = content;
    refusing.pools[0].record.disposition = static_cast<uint8_t>(PoolDisposition::drop);
    rig.adopt(refusing);
    EXPECT_TRUE(rig.send(client(service).flags(kSynFlag).seq(99999)).empty());
    EXPECT_EQ(rig.drops(DropReason::no_backend), 1u);
    refusing = content;
    refusing.services[service == kNat].access_list = 0;
    refusing.access = {{address("10.0.0.0"), 0, 8, 1, 0}};
    rig.adopt(refusing);
    EXPECT_TRUE(rig.send(client(service).flags(kSynFlag).seq(99999)).empty());
    EXPECT_EQ(rig.drops(DropReason::access_denied), 1u);
    rig.adopt(content);
    EXPECT_EQ(rig.send_one(client(service).seq(kIsn + 1).ack(kServerIsn + 1)).mac, kFirstMac) << "it lives";
  }
}

// Has a connection take backend 2's only port, then leads to backend 1.
void take_only_port(Rig& rig, TableContent& content) {
  open(rig, kNat, 1);
  aim_at(content, 1);
  rig.adopt(content);
}

TEST(Syn, WithoutAPortEndsNoFlow) {
  TableContent content = content_to(2);
  content.nat[0].first_port = content.nat[0].last_port = 2000;
  Rig rig(content);
  take_only_port(rig, content);
  open(rig, kNat);
  set_backend(content, Backend::drained);
  rig.adopt(content);
  rig.advance_ms(6000);
  EXPECT_EQ(rig.send_one(client(kNat).flags(kSynFlag).seq(99999)).flags, kRstFlag | kAckFlag);
  EXPECT_EQ(rig.drops(DropReason::nat_ports_exhausted), 1u);
  EXPECT_EQ(rig.send_one(client(kNat).seq(kIsn + 1).ack(kServerIsn + 1)).mac, kFirstMac);
}

// Of a connection that is over the client may still repeat its last ACK.
TEST(Syn, WithoutAPortLeavesWhatIsOverAsItIs) {
  TableContent content = content_to(2);
  content.nat[0].first_port = content.nat[0].last_port = 2000;
  Rig rig(content);
  take_only_port(rig, content);
  const Seen in = open(rig, kNat);
  rig.send(reply_to(in).flags(kFinFlag).seq(kServerIsn + 1).ack(kIsn + 1));
  rig.send(client(kNat).flags(kFinFlag).seq(kIsn + 1).ack(kServerIsn + 2));
  aim_at(content, 2);
  rig.adopt(content);
  EXPECT_EQ(rig.send_one(client(kNat).flags(kSynFlag).seq(99999)).flags, kRstFlag | kAckFlag);
  EXPECT_EQ(rig.drops(DropReason::nat_ports_exhausted), 1u);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 2u);
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 2u);
  EXPECT_EQ(rig.send_one(client(kNat).seq(kIsn + 2).ack(kServerIsn + 2)).mac, kFirstMac);
}

// In dsr it goes its way all the same: the flow that it ends must not keep its later packets.
TEST(Syn, ThatIsNotRememberedTakesItsConnectionAlong) {
  TableContent content = content_to(1);
  Rig rig(content);
  open(rig, kDsr);
  set_backend(content, Backend::finishing);
  content.settings.new_flow_rate = 1;
  rig.adopt(content);
  rig.send(client(kDsr, 1).flags(kSynFlag));
  EXPECT_EQ(rig.send_one(client(kDsr).flags(kSynFlag).seq(99999)).mac, kSecondMac);
  EXPECT_EQ(rig.total(&WorkerCounters::flows_uninserted), 1u);
  EXPECT_EQ(rig.send_one(client(kDsr).seq(100000).ack(7)).mac, kSecondMac);
}

TEST(NatPorts, OfTheOldestHalfOpenFlowOfTheSameEndpointIsGiven) {
  TableContent content = content_to(1);
  content.services.push_back(content.services[1]);
  content.services.back().id = 3;
  content.listeners.insert(content.listeners.begin() + 2, {address(kVip4), 8443, 3, 0});
  std::sort(content.listeners.begin(), content.listeners.end(), [](const auto& a, const auto& b) {
    return std::pair(a.address, a.port) < std::pair(b.address, b.port);
  });
  content.nat[0].first_port = 2000;
  content.nat[0].last_port = 2015;
  Rig rig(content);
  rig.send_one(client(8443).flags(kSynFlag));  // the oldest, toward another port of the backend
  const Seen half_open = rig.send_one(client(kNat, 1).flags(kSynFlag));
  for (uint16_t port = 2; port <= 16; ++port) open(rig, kNat, port);
  EXPECT_EQ(rig.send_one(client(kNat, 17).flags(kSynFlag)).source_port, half_open.source_port);
  EXPECT_EQ(rig.drops(DropReason::nat_ports_exhausted), 0u);
}

// No sweep has come by yet.
TEST(NatPorts, OfAFlowThatHasTimedOutAreGiven) {
  TableContent content = content_to(1);
  content.nat[0].first_port = content.nat[0].last_port = 2000;
  Rig rig(content);
  const Seen first = open(rig, kNat, 1);
  EXPECT_TRUE(rig.send_one(client(kNat, 2).flags(kSynFlag)).flags & kRstFlag) << "it is in use";
  rig.advance_ms(content.services[1].idle_timeout_ms + 1000);
  EXPECT_EQ(rig.send_one(client(kNat, 2).flags(kSynFlag)).source_port, first.source_port);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
}

TEST(NatPorts, OfAFlowWhoseClientIsNotThereComeBack) {
  for (const bool is_open : {false, true}) {
    TableContent content = content_to(1);
    Rig rig(content);
    is_open ? open(rig, kNat) : rig.send_one(client(kNat).flags(kSynFlag).seq(kIsn));
    content.next_hops[0].resolved = 0;
    set_backend(content, Backend::down);
    rig.adopt(content);
    rig.sweep_ms(is_open ? 9000 : 1000);
    EXPECT_EQ(rig.of_backend(1, &BackendFeedback::resets_sent), 0u);
    rig.sweep_ms(5000);
    EXPECT_EQ(rig.of_backend(1, &BackendFeedback::resets_sent), 1u) << "the backend lets go of it";
    rig.sweep_ms(14000);
    EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 0u);
  }
}

TEST(NatPorts, ABackendThatRepeatsItsSynDoesNotHoldOne) {
  Rig rig(content_to(1));
  const Seen in = rig.send_one(client(kNat).flags(kSynFlag).seq(kIsn));
  for (int i = 0; i < 6; ++i) {
    rig.sweep_ms(5500);
    rig.send(reply_to(in).flags(kSynFlag).seq(kServerIsn).ack(kIsn + 1));
  }
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 0u);
}

TEST(NatPorts, WhatAFloodLeftGivesWayFirst) {
  TableContent content = content_to(1);
  content.nat[0].first_port = 2000;
  content.nat[0].last_port = 2007;
  Rig rig(content);
  for (uint16_t port = 1; port <= 6; ++port) open(rig, kNat, port);
  rig.send(client(kNat, 1).flags(kRstFlag).seq(kIsn + 1));  // a connection's end
  rig.advance_ms(100);
  const Seen half_open = rig.send_one(client(kNat, 7).flags(kSynFlag).seq(kIsn));
  const Seen spoofed = rig.send_one(client(kNat, 8).flags(kSynFlag).seq(kIsn));
  rig.send(client(kNat, 8).flags(kRstFlag).seq(kIsn + 1));
  EXPECT_EQ(open(rig, kNat, 9).source_port, spoofed.source_port);
  open(rig, kNat, 10);  // in the place of the one that ended
  EXPECT_EQ(open(rig, kNat, 11).source_port, half_open.source_port);
  EXPECT_TRUE(rig.send_one(client(kNat, 12).flags(kSynFlag)).flags & kRstFlag) << "all have clients";
}

// A SYN with another number between the backend's answer and the client's acknowledgement.
TEST(Syn, AForgedOneInTheHandshakeDoesNotKeepTheFlowHalfOpen) {
  Rig rig(usual_content());
  const auto client = [] { return Tcp(kClient4, 5000, kVip4, kNat).seq(1001).ack(7001); };
  const Seen syn = rig.send_one(Tcp(kClient4, 5000, kVip4, kNat).flags(kSynFlag).seq(1000));
  const auto backend = [&] {
    return Tcp(syn.destination, syn.destination_port, syn.source, syn.source_port).ack(1001);
  };
  rig.send_one(backend().flags(kSynFlag | kAckFlag).seq(7000));
  rig.send(Tcp(kClient4, 5000, kVip4, kNat).flags(kSynFlag).seq(5555));
  rig.send_one(client());
  // A client that only listens, for longer than a half-open flow lives.
  for (int i = 0; i < 12; ++i) {
    rig.sweep_ms(10000);
    const Seen part = rig.send_one(backend().seq(7001).payload("part"));
    EXPECT_EQ(part.destination, kClient4);
    EXPECT_EQ(part.flags & kRstFlag, 0);
  }
}

}  // namespace
}  // namespace portico::test
