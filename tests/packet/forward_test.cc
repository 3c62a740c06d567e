// SPDX-License-Identifier: Apache-2.0
// Both modes, both families: what is rewritten, what is not, and where it goes.
#include <gtest/gtest.h>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

struct Ends {
  const char *client, *vip, *nat;
  std::string backend(int i) const {
    return (std::string(vip) == kVip4 ? "198.18.1." : "2001:db8:1::") + std::to_string(i);
  }
};
const Ends kV4{kClient4, kVip4, kNat4}, kV6{kClient6, kVip6, kNat6};

class Forward : public testing::TestWithParam<Ends> {
 protected:
  Tcp from_client(uint16_t service_port, uint16_t port = 40000) {
    return Tcp(GetParam().client, port, GetParam().vip, service_port);
  }
  Tcp from_backend(const Seen& sent) {
    return Tcp(sent.destination, sent.destination_port, sent.source, sent.source_port);
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Forward, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

TEST_P(Forward, DsrChangesTheEthernetHeaderAndTheTtlOnly) {
  TableContent content = usual_content();
  aim_at(content, 2);
  Rig rig(content);
  const Seen out = rig.send_one(from_client(kDsr).flags(kSynFlag).options({2, 4, 5, 0xb4}).payload("x"));
  EXPECT_EQ(out.mac, "02:00:00:00:00:12");
  EXPECT_EQ(out.own_mac, "02:00:00:00:00:02");
  EXPECT_EQ(out.source, GetParam().client);
  EXPECT_EQ(out.destination, GetParam().vip);
  EXPECT_EQ(out.ttl, 63);
  EXPECT_TRUE(out.checksums_right);
  EXPECT_EQ(out.options, (Bytes{2, 4, 5, 0xb4}));
  EXPECT_EQ(out.payload, "x");
  EXPECT_EQ(rig.of_backend(2, &BackendFeedback::packets_in), 1u);
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::flows), 1u);
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::new_flows), 1u);
}

TEST_P(Forward, NatTranslatesBothDirections) {
  TableContent content = usual_content();
  content.services[1].backend_port = 8443;
  aim_at(content, 3);
  Rig rig(content);
  const Seen in = rig.send_one(from_client(kNat).flags(kSynFlag).options({2, 4, 5, 0xb4}));
  EXPECT_EQ(in.source, GetParam().nat);
  EXPECT_GE(in.source_port, 1024);
  EXPECT_EQ(in.destination, GetParam().backend(3));
  EXPECT_EQ(in.destination_port, 8443);
  EXPECT_EQ(in.mac, "02:00:00:00:00:13");
  EXPECT_EQ(in.options, (Bytes{2, 4, 5, 0xb4}));
  EXPECT_EQ(in.ttl, 63);
  EXPECT_TRUE(in.checksums_right);
  const Seen out = rig.send_one(from_backend(in).flags(kSynFlag).seq(77).ack(1001));
  EXPECT_EQ(out.source, GetParam().vip);
  EXPECT_EQ(out.source_port, kNat);
  EXPECT_EQ(out.destination, GetParam().client);
  EXPECT_EQ(out.destination_port, 40000);
  EXPECT_EQ(out.mac, kGatewayMac);
  EXPECT_TRUE(out.checksums_right);
  const Seen data = rig.send_one(from_client(kNat).seq(1001).ack(78).payload("GET /odd"));
  EXPECT_EQ(data.source_port, in.source_port);
  EXPECT_TRUE(data.checksums_right);
  EXPECT_EQ(data.payload, "GET /odd");
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::packets_in), 2u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::packets_out), 1u);
  EXPECT_EQ(rig.of_backend(3, &BackendFeedback::packets_out), 1u);
  EXPECT_EQ(rig.total(&WorkerCounters::nat_ports_used), 1u);
}

