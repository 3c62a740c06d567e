// SPDX-License-Identifier: Apache-2.0
// How flows begin, are taken for over and begin anew: what a spoofer cannot hold, and where a client that
// uses its port again gets to.
#include <gtest/gtest.h>

#include <set>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

TableContent content_to(uint16_t backend) {
  TableContent content = usual_content();
  aim_at(content, backend);
  return content;
}

Tcp client(uint16_t service_port, uint16_t port = 40000) {
  return Tcp(kClient4, port, kVip4, service_port);
}
Tcp reply_to(const Seen& in) {
  return Tcp(in.destination, in.destination_port, in.source, in.source_port);
}

TEST(Lifecycle, SynRstAckOfASpooferHoldNoPort) {
  TableContent content = content_to(1);
  content.nat[0].first_port = 5000;
  content.nat[0].last_port = 5003;
  Rig rig(content);
  for (int i = 0; i < 4; ++i) {
    const std::string from = "203.0.113." + std::to_string(50 + i);
    rig.send(Tcp(from, 1000, kVip4, kNat).flags(kSynFlag).seq(77));
    rig.send(Tcp(from, 1000, kVip4, kNat).flags(kRstFlag).seq(0x80000000u));
    rig.send(Tcp(from, 1000, kVip4, kNat).seq(0x80000000u).ack(12345));
  }
  EXPECT_EQ(rig.send_one(client(kNat).flags(kSynFlag).seq(1)).destination, "198.18.1.1");
  rig.sweep_ms(60000);
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 0u);
}

TEST(Lifecycle, AFlowThatMetTheOldOnesTimeWaitIsEstablishedLikeOthers) {
  Rig rig(content_to(1), {.flows = 2});
  const Seen in = rig.send_one(client(kNat).flags(kSynFlag).seq(1000));
  rig.send(reply_to(in).seq(4000).ack(900));  // TIME_WAIT's answer to a SYN that it does not expect
  rig.send(client(kNat).flags(kRstFlag).seq(900));
  rig.send(client(kNat).flags(kSynFlag).seq(1000));
  rig.send(reply_to(in).flags(kSynFlag).seq(5000).ack(1001));
  rig.send(client(kNat).seq(1001).ack(5001));
  for (int i = 0; i < 3; ++i)
    rig.send(Tcp("203.0.113." + std::to_string(80 + i), 1000, kVip4, kNat).flags(kSynFlag).seq(77));
  EXPECT_EQ(rig.send_one(reply_to(in).seq(5001).ack(1001).payload("x")).destination, kClient4)
      << "no new flow takes the place of an established one";
}

void set_disposition(TableContent& content, uint16_t backend, BackendDisposition d) {
  content.pools[0].backends[backend - 1u].disposition = static_cast<uint8_t>(d);
}

// A NAT connection after its handshake; returns the SYN as the backend saw it.
Seen open_nat(Rig& rig, uint16_t port = 40000) {
  Seen in = rig.send_one(client(kNat, port).flags(kSynFlag).seq(1000));
  rig.send_one(reply_to(in).flags(kSynFlag).seq(5000).ack(1001));
  rig.send_one(client(kNat, port).seq(1001).ack(5001));
  return in;
}

// A flow to backend 1, as far as its client takes it.
Seen open_dsr(Rig& rig) {
  rig.send_one(client(kDsr).flags(kSynFlag).seq(1000));
  return rig.send_one(client(kDsr).seq(1001).ack(5));
}

constexpr const char* kFirstMac = "02:00:00:00:00:11";
constexpr const char* kSecondMac = "02:00:00:00:00:12";

