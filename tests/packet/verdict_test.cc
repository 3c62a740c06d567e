// SPDX-License-Identifier: Apache-2.0
// One packet for each drop reason, and for each way to the kernel.
#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <set>

#include "dataplane/waiting_room.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

std::set<DropReason>& reached() {
  static std::set<DropReason> reasons;
  return reasons;
}

// Expects that the frame alone is dropped, for this reason alone.
void expect_drop(Rig& rig, const Bytes& frame, DropReason reason) {
  SCOPED_TRACE(kDropReasonNames[static_cast<uint32_t>(reason)]);
  const uint64_t before = rig.drops(reason), forwarded = rig.total(&WorkerCounters::forwarded);
  const uint64_t answered = rig.total(&WorkerCounters::answered);
  const size_t sent = rig.send(frame).size();
  EXPECT_EQ(sent, rig.total(&WorkerCounters::answered) - answered);
  EXPECT_EQ(rig.drops(reason), before + 1);
  EXPECT_EQ(rig.total(&WorkerCounters::forwarded), forwarded);
  reached().insert(reason);
}

Tcp syn4(uint16_t port = 40000, uint16_t service = kDsr) {
  return Tcp(kClient4, port, kVip4, service).flags(kSynFlag);
}
Tcp syn6(uint16_t port = 40000, uint16_t service = kDsr) {
  return Tcp(kClient6, port, kVip6, service).flags(kSynFlag);
}

Bytes cut(Bytes frame, size_t size) {
  frame.resize(size);
  return frame;
}
Bytes with(Bytes frame, size_t at, uint8_t value) {
  frame.at(at) = value;
  return frame;
}

TEST(Verdict, MalformedPackets) {
  Rig rig(usual_content());
  for (const size_t size : {1, 13, 14, 33, 53}) expect_drop(rig, cut(syn4(), size), DropReason::truncated);
  for (const size_t size : {14, 53, 73}) expect_drop(rig, cut(syn6(), size), DropReason::truncated);
  expect_drop(rig, cut(syn4().vlan(1), 16), DropReason::truncated);
  expect_drop(rig, with(syn4(), 14, 0x55), DropReason::bad_ip_header);  // version 5
  expect_drop(rig, with(syn4(), 14, 0x44), DropReason::bad_ip_header);  // a header of 16 bytes
  expect_drop(rig, with(syn4(), 17, 19), DropReason::bad_ip_header);    // a packet of 19 bytes
  expect_drop(rig, with(syn6(), 14, 0x40), DropReason::bad_ip_header);  // IPv4 behind IPv6's EtherType
  expect_drop(rig, with(syn4(), 24, 0), DropReason::bad_ip_checksum);
  expect_drop(rig, with(syn4(), 46, 0x40), DropReason::bad_tcp_header);  // data offset 4
  expect_drop(rig, with(syn4(), 46, 0xf0), DropReason::bad_tcp_header);  // longer than the packet
  expect_drop(rig, syn4().flags(kSynFlag | kFinFlag), DropReason::bad_tcp_flags);
  expect_drop(rig, syn4().flags(kSynFlag | kRstFlag), DropReason::bad_tcp_flags);
  expect_drop(rig, syn4().flags(0), DropReason::bad_tcp_flags);
  expect_drop(rig, syn6().flags(kFinFlag | kPshFlag), DropReason::bad_tcp_flags);
}

TEST(Verdict, ExtensionHeadersAreWalkedToABound) {
  Rig rig(usual_content());
  const Bytes options = {1, 4, 0, 0, 0, 0};
  EXPECT_EQ(rig.send(Bytes(syn6().extension(0, options).extension(60, options))).size(), 1u);
  const Seen nat = rig.send_one(syn6(40000, kNat).extension(60, options).payload("y"));
  EXPECT_TRUE(nat.checksums_right);
  EXPECT_EQ(nat.payload, "y");
  Tcp long_chain = syn6(40001);
  for (int i = 0; i < 9; ++i) long_chain.extension(60, options);
  expect_drop(rig, long_chain, DropReason::ipv6_extension);
  expect_drop(rig, syn6(40002).extension(43, {0, 1, 0, 0, 0, 0}), DropReason::ipv6_extension);
  expect_drop(rig, with(syn6(40003).extension(60, options), 55, 200), DropReason::truncated);
}