// RFC 1191, RFC 8201: from the address that the packet went to, about the packet as its sender knows it.
TEST_P(Forward, SendersAreToldWhatFits) {
  const bool is_v6 = GetParam().client[4] == ':';
  const auto of_size = [&](Tcp tcp, size_t size) {
    return Bytes(tcp.ack(1).fragment(0x4000).payload(std::string(size - (is_v6 ? 60 : 40), 'x')));
  };
  const auto expect_told = [&](const Seen& answer, const Bytes& sent) {
    const Seen was = read_frame(sent);
    EXPECT_EQ(answer.source, was.destination);
    EXPECT_EQ(answer.destination, was.source);
    EXPECT_EQ(answer.mac, was.own_mac);
    EXPECT_TRUE(answer.checksums_right);
    const Bytes icmp(answer.ip.begin() + (is_v6 ? 40 : 20), answer.ip.end());
    EXPECT_EQ(icmp[0], is_v6 ? 2 : 3);
    EXPECT_EQ(icmp[1], is_v6 ? 0 : 4);
    EXPECT_EQ(icmp[6] << 8 | icmp[7], 1300);
    const Seen about = read_ip(answer.icmp_embedded);
    EXPECT_EQ(about.source_port, was.source_port);
    EXPECT_EQ(about.destination_port, was.destination_port);
    EXPECT_EQ(about.seq, was.seq);
  };
  TableContent content = usual_content();
  aim_at(content, 2);
  Rig rig(content);
  rig.send_one(from_client(kDsr).flags(kSynFlag));
  const Seen in = rig.send_one(from_client(kNat).flags(kSynFlag));
  rig.send_one(from_backend(in).flags(kSynFlag).ack(1001));
  for (NextHopRecord& hop : content.next_hops) hop.mtu = 1300;
  rig.adopt(content);
  const Bytes ways[] = {of_size(from_client(kDsr), 1301), of_size(from_client(kNat), 1301),
                        of_size(from_backend(in), 1301)};
  for (const Bytes& sent : ways) expect_told(rig.send_one(sent), sent);
  EXPECT_EQ(rig.drops(DropReason::exceeds_mtu), 3u);
  EXPECT_EQ(rig.total(&WorkerCounters::answered), 3u);
  EXPECT_EQ(rig.send_one(of_size(from_backend(in), 1300)).ip.size(), 1300u);
}

TEST_P(Forward, AWrongTcpChecksumStaysWrong) {
  Rig rig(usual_content());
  Bytes frame = from_client(kNat).flags(kSynFlag).payload("abcd");
  frame.back() ^= 0x55;
  const Seen out = rig.send_one(frame);
  EXPECT_FALSE(out.checksums_right);
}

TEST_P(Forward, TagsFollowTheNextHop) {
  TableContent content = usual_content();
  aim_at(content, 1);
  content.next_hops[1].vlan = 77;
  content.vlans = {{0, 5}, {0, 77}};
  Rig rig(content);
  EXPECT_EQ(rig.send_one(from_client(kDsr).flags(kSynFlag)).vlan, 77);
  const Seen tagged = rig.send_one(from_client(kNat).flags(kSynFlag).vlan(5));
  EXPECT_EQ(tagged.vlan, 77);
  EXPECT_TRUE(tagged.checksums_right);
  const Seen reply = rig.send_one(from_backend(tagged).flags(kSynFlag).ack(1001).vlan(77));
  EXPECT_EQ(reply.vlan, 0);
  EXPECT_TRUE(reply.checksums_right);
}

TEST_P(Forward, AffinityClientIgnoresPorts) {
  TableContent content = usual_content();
  for (auto& s : content.services) s.affinity = static_cast<uint8_t>(Affinity::client);
  Rig rig(content);
  const std::string mac = rig.send_one(from_client(kDsr, 1).flags(kSynFlag)).mac;
  for (uint16_t port = 2; port < 40; ++port) {
    EXPECT_EQ(rig.send_one(from_client(kDsr, port).flags(kSynFlag)).mac, mac);
    EXPECT_EQ(rig.send_one(from_client(kNat, port).flags(kSynFlag)).mac, mac);
  }
}

