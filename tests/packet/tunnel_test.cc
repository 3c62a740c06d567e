// SPDX-License-Identifier: Apache-2.0
// dsr-ipip: what stands around the client's packet, byte by byte, and what becomes of packets that do not
// fit.
#include <gtest/gtest.h>

#include <set>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

enum class Outer { v4, v6 };
struct Kind4 {
  const char* name;
  bool inner_is_v6;
  Outer outer;
};
constexpr Kind4 kKinds[] = {{"4in4", false, Outer::v4},
                            {"6in6", true, Outer::v6},
                            {"4in6", false, Outer::v6},
                            {"6in4", true, Outer::v4}};

void set_sources(TableContent& c, const char* v4, uint8_t length4, const char* v6, uint8_t length6) {
  c.settings.tunnel_source_v4 = v4 ? address(v4) : Address{};
  c.settings.tunnel_length_v4 = length4;
  c.settings.tunnel_source_v6 = v6 ? address(v6) : Address{};
  c.settings.tunnel_length_v6 = length6;
}

// Everything goes to backend 2, in tunnels over one family with one source.
TableContent tunnel_content(Outer outer) {
  TableContent c = usual_content();
  c.services[0].mode = static_cast<uint8_t>(Mode::dsr_ipip);
  outer == Outer::v4 ? set_sources(c, "198.51.100.9", 32, nullptr, 0)
                     : set_sources(c, nullptr, 0, "2001:db8:5::9", 128);
  aim_at(c, 2);
  return c;
}

size_t outer_size(Outer outer) {
  return outer == Outer::v4 ? 20 : 40;
}
Bytes inner_of(const Seen& seen, Outer outer) {
  return Bytes(seen.ip.begin() + static_cast<long>(outer_size(outer)), seen.ip.end());
}

class Tunnel : public testing::TestWithParam<Kind4> {
 protected:
  Outer outer() const { return GetParam().outer; }
  bool is_v6() const { return GetParam().inner_is_v6; }
  Tcp from_client(uint16_t port = 40000) const {
    return is_v6() ? Tcp(kClient6, port, kVip6, kDsr) : Tcp(kClient4, port, kVip4, kDsr);
  }
  // A packet of `size` bytes, from the IP header on.
  Tcp of_size(size_t size) const {
    return from_client().ack(1).fragment(0x4000).payload(std::string(size - (is_v6() ? 60 : 40), 'x'));
  }
  size_t fits() const { return 1500 - outer_size(outer()); }

  TableContent content_ = tunnel_content(outer());
};
INSTANTIATE_TEST_SUITE_P(Kinds, Tunnel, testing::ValuesIn(kKinds), [](const auto& p) {
  return std::string("inner_v") + (p.param.inner_is_v6 ? "6" : "4") +
         (p.param.outer == Outer::v4 ? "_outer_v4" : "_outer_v6");
});

// Of a packet of 44 bytes over IPv4, or of 64 over IPv6, with traffic class 0xb9 (EF, ECT(1)).
Bytes golden_outer(const Kind4& kind, const Bytes& flow_label) {
  const uint8_t protocol = kind.inner_is_v6 ? 41 : 4;
  const uint8_t inner_size = kind.inner_is_v6 ? 64 : 44;
  if (kind.outer == Outer::v4) {
    Bytes h = {0x45, 0xb9,     0,    static_cast<uint8_t>(20 + inner_size),
               0,    0,        0x40, 0,
               64,   protocol, 0,    0,
               198,  51,       100,  9,
               198,  18,       1,    2};
    const uint16_t sum = static_cast<uint16_t>(~internet_sum(h));
    h[10] = static_cast<uint8_t>(sum >> 8), h[11] = static_cast<uint8_t>(sum);
    return h;
  }
  return {0x6b,
          static_cast<uint8_t>(0x90 | flow_label[0]),
          flow_label[1],
          flow_label[2],
          0,
          inner_size,
          protocol,
          64,
          0x20,
          1,
          0x0d,
          0xb8,
          0,
          5,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          9,
          0x20,
          1,
          0x0d,
          0xb8,
          0,
          1,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          0,
          2};
}