TEST(PortReuse, AfterTheClientsFinItIsANewConnection) {
  for (const bool is_drained : {false, true}) {
    TableContent content = content_to(1);
    Rig rig(content);
    open_dsr(rig);
    rig.send(client(kDsr).flags(kFinFlag).seq(1001).ack(5));
    rig.send(client(kDsr).seq(1002).ack(6));
    aim_at(content, 2);
    if (!is_drained) set_disposition(content, 1, BackendDisposition::finish);
    rig.adopt(content);
    rig.sweep_ms(1000);
    EXPECT_EQ(rig.send_one(client(kDsr).seq(1002).ack(6)).mac, kFirstMac) << "the old one's last ACK";
    EXPECT_EQ(rig.send_one(client(kDsr).flags(kSynFlag).seq(99999)).mac, kSecondMac);
    EXPECT_EQ(rig.send_one(client(kDsr).seq(100000).ack(7)).mac, kSecondMac);
    EXPECT_EQ(rig.of_backend(2, &BackendFeedback::new_flows), 1u);
  }
}

TEST(PortReuse, AHalfClosedNatFlowGivesWay) {
  TableContent content = content_to(1);
  Rig rig(content);
  const Seen in = rig.send_one(client(kNat).flags(kSynFlag).seq(1000));
  rig.send(reply_to(in).flags(kSynFlag).seq(5000).ack(1001));
  rig.send(client(kNat).seq(1001).ack(5001));
  rig.send(client(kNat).flags(kFinFlag).seq(1001).ack(5001));
  EXPECT_EQ(rig.send_one(client(kNat).flags(kSynFlag).seq(1000)).source_port, in.source_port)
      << "a late copy of its own SYN";
  rig.advance_ms(6000);
  const Seen again = rig.send_one(client(kNat).flags(kSynFlag).seq(70000));
  EXPECT_NE(again.source_port, in.source_port);
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
}

// Only the client's packets pass, so that the old flow's end may not have shown.
TEST(PortReuse, AnEstablishedDsrFlowKeepsItsBackendWhileThatTakesNewOnes) {
  TableContent content = content_to(1);
  Rig rig(content);
  open_dsr(rig);
  aim_at(content, 2);
  content.pools[0].lookup.back() = 1;  // so that it still takes some
  rig.adopt(content);
  rig.advance_ms(1000);
  EXPECT_EQ(rig.send_one(client(kDsr).flags(kSynFlag).seq(99999)).mac, kFirstMac);
  EXPECT_EQ(rig.send_one(client(kDsr).seq(1002).ack(6)).mac, kFirstMac);
}

TEST(PortReuse, AnEstablishedDsrFlowOfABackendThatTakesNoneGivesWay) {
  for (const auto how :
       {BackendDisposition::forward, BackendDisposition::finish, BackendDisposition::reset}) {
    TableContent content = content_to(1);
    Rig rig(content);
    open_dsr(rig);
    rig.advance_ms(600);
    rig.send(client(kDsr).seq(1001).ack(5));  // beyond doubt established
    aim_at(content, 2);
    set_disposition(content, 1, how);
    rig.adopt(content);
    rig.advance_ms(how == BackendDisposition::forward ? 6000 : 1000);
    EXPECT_EQ(rig.send_one(client(kDsr).flags(kSynFlag).seq(99999)).mac, kSecondMac);
    EXPECT_EQ(rig.send_one(client(kDsr).seq(100000).ack(7)).mac, kSecondMac);
    EXPECT_EQ(rig.of_backend(2, &BackendFeedback::new_flows), 1u);
    EXPECT_EQ(rig.total(&WorkerCounters::flows), 1u);
  }
}

TEST(PortReuse, AForgedSynDoesNotEndALiveFlowOfADrainedBackend) {
  for (const uint16_t service : {kDsr, kNat}) {
    TableContent content = content_to(1);
    Rig rig(content);
    const Seen in = rig.send_one(client(service).flags(kSynFlag).seq(1000));
    if (service == kNat) rig.send(reply_to(in).flags(kSynFlag).seq(5000).ack(1001));
    rig.advance_ms(600);
    rig.send(client(service).seq(1001).ack(5001));
    aim_at(content, 2);
    rig.adopt(content);
    rig.advance_ms(1000);
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(99999)).mac, kFirstMac);
    EXPECT_EQ(rig.send_one(client(service).seq(1001).ack(5001)).mac, kFirstMac) << "the flow lives on";
    rig.send(client(service).flags(kRstFlag).seq(5001));
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(99999)).mac, kSecondMac) << "the client's RST";
  }
}