TEST(Verdict, SourcesThatCannotBe) {
  Rig rig(usual_content());
  for (const char* source : {"0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", kVip4, kNat4})
    expect_drop(rig, Tcp(source, 1, kVip4, kDsr).flags(kSynFlag), DropReason::bad_source);
  for (const char* source : {"::", "::1", "ff02::1", kVip6, kNat6})
    expect_drop(rig, Tcp(source, 1, kVip6, kNat).flags(kSynFlag), DropReason::bad_source);
}

TEST(Verdict, WhatIsNotForUs) {
  Rig rig(usual_content());
  expect_drop(rig, Tcp(kClient4, 1, kVip4, 81).flags(kSynFlag), DropReason::not_ours);
  expect_drop(rig, Tcp(kClient6, 1, "2001:db8::99", 80).flags(kSynFlag), DropReason::not_ours);
  expect_drop(rig, with(syn4(), 13, 0x06), DropReason::not_ours);  // ARP's EtherType
  expect_drop(rig, syn4().protocol(17), DropReason::not_tcp);
  expect_drop(rig, syn4().ttl(1), DropReason::ttl_expired);
  expect_drop(rig, syn6(1, kNat).ttl(0), DropReason::ttl_expired);
  expect_drop(rig, syn4().fragment(0x2000), DropReason::fragment_malformed);
}

// IEEE 802.1Q: the identifier is the tag's low 12 bits; 0 is a priority alone.
TEST(Verdict, TagsOfVlansThatThePortDoesNotTake) {
  TableContent content = usual_content();
  content.vlans = {{0, 5}, {0, 4094}};
  Rig rig(content);
  expect_drop(rig, syn4().vlan(6), DropReason::unknown_vlan);
  expect_drop(rig, syn6(1, kNat).vlan(6), DropReason::unknown_vlan);
  expect_drop(rig, syn4().vlan(0xe006), DropReason::unknown_vlan);  // of whatever priority
  expect_drop(rig, syn4().vlan(4095), DropReason::unknown_vlan);
  expect_drop(rig, syn4().vlan(5).vlan(5), DropReason::unknown_vlan);
  expect_drop(rig, with(with(syn4().vlan(5), 12, 0x88), 13, 0xa8), DropReason::unknown_vlan);  // 802.1ad
  expect_drop(rig, with(syn4().vlan(6), 18, 0x55), DropReason::unknown_vlan);  // whatever is in it
  uint16_t port = 1;
  for (const uint16_t tag : std::initializer_list<uint16_t>{0, 5, 0xe000, 0xe005, 4094}) {
    EXPECT_EQ(rig.send(Bytes(syn4(++port).vlan(tag))).size(), 1u) << tag;
    EXPECT_EQ(rig.send(Bytes(syn6(port, kNat).vlan(tag))).size(), 1u) << tag;
  }
  EXPECT_EQ(rig.send(Bytes(syn4(++port).vlan(0).vlan(5))).size(), 1u);
  content.vlans = {{0, 6}};
  rig.adopt(content);
  expect_drop(rig, syn4(2).flags(kAckFlag).vlan(5), DropReason::unknown_vlan);
  EXPECT_EQ(rig.send(Bytes(syn4(++port).vlan(6))).size(), 1u);
}

TEST(Verdict, WithAWayToTheKernelItGetsTheRest) {
  Rig rig(usual_content(), {.kernel_ports = 1});
  rig.send({Tcp(kClient4, 1, kVip4, 81).flags(kSynFlag), with(syn4(), 13, 0x06), syn4().protocol(1),
            Tcp(kClient4, 1, "198.18.0.99", 22).flags(kSynFlag).fragment(0x2000), syn4().vlan(7)});
  EXPECT_EQ(rig.kernel_packets(), 5u);
  EXPECT_EQ(rig.total(&WorkerCounters::to_kernel), 5u);
  expect_drop(rig, syn4().protocol(17), DropReason::not_tcp);
  expect_drop(rig, syn4().fragment(0x2000), DropReason::fragment_malformed);
}

TEST(Verdict, AccessListsDecideForNewFlows) {
  TableContent content = usual_content();
  Rig rig(content);
  rig.send_one(syn4());
  content.services[0].access_list = content.services[1].access_list = 4;
  content.access = {{address("203.0.113.0"), 4, 24, 1, 0},
                    {address("203.0.113.7"), 4, 32, 0, 0},
                    {address("2001:db8:c::"), 4, 48, 1, 0}};
  rig.adopt(content);
  expect_drop(rig, syn4(40001), DropReason::access_denied);
  expect_drop(rig, syn4(40001, kNat), DropReason::access_denied);
  expect_drop(rig, Tcp("192.0.2.1", 1, kVip4, kDsr).flags(kSynFlag), DropReason::access_denied);
  expect_drop(rig, Tcp("2001:db8:d::1", 1, kVip6, kDsr).flags(kSynFlag), DropReason::access_denied);
  EXPECT_EQ(rig.send(Bytes(Tcp("203.0.113.8", 1, kVip4, kDsr).flags(kSynFlag))).size(), 1u);
  EXPECT_EQ(rig.send(Bytes(syn6())).size(), 1u);
  EXPECT_EQ(rig.send(Bytes(Tcp(kClient4, 40000, kVip4, kDsr).seq(1001).ack(5))).size(), 1u)
      << "a flow before it";
}