void set_traffic_class(Bytes& frame, uint8_t value) {
  if (frame[14] >> 4 == 6) {
    frame[14] = static_cast<uint8_t>(0x60 | value >> 4);
    frame[15] = static_cast<uint8_t>((frame[15] & 0x0f) | value << 4);
  } else {
    frame[15] = value;
    mend_ip_sum(frame);
  }
}
uint8_t traffic_class(const Bytes& ip) {
  return ip[0] >> 4 == 6 ? static_cast<uint8_t>(ip[0] << 4 | ip[1] >> 4) : ip[1];
}

TEST_P(Tunnel, HasThePacketUnchangedInsideIp) {
  Rig rig(content_);
  Bytes frame = from_client().flags(kSynFlag).options({2, 4, 5, 0xb4});
  set_traffic_class(frame, 0xb9);
  const Seen seen = rig.send_one(frame);
  EXPECT_EQ(seen.mac, "02:00:00:00:00:12");
  const Bytes label = {static_cast<uint8_t>(seen.ip[1] & 0x0f), seen.ip[2], seen.ip[3]};
  EXPECT_EQ(Bytes(seen.ip.begin(), seen.ip.begin() + static_cast<long>(outer_size(outer()))),
            golden_outer(GetParam(), label));
  Bytes expected(frame.begin() + 14, frame.end());
  --expected[is_v6() ? 7 : 8];
  if (!is_v6()) {
    frame[22] = 63;
    mend_ip_sum(frame);
    expected = Bytes(frame.begin() + 14, frame.end());
  }
  EXPECT_EQ(inner_of(seen, outer()), expected);
  EXPECT_TRUE(read_ip(inner_of(seen, outer())).checksums_right);
  EXPECT_EQ(rig.of_backend(2, &BackendFeedback::packets_in), 1u);
  EXPECT_EQ(rig.of_backend(2, &BackendFeedback::bytes_in), expected.size()) << "the client's";
  EXPECT_EQ(rig.of_service(1, &ServiceFeedback::new_flows), 1u);
}

TEST_P(Tunnel, CopiesTheTrafficClass) {  // RFC 6040 section 4.1, normal mode; RFC 2983, uniform
  Rig rig(content_);
  for (uint32_t value = 0; value < 256; ++value) {
    Bytes frame = from_client().flags(kSynFlag);
    set_traffic_class(frame, static_cast<uint8_t>(value));
    const Seen seen = rig.send_one(frame);
    EXPECT_EQ(traffic_class(seen.ip), value);
    EXPECT_EQ(traffic_class(inner_of(seen, outer())), value);
    EXPECT_TRUE(outer() != Outer::v4 || internet_sum(Bytes(seen.ip.begin(), seen.ip.begin() + 20)) == 0xffff);
  }
}

TEST_P(Tunnel, TagsFollowTheNextHop) {
  content_.next_hops[2].vlan = 77;
  content_.vlans = {{0, 5}, {0, 77}};
  Rig rig(content_);
  EXPECT_EQ(rig.send_one(from_client().flags(kSynFlag)).vlan, 77);
  const Seen seen = rig.send_one(from_client().ack(1).vlan(5).payload("x"));
  EXPECT_EQ(seen.vlan, 77);
  EXPECT_EQ(read_ip(inner_of(seen, outer())).payload, "x");
  EXPECT_EQ(seen.ip[0] >> 4, outer() == Outer::v4 ? 4 : 6);
}