TEST(PortReuse, NoNewConnectionReachesABackendThatTakesNone) {
  for (const uint16_t service : {kDsr, kNat}) {
    TableContent content = content_to(1);
    Rig rig(content);
    rig.send_one(client(service).flags(kSynFlag).seq(1000));
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(2000)).mac, kFirstMac)
        << "while it takes them";
    aim_at(content, 2);
    rig.adopt(content);
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(2000)).mac,
              service == kNat ? kSecondMac : kFirstMac)
        << "the same, repeated; only in nat it is known that nobody has answered";
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(3000)).mac, kSecondMac);
    rig.adopt(content);  // with the same look-up table as before
    set_disposition(content, 2, BackendDisposition::finish);
    aim_at(content, 3);
    rig.adopt(content);
    EXPECT_EQ(rig.send_one(client(service).flags(kSynFlag).seq(4000)).mac, "02:00:00:00:00:13");
  }
}

TEST(NatPorts, AFlowWhosePortLeavesTheRangeIsReset) {
  TableContent content = content_to(1);
  content.nat[0].first_port = 2000;
  content.nat[0].last_port = 2007;
  Rig rig(content);
  open_nat(rig);
  content.nat[0].first_port = 20000;
  content.nat[0].last_port = 65535;
  rig.adopt(content);
  EXPECT_EQ(rig.sweep_ms(300).size(), 2u) << "both sides";
}

TEST(NatPorts, AFlowWhosePortIsAnotherWorkersIsReset) {
  TableContent content = content_to(1);
  Rig rig(content, {.workers = 2});
  open_nat(rig);
  ++content.nat[0].first_port;
  rig.adopt(content);
  EXPECT_EQ(rig.sweep_ms(300).size(), 2u);
}

TEST(NatPorts, TheFirstIsAnotherAtEveryStart) {
  std::set<uint16_t> ports;
  for (int i = 0; i < 8; ++i) {
    Rig rig(content_to(1));
    ports.insert(rig.send_one(client(kNat).flags(kSynFlag)).source_port);
  }
  EXPECT_GT(ports.size(), 1u);
}

TEST(NatPorts, AllOfAllAddressesAreFound) {
  TableContent content = content_to(1);
  content.nat = {{address("198.18.2.1"), 2000, 2003, 0},
                 {address("198.18.2.2"), 2000, 2003, 0},
                 {address(kNat6), 1024, 65535, 0}};
  Rig rig(content);
  for (uint16_t port = 1; port <= 8; ++port) open_nat(rig, port);
  EXPECT_EQ(rig.send_one(client(kNat, 9).flags(kSynFlag)).destination, kClient4);
  EXPECT_EQ(rig.drops(DropReason::nat_ports_exhausted), 1u);
}

TEST(NatPorts, TheFullestEndpointIsThatOfMostFlows) {
  Rig rig(content_to(1));
  const auto used = [&] { return rig.worker().nat_fullest(rig.table()).used; };
  EXPECT_EQ(used(), 0u);
  for (uint16_t i = 0; i < 40; ++i) rig.send_one(client(kNat, 40000 + i).flags(kSynFlag).seq(1));
  EXPECT_EQ(used(), 40u);
  for (uint16_t i = 0; i < 3; ++i)  // with data on the SYN no plain packets
    rig.send_one(Tcp("203.0.113.77", 1000 + i, kVip4, kNat).flags(kSynFlag).seq(1).payload("x"));
  EXPECT_EQ(used(), 43u);
  EXPECT_EQ(rig.worker().nat_fullest(rig.table()).backend, 1u);
  rig.sweep_ms(60000);
  EXPECT_EQ(used(), 0u);
}