TEST_P(Forward, FlowsKeepTheirBackendWhenTheTableChanges) {
  for (const uint16_t port : {kDsr, kNat}) {
    TableContent content = usual_content();
    aim_at(content, 1);
    Rig rig(content);
    const Seen in = rig.send_one(from_client(port).flags(kSynFlag).seq(5));
    if (port == kNat) rig.send(from_backend(in).flags(kSynFlag).ack(6));
    aim_at(content, 2);
    rig.adopt(content);
    EXPECT_EQ(rig.send_one(from_client(port).seq(6).ack(1)).mac, "02:00:00:00:00:11");
    EXPECT_EQ(rig.send_one(from_client(port).flags(kSynFlag).seq(5)).mac, "02:00:00:00:00:11")
        << "a retransmission";
    EXPECT_EQ(rig.send_one(from_client(port).flags(kSynFlag).seq(9)).mac,
              port == kDsr ? "02:00:00:00:00:11" : "02:00:00:00:00:12")
        << "another connection, where the entry can tell; its backend takes no more";
    EXPECT_EQ(rig.send_one(from_client(port, 40001).flags(kSynFlag)).mac, "02:00:00:00:00:12")
        << "a new flow";
  }
}

TEST_P(Forward, RepeatedSynsAreCounted) {
  TableContent content = usual_content();
  aim_at(content, 1);
  Rig rig(content);
  for (int i = 0; i < 3; ++i) {
    rig.send_one(from_client(kDsr).flags(kSynFlag).seq(5));
    rig.send_one(from_client(kNat).flags(kSynFlag).seq(5));
  }
  EXPECT_EQ(rig.of_backend(1, &BackendFeedback::syn_repeats), 4u);
  EXPECT_EQ(rig.of_backend(1, &BackendFeedback::new_flows), 2u);
}

TEST_P(Forward, AClosedFlowsSynChoosesAnew) {
  TableContent content = usual_content();
  aim_at(content, 1);
  Rig rig(content);
  for (const uint16_t port : {kDsr, kNat}) {
    rig.send_one(from_client(port).flags(kSynFlag).seq(5));
    rig.send_one(from_client(port).flags(kRstFlag).seq(6));
  }
  aim_at(content, 2);
  rig.adopt(content);
  EXPECT_EQ(rig.send_one(from_client(kNat).flags(kSynFlag).seq(5)).mac, "02:00:00:00:00:11") << "same ISN";
  for (const uint16_t port : {kDsr, kNat})
    EXPECT_EQ(rig.send_one(from_client(port).flags(kSynFlag).seq(99)).mac, "02:00:00:00:00:12");
  EXPECT_EQ(rig.total(&WorkerCounters::flows), 2u);
}

TEST_P(Forward, ALaterPacketOfAnUnknownFlow) {
  TableContent content = usual_content();
  Rig rig(content);
  EXPECT_EQ(rig.send(Bytes(from_client(kDsr).seq(5).ack(9))).size(), 1u) << "dsr goes by the table";
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::missed), 1u);
  const Seen reset = rig.send_one(from_client(kNat).seq(5).ack(9));
  EXPECT_EQ(reset.flags, kRstFlag);
  EXPECT_EQ(reset.seq, 9u);
  EXPECT_EQ(reset.source, GetParam().vip);
  EXPECT_EQ(reset.destination, GetParam().client);
  EXPECT_EQ(reset.destination_port, 40000);
  EXPECT_EQ(reset.mac, "02:00:00:00:00:cc") << "it goes the way the packet came";
  EXPECT_TRUE(reset.checksums_right);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::missed), 1u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::resets_sent), 1u);
  EXPECT_EQ(rig.drops(DropReason::unknown_flow), 1u);
  EXPECT_EQ(rig.total(&WorkerCounters::answered), 1u);
  EXPECT_TRUE(rig.send(Bytes(from_client(kNat).flags(kRstFlag).seq(5))).empty()) << "no RST for a RST";
}

TEST_P(Forward, WhatNobodySentThroughUsIsAnUnknownReply) {
  Rig rig(usual_content());
  EXPECT_EQ(rig.send(Bytes(Tcp(GetParam().backend(1), kNat, GetParam().nat, 2000).ack(1))).size(), 1u)
      << "a reset";
  EXPECT_EQ(rig.drops(DropReason::unknown_reply), 1u);
  TableContent other = usual_content();
  for (auto& n : other.nat) n.first_port = 3000;
  rig.adopt(other);
  EXPECT_TRUE(rig.send(Bytes(Tcp(GetParam().backend(1), kNat, GetParam().nat, 2000).ack(1))).empty());
  EXPECT_EQ(rig.drops(DropReason::not_ours), 1u);
}

}  // namespace
}  // namespace portico::test