TEST_P(Tunnel, TellsClientsWhatFits) {
  content_.vlans = {{0, 5}};
  Rig rig(content_);
  rig.send_one(from_client().flags(kSynFlag));
  const Seen largest = rig.send_one(of_size(fits()));
  EXPECT_EQ(largest.ip.size(), 1500u);
  const Tcp too_big = of_size(fits() + 1);
  const Bytes sent = too_big;
  const Seen answer = rig.send_one(Tcp(too_big).vlan(5));
  EXPECT_EQ(answer.vlan, 5) << "by the way it came";
  EXPECT_EQ(answer.source, is_v6() ? kVip6 : kVip4);
  EXPECT_EQ(answer.destination, is_v6() ? kClient6 : kClient4);
  EXPECT_EQ(answer.mac, read_frame(sent).own_mac);
  EXPECT_EQ(answer.protocol, is_v6() ? 58 : 1);
  EXPECT_EQ(answer.ttl, 64);
  EXPECT_TRUE(answer.checksums_right);
  const Bytes icmp(answer.ip.begin() + (is_v6() ? 40 : 20), answer.ip.end());
  EXPECT_EQ(icmp[0], is_v6() ? 2 : 3);
  EXPECT_EQ(icmp[1], is_v6() ? 0 : 4);
  EXPECT_EQ(icmp[6] << 8 | icmp[7], static_cast<int>(fits()));
  EXPECT_EQ(answer.ip.size(), is_v6() ? 1280u : 576u) << "RFC 4443 section 2.4, RFC 1812 section 4.3.2.3";
  const Seen about = read_ip(answer.icmp_embedded);
  EXPECT_EQ(about.source_port, 40000);
  EXPECT_EQ(about.destination_port, kDsr);
  EXPECT_EQ(rig.drops(DropReason::tunnel_too_big), 1u);
  EXPECT_EQ(rig.total(&WorkerCounters::answered), 1u);
  EXPECT_EQ(rig.of_backend(2, &BackendFeedback::packets_in), 2u);
}

TEST_P(Tunnel, AnswersNoMoreThanTheRateAllows) {
  content_.settings.reset_rate = 10;
  Rig rig(content_);
  rig.send_one(from_client().flags(kSynFlag));
  rig.send(std::vector<Bytes>(50, Bytes(of_size(fits() + 1))));
  EXPECT_EQ(rig.drops(DropReason::tunnel_too_big), 1u);
  EXPECT_EQ(rig.drops(DropReason::rate_limited), 49u);
}

TEST_P(Tunnel, DropsWhatNoAnswerWouldMend) {
  content_.next_hops[2].mtu = is_v6() ? 1280 : 68;
  Rig rig(content_);
  // RFC 2473 section 7.1 (b), and the same for IPv4's least MTU: senders go no lower.
  EXPECT_TRUE(rig.send(Bytes(of_size(is_v6() ? 1280 : 68))).empty());
  EXPECT_EQ(rig.drops(DropReason::exceeds_mtu), 1u);
  const Seen lowest = rig.send_one(of_size(is_v6() ? 1281 : 69));
  const size_t at = is_v6() ? 46 : 26;
  EXPECT_EQ(lowest.ip[at] << 8 | lowest.ip[at + 1], is_v6() ? 1280 : 68);
}

TEST_P(Tunnel, NeedsRoomBeforeThePacket) {
  const auto room = static_cast<uint16_t>(outer_size(outer()) + 4);  // for the outer header and a tag
  {
    Rig rig(content_, {.headroom = room});
    EXPECT_EQ(rig.send(Bytes(from_client().flags(kSynFlag))).size(), 1u);
  }
  Rig rig(content_, {.headroom = static_cast<uint16_t>(room - 1)});
  EXPECT_TRUE(rig.send(Bytes(from_client().flags(kSynFlag))).empty());
  EXPECT_EQ(rig.drops(DropReason::tunnel_no_headroom), 1u);
  Rig answering(content_, {.headroom = static_cast<uint16_t>(is_v6() ? 47 : 27)});
  EXPECT_TRUE(answering.send(Bytes(of_size(1500))).empty());
  EXPECT_EQ(answering.drops(DropReason::tunnel_no_headroom), 1u);
}

TEST_P(Tunnel, ErrorsAboutItsFlowsGoThroughIt) {
  Rig rig(content_, {.workers = 2});
  rig.send_one(from_client().flags(kSynFlag), 1);
  aim_at(content_, 3);
  rig.adopt(content_);
  const char* const router = is_v6() ? "2001:db8:f::1" : "192.0.2.254";
  const char* const vip = is_v6() ? kVip6 : kVip4;
  const auto error_about = [&](uint16_t port, size_t size) {
    const Bytes packet = Tcp(vip, kDsr, is_v6() ? kClient6 : kClient4, port).ack(1).payload("x").ip();
    Bytes padded = packet;
    padded.resize(size);
    return icmp_error(router, vip, is_v6() ? 2 : 3, padded, size);
  };
  const Seen known = rig.send_one(error_about(40000, 60), 0);
  EXPECT_EQ(known.mac, "02:00:00:00:00:12");
  EXPECT_EQ(read_ip(inner_of(known, outer())).source, router);
  EXPECT_TRUE(read_ip(inner_of(known, outer())).checksums_right);
  EXPECT_EQ(rig.send_one(error_about(40001, 60), 0).mac, "02:00:00:00:00:13") << "by the table";
  EXPECT_TRUE(rig.send(error_about(40000, 1460), 1).empty());
  EXPECT_EQ(rig.drops(DropReason::exceeds_mtu), 1u) << "no error about an error";
}