TEST(NatReplies, ABackendsDeadConnectionIsReset) {
  for (const bool is_v6 : {false, true}) {
    Rig rig(content_to(1));
    const char* const nat = is_v6 ? kNat6 : kNat4;
    const char* const backend = is_v6 ? "2001:db8:1::2" : "198.18.1.2";
    const Seen reset = rig.send_one(Tcp(backend, kNat, nat, 2000).seq(7).ack(99).payload("late"));
    EXPECT_EQ(reset.flags, kRstFlag);
    EXPECT_EQ(reset.seq, 99u);
    EXPECT_EQ(reset.source, nat);
    EXPECT_EQ(reset.destination, backend);
    EXPECT_EQ(rig.drops(DropReason::unknown_reply), 1u);
    const char* const stranger = is_v6 ? "2001:db8:1::77" : "198.18.1.77";
    EXPECT_TRUE(rig.send(Bytes(Tcp(stranger, kNat, nat, 2000).seq(7).ack(99))).empty());
  }
}

TEST(Sweep, AllFlowsAreResetOnceTheirWayIsKnown) {
  TableContent content = content_to(1);
  content.next_hops[0].resolved = 0;
  Rig rig(content);
  for (uint16_t port = 1; port <= 300; ++port) rig.send_one(client(kDsr, port).flags(kSynFlag));
  aim_at(content, 2);
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  EXPECT_TRUE(rig.sweep_ms(1500).empty());
  EXPECT_TRUE(rig.worker().resolve_queue().pop());
  content.next_hops[0].resolved = 1;
  rig.adopt(content);
  EXPECT_EQ(rig.sweep_ms(1000).size(), 300u);
  EXPECT_EQ(rig.of_backend(1, &BackendFeedback::resets_sent), 300u);
}

TEST(Sweep, OnlyWhatMayEndFlowsHurriesIt) {
  TableContent content = content_to(1);
  Rig rig(content);
  const uint64_t first = rig.table().flow_version();
  content.next_hops[1].mac[5] = 0x55;
  content.routes[0].next_hop = 1;
  rig.adopt(content);
  EXPECT_EQ(rig.table().flow_version(), first);
  set_disposition(content, 1, BackendDisposition::reset);
  rig.adopt(content);
  EXPECT_GT(rig.table().flow_version(), first);
}

// The version that a flow's way back is remembered under has 16 bits.
TEST(Sweep, AWayBackIsForgottenBeforeItsVersionComesRound) {
  TableContent content = content_to(1);
  Rig rig(content);
  const Seen in = open_nat(rig);
  const auto way_back = [&] { return rig.send_one(reply_to(in).seq(5001).ack(1001)).mac; };
  EXPECT_EQ(way_back(), "02:00:00:00:00:01");
  const uint16_t version = rig.table().route_version();
  const auto first = snapshot_of(content, nullptr);
  for (RouteRecord& route : content.routes) route.next_hop = 2;
  const auto second = snapshot_of(content, nullptr);
  rig.adopt(second);
  rig.sweep_ms(3000);
  while (rig.table().route_version() != version || &rig.table().snapshot() != second.get())
    rig.adopt(&rig.table().snapshot() == first.get() ? second : first);
  EXPECT_EQ(way_back(), "02:00:00:00:00:12");
}

TEST(Access, WhoIsNotAllowedGetsNoAnswerEither) {
  TableContent content = content_to(1);
  content.services[1].access_list = 0;
  content.access = {{address("10.0.0.0"), 0, 8, 1, 0}};
  Rig rig(content);
  EXPECT_TRUE(rig.send(client(kNat).ack(9)).empty());
  EXPECT_EQ(rig.drops(DropReason::access_denied), 1u);
}

}  // namespace
}  // namespace portico::test