TEST(Verdict, PoolsWithoutABackend) {
  TableContent content = usual_content();
  content.pools[0].record.disposition = static_cast<uint8_t>(PoolDisposition::drop);
  Rig rig(content);
  expect_drop(rig, syn4(), DropReason::no_backend);
  content.pools[0].record.disposition = static_cast<uint8_t>(PoolDisposition::reset);
  rig.adopt(content);
  const Seen reset = rig.send_one(syn6(40000, kNat).seq(70));
  EXPECT_EQ(reset.flags, kRstFlag | kAckFlag);
  EXPECT_EQ(reset.seq, 0u);
  EXPECT_EQ(reset.ack, 71u);
  EXPECT_EQ(rig.drops(DropReason::no_backend), 2u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::resets_sent), 1u);
}

TEST(Verdict, NextHopsThatAreNotKnown) {
  TableContent content = usual_content();
  aim_at(content, 1);
  content.next_hops[1].resolved = 0;
  content.next_hops[2].mtu = 1280;
  content.routes = {{address("198.18.7.0"), 24, 1, kNone, 0, 0}};
  Rig rig(content);
  EXPECT_TRUE(rig.send(syn4()).empty());
  const auto wanted = rig.worker().resolve_queue().pop();
  ASSERT_TRUE(wanted);
  EXPECT_EQ(to_string(wanted->address), "198.18.1.1");
  EXPECT_TRUE(rig.send(syn4()).empty());
  EXPECT_FALSE(rig.worker().resolve_queue().pop()) << "asked a moment ago";
  EXPECT_EQ(rig.total(&WorkerCounters::waiting), 2u);
  EXPECT_TRUE(rig.sweep_ms(1000).empty());
  EXPECT_EQ(rig.total(&WorkerCounters::waiting), 0u);
  EXPECT_EQ(rig.drops(DropReason::next_hop_unresolved), 2u) << "both waited in vain";
  reached().insert(DropReason::next_hop_unresolved);
  aim_at(content, 2);
  rig.adopt(content);
  expect_drop(rig, syn4(41000).fragment(0x4000).payload(std::string(1300, 'x')), DropReason::exceeds_mtu);
  const Seen in = rig.send_one(syn4(40000, kNat));
  expect_drop(rig, Tcp(in.destination, kNat, in.source, in.source_port).ack(1), DropReason::no_route);
  const Seen near = rig.send_one(Tcp("198.18.7.9", 1, kVip4, kNat).flags(kSynFlag));
  EXPECT_TRUE(rig.send(Tcp(near.destination, kNat, near.source, near.source_port).ack(1)).empty());
  EXPECT_EQ(rig.total(&WorkerCounters::waiting), 1u);
  EXPECT_EQ(to_string(rig.worker().resolve_queue().pop().value().address), "198.18.7.9");
}

TEST(Verdict, APacketWaitsForItsNeighbour) {
  TableContent content = usual_content();
  aim_at(content, 1);
  const RouteRecord on_link{address("198.18.7.0"), 24, 1, kNone, 0, 0};
  content.routes = {on_link};
  Rig rig(content);
  const Seen in = rig.send_one(Tcp("198.18.7.9", 1, kVip4, kNat).flags(kSynFlag));
  EXPECT_TRUE(rig.send(Tcp(in.destination, kNat, in.source, in.source_port).ack(1)).empty());
  EXPECT_TRUE(rig.sweep_ms(50).empty());
  content.next_hops.push_back(hop("198.18.7.9", 0x77));
  content.routes = {on_link, {address("198.18.7.9"), 32, 0, 4, 0, 0}};
  rig.adopt(content);
  const auto out = rig.sweep_ms(20);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].source, kVip4);
  EXPECT_EQ(out[0].destination, "198.18.7.9");
  EXPECT_EQ(rig.total(&WorkerCounters::waiting), 0u);
  EXPECT_EQ(rig.drops(DropReason::next_hop_unresolved), 0u);
}