TEST_P(Tunnel, FlowsStayWithTheirBackendAndAreResetLikeAllOfDsr) {
  Rig rig(content_);
  rig.send_one(from_client().flags(kSynFlag).seq(5));
  aim_at(content_, 3);
  rig.adopt(content_);
  EXPECT_EQ(rig.send_one(from_client().seq(6).ack(9)).mac, "02:00:00:00:00:12");
  EXPECT_EQ(rig.send_one(from_client(40001).flags(kSynFlag)).mac, "02:00:00:00:00:13");
  content_.pools[0].backends[1].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  rig.adopt(content_);
  const auto resets = rig.sweep_ms(1000);
  ASSERT_EQ(resets.size(), 1u);
  EXPECT_EQ(resets[0].destination, is_v6() ? kClient6 : kClient4);
  EXPECT_EQ(resets[0].flags, kRstFlag);
  EXPECT_EQ(resets[0].seq, 9u);
  EXPECT_TRUE(resets[0].checksums_right);
}

TEST_P(Tunnel, PacketsWaitForTheNeighbourInsideIt) {
  content_.next_hops[2].resolved = 0;
  content_.routes.push_back(outer() == Outer::v4 ? RouteRecord{address("198.18.1.0"), 24, 1, 2, 0, 0}
                                                 : RouteRecord{address("2001:db8:1::"), 64, 1, 2, 0, 0});
  if (outer() == Outer::v6) content_.next_hops[2].address = address("2001:db8:1::2");
  std::ranges::sort(content_.routes, {}, [](const auto& r) { return std::pair(r.prefix, r.length); });
  Rig rig(content_);
  EXPECT_TRUE(rig.send(Bytes(from_client().flags(kSynFlag))).empty());
  content_.next_hops[2].resolved = 1;
  rig.adopt(content_);
  const auto sent = rig.sweep_ms(20);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(read_ip(inner_of(sent[0], outer())).flags, kSynFlag);
}

TEST_P(Tunnel, FlowsAreKeptAcrossARestart) {
  if (outer() == Outer::v4)
    for (BackendRecord& b : content_.pools[0].backends) b.address_v6 = {}, b.next_hop_v6 = kNone;
  else
    for (BackendRecord& b : content_.pools[0].backends) b.address_v4 = {}, b.next_hop_v4 = kNone;
  TempDir directory;
  uint64_t now = 0;
  {
    Rig rig(content_, {.keep = directory.path()});
    rig.send_one(from_client().flags(kSynFlag).seq(5));
    rig.send_one(from_client().seq(6).ack(9));
    now = rig.now();
  }
  aim_at(content_, 3);
  Rig rig(content_, {.keep = directory.path(), .now = now + 1000});
  EXPECT_EQ(rig.total(&WorkerCounters::flows_kept), 1u);
  EXPECT_EQ(rig.send_one(from_client().seq(6).ack(9)).mac, "02:00:00:00:00:12");
}

TEST_P(Tunnel, ExplainNamesIt) {
  Rig rig(content_);
  const bool is_outer_v4 = outer() == Outer::v4;
  const ExplainAnswer answer = rig.worker().explain(
      {address(is_v6() ? kClient6 : kClient4), address(is_v6() ? kVip6 : kVip4), 40000, kDsr}, rig.table(),
      rig.now());
  EXPECT_EQ(to_string(answer.tunnel_source), is_outer_v4 ? "198.51.100.9" : "2001:db8:5::9");
  EXPECT_EQ(to_string(answer.tunnel_destination), is_outer_v4 ? "198.18.1.2" : "2001:db8:1::2");
  EXPECT_EQ(answer.next_hop, 2);
}

TEST(TunnelFamilies, APacketsOwnFamilyComesFirst) {
  TableContent c = tunnel_content(Outer::v4);
  set_sources(c, "198.51.100.9", 32, "2001:db8:5::9", 128);
  Rig rig(c);
  EXPECT_EQ(rig.send_one(Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag)).ip[0] >> 4, 4);
  EXPECT_EQ(rig.send_one(Tcp(kClient6, 1, kVip6, kDsr).flags(kSynFlag)).ip[0] >> 4, 6);
  c.pools[0].backends[1].address_v6 = {};
  c.pools[0].backends[1].next_hop_v6 = kNone;
  rig.adopt(c);
  EXPECT_EQ(rig.send_one(Tcp(kClient6, 2, kVip6, kDsr).flags(kSynFlag)).ip[0] >> 4, 4);
  set_sources(c, nullptr, 0, "2001:db8:5::9", 128);
  rig.adopt(c);
  EXPECT_TRUE(rig.send(Bytes(Tcp(kClient6, 3, kVip6, kDsr).flags(kSynFlag))).empty());
  EXPECT_TRUE(rig.send(Bytes(Tcp(kClient6, 2, kVip6, kDsr).ack(1))).empty());
  EXPECT_EQ(rig.drops(DropReason::no_backend), 2u) << "no way to it";
}

TEST(TunnelSources, VaryByFlowWithinThePrefix) {
  TableContent c = tunnel_content(Outer::v4);
  set_sources(c, "198.51.100.0", 26, "2001:db8:5::", 64);
  Rig rig(c);
  for (const bool is_v6 : {false, true}) {
    const auto prefix = *Prefix::parse(is_v6 ? "2001:db8:5::/64" : "198.51.100.0/26");
    std::set<std::string> sources;
    for (uint16_t port = 1; port <= 400; ++port) {
      const auto tcp = is_v6 ? Tcp(kClient6, port, kVip6, kDsr) : Tcp(kClient4, port, kVip4, kDsr);
      const std::string source = rig.send_one(Tcp(tcp).flags(kSynFlag)).source;
      EXPECT_EQ(rig.send_one(Tcp(tcp).ack(1)).source, source) << "a flow keeps its own";
      EXPECT_TRUE(prefix.contains(address(source.c_str())));
      sources.insert(source);
    }
    EXPECT_FALSE(sources.contains(is_v6 ? "2001:db8:5::" : "198.51.100.0"));
    EXPECT_FALSE(sources.contains("198.51.100.63"));
    EXPECT_GE(sources.size(), is_v6 ? 391u : 62u);
  }
}

TEST(TunnelSources, AreNeverAddressesOfANetwork) {
  struct Case {
    const char* prefix;
    uint8_t length;
    uint64_t hash;
    const char* source;
  };
  const Case cases[] = {{"198.51.100.0", 24, 0, "198.51.100.1"},
                        {"198.51.100.0", 24, 0xff, "198.51.100.254"},
                        {"198.51.100.0", 24, 0x5aa, "198.51.100.170"},
                        {"198.51.100.4", 30, 3, "198.51.100.6"},
                        {"198.51.100.4", 31, 0, "198.51.100.4"},
                        {"198.51.100.4", 31, 1, "198.51.100.5"},
                        {"198.51.100.4", 32, 77, "198.51.100.4"},
                        {"2001:db8:5::", 64, 0, "2001:db8:5::1"},
                        {"2001:db8:5::", 64, ~uint64_t{0}, "2001:db8:5:0:ffff:ffff:ffff:ffff"},
                        {"2001:db8::", 32, 7, "2001:db8::7"},
                        {"2001:db8:5::", 120, 0x1ff, "2001:db8:5::ff"},
                        {"2001:db8:5::", 127, 0, "2001:db8:5::"},
                        {"2001:db8:5::9", 128, 3, "2001:db8:5::9"}};
  for (const Case& c : cases) {
    const Address prefix = address(c.prefix);
    const Address source = prefix.is_v4() ? V4::address(TunnelSource<V4>(prefix, c.length).pick(c.hash))
                                          : V6::address(TunnelSource<V6>(prefix, c.length).pick(c.hash));
    EXPECT_EQ(to_string(source), c.source);
  }
}

}  // namespace
}  // namespace portico::test