TEST(Verdict, OneDeadNeighbourDoesNotTakeAllPlaces) {
  TableContent content = usual_content();
  aim_at(content, 1);
  content.next_hops[1].resolved = 0;
  Rig rig(content);
  for (uint16_t port = 1; port <= kMostWaitingPerHop; ++port) EXPECT_TRUE(rig.send(syn4(port)).empty());
  EXPECT_EQ(rig.drops(DropReason::next_hop_unresolved), 0u);
  expect_drop(rig, syn4(41000), DropReason::next_hop_unresolved);
}

TEST(Verdict, FullTablesAndPorts) {
  TableContent content = usual_content();
  content.nat[0].first_port = 1024;
  content.nat[0].last_port = 1027;
  aim_at(content, 1);
  Rig rig(content, {.flows = 2});
  for (uint16_t port = 1; port <= 4; ++port) {
    const Seen in = rig.send_one(syn4(port, kNat).seq(5));
    rig.send(Bytes(Tcp(in.destination, kNat, in.source, in.source_port).flags(kSynFlag).seq(8).ack(6)));
    rig.send(Bytes(Tcp(kClient4, port, kVip4, kNat).seq(6).ack(9)));
    if (port == 2) break;
  }
  expect_drop(rig, syn4(50, kNat), DropReason::flow_table_full);
  Rig small(content, {.flows = 64});
  for (uint16_t port = 1; port <= 4; ++port) {
    const Seen in = small.send_one(syn4(port, kNat).seq(5));
    small.send(Bytes(Tcp(in.destination, kNat, in.source, in.source_port).flags(kSynFlag).seq(8).ack(6)));
    small.send(Bytes(Tcp(kClient4, port, kVip4, kNat).seq(6).ack(9)));
  }
  expect_drop(small, syn4(50, kNat), DropReason::nat_ports_exhausted);
  EXPECT_EQ(small.total(&WorkerCounters::answered), 1u);
}

TEST(Verdict, AnswersAreLimited) {
  TableContent content = usual_content();
  content.settings.reset_rate = 10;
  Rig rig(content);
  EXPECT_EQ(rig.send(Bytes(Tcp(kClient4, 1, kVip4, kNat).ack(9))).size(), 1u);
  expect_drop(rig, Tcp(kClient4, 1, kVip4, kNat).ack(9), DropReason::rate_limited);
  rig.advance_ms(100);
  EXPECT_EQ(rig.send(Bytes(Tcp(kClient4, 1, kVip4, kNat).ack(9))).size(), 1u);
}

TEST(Verdict, WithoutATableNothingPasses) {
  Rig rig(usual_content());
  rig.forget_table();
  expect_drop(rig, syn4(), DropReason::no_table);
}

TEST(Verdict, WhatTheCallerCouldNotPassOn) {
  Rig rig(usual_content());
  rig.worker().count_drops(DropReason::tx_full, 3);
  rig.worker().count_drops(DropReason::handover_full, 2);
  EXPECT_EQ(rig.drops(DropReason::tx_full), 3u);
  EXPECT_EQ(rig.drops(DropReason::handover_full), 2u);
  reached().insert({DropReason::tx_full, DropReason::handover_full});
}

TEST(Verdict, ZzEveryReasonHasBeenReached) {
  // Others have files of their own: icmp_test.cc, reset_test.cc, kernel_path_test.cc, limits_test.cc,
  // tunnel_test.cc, dnat_test.cc, fragments_test.cc.
  reached().insert(
      {DropReason::icmp_invalid,       DropReason::icmp_unknown_flow,  DropReason::flow_reset,
       DropReason::unknown_flow,       DropReason::unknown_reply,      DropReason::no_mbuf,
       DropReason::kernel_full,        DropReason::kernel_refused,     DropReason::from_kernel_full,
       DropReason::tunnel_too_big,     DropReason::tunnel_no_headroom, DropReason::source_too_fast,
       DropReason::source_too_many,    DropReason::reply_ambiguous,    DropReason::fragment,
       DropReason::fragment_malformed, DropReason::fragment_tiny,      DropReason::fragment_duplicate,
       DropReason::fragment_overlap,   DropReason::fragment_too_long,  DropReason::fragment_timeout,
       DropReason::fragment_evicted});
  for (uint32_t i = 0; i < kDropReasonCount; ++i)
    EXPECT_TRUE(reached().contains(static_cast<DropReason>(i))) << kDropReasonNames[i];
}

}  // namespace
}  // namespace portico::test
