// SPDX-License-Identifier: Apache-2.0
// What the portal hosts' program does with frames that need no connection: who is let in, what comes out.
#include <random>

#include "tests/unit/agent_rig.h"

namespace portico {
namespace {

using namespace frames;

// One of the four combinations of families.
struct Nesting {
  const char* name;
  std::string outer_from, outer_to, inner_from, inner_to;
  uint8_t protocol() const { return address_bytes(inner_to).size() == 4 ? kIpInIp : kIp6InIp; }
};
const Nesting kNestings[] = {{"4in4", kBalancer, kPortal, kClient, kVip},
                             {"6in6", kBalancer6, kPortal6, kClient6, kVip6},
                             {"4in6", kBalancer6, kPortal6, kClient, kVip},
                             {"6in4", kBalancer, kPortal, kClient6, kVip6}};

Bytes inner_of(const Nesting& n, uint8_t traffic_class = 0, uint8_t flags = kAck) {
  return ip_packet({.from = n.inner_from, .to = n.inner_to, .traffic_class = traffic_class, .ttl = 57},
                   tcp_segment(n.inner_from, n.inner_to, 5000, 443, flags, 7, 9, {}, Bytes(30, 'x')));
}
IpHeader outer_of(const Nesting& n, uint8_t traffic_class = 0) {
  return {.from = n.outer_from, .to = n.outer_to, .protocol = n.protocol(), .traffic_class = traffic_class};
}
Bytes ipip(const Nesting& n, const Bytes& inner) {
  return frame_of(ip_packet(outer_of(n), inner));
}

TEST_F(AgentTest, TakesIpOutOfIpInAllFourWays) {
  for (const Nesting& n : kNestings) {
    const Bytes inner = inner_of(n);
    expect_taken(n.name, AGENT_TAKEN_IPIP, ipip(n, inner), inner);
  }
}

TEST_F(AgentTest, KeepsTheVlanTag) {
  for (const Nesting& n : kNestings) {
    const Bytes inner = inner_of(n);
    const Outcome outcome = expect(n.name, AGENT_TAKEN_IPIP, tagged_frame_of(ip_packet(outer_of(n), inner)));
    EXPECT_EQ(outcome.action, XDP_PASS);
    EXPECT_EQ(outcome.frame, tagged_frame_of(inner)) << n.name;
  }
}

TEST_F(AgentTest, TakesPacketsOutOfGue) {
  for (const Nesting& n : kNestings) {
    const Bytes inner = inner_of(n);
    for (const bool with_sum : {true, false})
      expect_taken(n.name, AGENT_TAKEN_GUE,
                   frame_of(gue_packet(outer_of(n), {.with_sum = with_sum}, n.protocol(), inner)), inner);
    const auto hop = address_bytes(n.outer_to).size() == 4 ? kPeer : kPeer6;
    expect_taken("private data of others", AGENT_TAKEN_GUE,
                 frame_of(gue_packet(outer_of(n), {.hops = {hop}, .type = 1}, n.protocol(), inner)), inner);
  }
}

TEST_F(AgentTest, DropsWhatIsForged) {
  for (const Nesting& n : kNestings) {
    const bool is_v6 = address_bytes(n.outer_to).size() == 16;
    for (const auto& source :
         is_v6 ? std::array{kStranger6, kPeer6, kVip6} : std::array{kStranger, kPeer, kVip}) {
      Nesting forged = n;
      forged.outer_from = source;
      expect_dropped(n.name, AGENT_FORGED, ipip(forged, inner_of(n)));
      expect_dropped(n.name, AGENT_FORGED,
                     frame_of(gue_packet(outer_of(forged), {}, n.protocol(), inner_of(n))));
    }
  }
}

TEST_F(AgentTest, LeavesAloneWhatIsNotItsOwn) {
  for (const Nesting& n : kNestings) {
    const bool is_v6 = n.inner_to == kVip6;
    Nesting other = n;
    other.inner_to = is_v6 ? kPortal6 : kPortal;
    expect_untouched("not to a VIP", AGENT_NOT_VIP, ipip(n, inner_of(other)));
    other = n;
    other.outer_to = n.outer_to == kPortal ? kStranger : kStranger6;
    expect_untouched("to another host", AGENT_NOT_LOCAL, ipip(other, inner_of(n)));
    expect_untouched("not in a tunnel", AGENT_OTHER, frame_of(inner_of(n)));
    expect_untouched("another UDP port", AGENT_OTHER,
                     frame_of(gue_packet(outer_of(n), {.port = 6081}, n.protocol(), inner_of(n))));
    IpHeader gre = outer_of(n);
    gre.protocol = 47;
    expect_untouched("GRE", AGENT_OTHER, frame_of(ip_packet(gre, inner_of(n))));
  }
  expect_untouched("ARP", AGENT_OTHER, ethernet(0x0806) + Bytes(60, 0));
  const Bytes inner = inner_of(kNestings[0]);
  IpHeader outer = outer_of(kNestings[0]);
  outer.options = Bytes(8, 1);
  expect_untouched("outer options", AGENT_OTHER, frame_of(ip_packet(outer, inner)));
  outer = outer_of(kNestings[0]);
  for (const uint16_t fragment : std::initializer_list<uint16_t>{0x2000, 0x0010}) {
    outer.fragment = fragment;
    expect_untouched("outer fragment", AGENT_OTHER, frame_of(ip_packet(outer, inner)));
  }
  IpHeader outer6 = outer_of(kNestings[1]);
  outer6.protocol = 60;
  expect_untouched("outer extension header", AGENT_OTHER,
                   frame_of(ip_packet(outer6, extension(kIp6InIp) + inner_of(kNestings[1]))));
  expect_untouched("inner version 6 in protocol 4", AGENT_OTHER,
                   frame_of(ip_packet(outer_of(kNestings[0]), inner_of(kNestings[1]))));
  expect_untouched("two tags", AGENT_OTHER, vlan(0x8100) + be16(7) + be16(kIp) + ip_packet(outer, inner));
}

TEST_F(AgentTest, TakesOnlyTheKindsOfTunnelThatItIsTold) {
  settings_.ipip = 0;
  settings_.gue_port = 0;
  load();
  for (const Nesting& n : kNestings) {
    expect_untouched(n.name, AGENT_OTHER, ipip(n, inner_of(n)));
    expect_untouched(n.name, AGENT_OTHER, frame_of(gue_packet(outer_of(n), {}, n.protocol(), inner_of(n))));
  }
}

// RFC 6040, figure 4: rows are the inner field (Not-ECT, ECT(1), ECT(0), CE), columns the outer one; -1:
// dropped.
TEST_F(AgentTest, CombinesEcnAsRfc6040Says) {
  const int expected[4][4] = {{0, 0, 0, -1}, {1, 1, 1, 3}, {2, 1, 2, 3}, {3, 3, 3, 3}};
  for (const Nesting& n : kNestings)
    for (uint8_t inner = 0; inner < 4; ++inner)
      for (uint8_t outer = 0; outer < 4; ++outer) {
        const uint8_t dscp = 0xb8;
        const auto inner_class = static_cast<uint8_t>(dscp | inner);
        // Outer DSCP is of the tunnel, and ends with it.
        const Bytes frame =
            frame_of(ip_packet(outer_of(n, static_cast<uint8_t>(0x28 | outer)), inner_of(n, inner_class)));
        SCOPED_TRACE(testing::Message() << n.name << " inner " << int{inner} << " outer " << int{outer});
        if (expected[inner][outer] < 0)
          expect_dropped("no ECT", AGENT_ECN, frame);
        else
          expect_taken("ECN", AGENT_TAKEN_IPIP, frame,
                       inner_of(n, static_cast<uint8_t>(dscp | expected[inner][outer])));
      }
}

TEST_F(AgentTest, DropsGueThatContradictsItself) {
  const auto malformed = [&](const char* what, const auto& spoil) {
    for (const Nesting& n : kNestings) {
      const bool is_v6 = n.outer_to == kPortal6;
      const std::string hop = is_v6 ? kPeer6 : kPeer;
      const Gue gue{.hops = {hop, is_v6 ? kLost6 : kLost}, .with_sum = false};
      Bytes frame = frame_of(gue_packet(outer_of(n), gue, n.protocol(), inner_of(n)));
      spoil(frame, is_v6 ? 62 : 42);  // where GUE begins
      expect_dropped(what, AGENT_MALFORMED, frame);
    }
  };
  malformed("next beyond count", [](Bytes& f, size_t at) { f[at + 6] = 3; });
  malformed("next far beyond count", [](Bytes& f, size_t at) { f[at + 6] = 255; });
  malformed("more hops than words", [](Bytes& f, size_t at) { f[at + 7] = 3; });
  malformed("fewer hops than words", [](Bytes& f, size_t at) { f[at + 7] = 1; });
  malformed("no hops", [](Bytes& f, size_t at) { f[at + 7] = 0; });
  malformed("too many hops", [](Bytes& f, size_t at) { f[at + 7] = 4; });
  malformed("flags", [](Bytes& f, size_t at) { f[at + 2] = 1; });
}

TEST_F(AgentTest, LeavesOtherVariantsAndControlMessagesOfGue) {
  for (const uint8_t first : Bytes{0x20, 0x40, 0x80}) {
    Bytes frame =
        frame_of(gue_packet(outer_of(kNestings[0]), {.with_sum = false}, kIpInIp, inner_of(kNestings[0])));
    frame[42] |= first;
    expect_untouched("control or variant", AGENT_OTHER, frame);
  }
}

// Cut anywhere: no byte beyond the end is read (the verifier sees to that), and what is not whole up to the
// inner addresses is left as it is.
TEST_F(AgentTest, LeavesTruncatedFrames) {
  for (const Nesting& n : kNestings) {
    const bool is_v6 = n.outer_to == kPortal6;
    for (const Bytes& whole : {ipip(n, inner_of(n)), tagged_frame_of(ip_packet(outer_of(n), inner_of(n))),
                               frame_of(gue_packet(outer_of(n), {.hops = {is_v6 ? kPeer6 : kPeer}, .next = 1},
                                                   n.protocol(), inner_of(n)))}) {
      const size_t addresses = whole.size() - 50 /* TCP and data */;
      for (size_t size = 14; size <= whole.size(); ++size) {
        const Bytes frame = part(whole, 0, size);
        const Outcome outcome = run(object_->ingress_fd(), frame);
        EXPECT_EQ(outcome.action, XDP_PASS);
        EXPECT_EQ(outcome.frame == frame, size < addresses) << n.name << " " << size;
      }
    }
  }
}

// Neither a crash nor a frame that grows: what passes is the frame, or is shorter by a header.
TEST_F(AgentTest, BearsRandomFrames) {
  std::mt19937 random(20261123);
  std::vector<Bytes> seeds;
  for (const Nesting& n : kNestings) {
    const bool is_v6 = n.outer_to == kPortal6;
    seeds.push_back(ipip(n, inner_of(n)));
    seeds.push_back(
        frame_of(gue_packet(outer_of(n), {.hops = {is_v6 ? kPeer6 : kPeer}}, n.protocol(), inner_of(n))));
  }
  for (int round = 0; round < 20000; ++round) {
    Bytes frame = seeds[random() % seeds.size()];
    for (auto changes = 1 + random() % 6; changes > 0; --changes)
      frame[random() % frame.size()] = static_cast<uint8_t>(random());
    if (random() % 4 == 0) frame.resize(64 + random() % (frame.size() - 64));
    for (const AgentObject* object : {&*object_, &*tc_object_}) {
      const Outcome outcome = run(object->ingress_fd(), frame);
      ASSERT_LE(outcome.frame.size(), frame.size());
    }
    run(object_->egress_fd(), frame);
  }
}

class AgentMssTest : public AgentTest {
 protected:
  // A SYN-ACK with these options as it leaves; its MSS option's value is expected to become `mss`.
  void expect_mss(const char* what, uint16_t mss, const std::string& from, const std::string& to,
                  const Bytes& options, size_t value_at, uint8_t flags = kSyn | kAck) {
    const Bytes frame =
        frame_of(ip_packet({.from = from, .to = to}, tcp_segment(from, to, 443, 5000, flags, 1, 2, options)));
    const size_t tcp = frame.size() - 20 - options.size();
    const uint16_t before = get16(frame, tcp + 20 + value_at);
    const uint64_t clamped = counted(*object_, AGENT_MSS_CLAMPED);
    const Outcome outcome = run(object_->egress_fd(), frame);
    EXPECT_EQ(outcome.action, static_cast<unsigned>(TC_ACT_UNSPEC)) << what;
    ASSERT_EQ(outcome.frame.size(), frame.size());
    EXPECT_EQ(get16(outcome.frame, tcp + 20 + value_at), mss) << what;
    EXPECT_EQ(transport_sum(from, to, kTcp, part(outcome.frame, tcp)), 0) << what << ": checksum";
    EXPECT_EQ(counted(*object_, AGENT_MSS_CLAMPED), clamped + (mss != before ? 1 : 0)) << what;
    Bytes rest = outcome.frame;
    set16(rest, tcp + 20 + value_at, before);
    set16(rest, tcp + 16, get16(frame, tcp + 16));
    EXPECT_EQ(rest, frame) << what << ": nothing else changes";
  }
};

TEST_F(AgentMssTest, ClampsSynAcksOfVips) {
  const Bytes plain = Bytes{2, 4, 5, 0xb4};            // 1460
  const Bytes odd = Bytes{1, 2, 4, 5, 0xb4, 1, 4, 2};  // at an odd offset
  const Bytes late = Bytes{8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7} + Bytes{1, 2, 4, 5, 0xb4, 0};
  for (const auto& [from, to, mss] : {std::tuple{kVip, kClient, 1400}, std::tuple{kVip6, kClient6, 1380}}) {
    const auto most = static_cast<uint16_t>(mss);
    expect_mss("plain", most, from, to, plain, 2);
    expect_mss("odd", most, from, to, odd, 3);
    expect_mss("late", most, from, to, late, 17);
    expect_mss("small enough", 1300, from, to, {2, 4, 5, 0x14}, 2);
    expect_mss("a SYN", 1460, from, to, plain, 2, kSyn);
    expect_mss("an ACK", 1460, from, to, plain, 2, kAck);
    expect_mss("after the end", 1460, from, to, {0, 2, 4, 5, 0xb4, 0, 0, 0}, 3);
    expect_mss("behind an option without a size", 1460, from, to, {3, 0, 2, 4, 5, 0xb4, 0, 0}, 4);
    expect_mss("cut off", 1460, from, to, {1, 1, 2, 3, 5, 0xb4, 0, 0}, 4);
  }
  expect_mss("not of a VIP", 1460, kPortal, kClient, plain, 2);
}

TEST_F(AgentMssTest, LeavesTheMssIfNotTold) {
  settings_.mss_v4 = settings_.mss_v6 = 0;
  load();
  expect_mss("IPv4", 1460, kVip, kClient, {2, 4, 5, 0xb4}, 2);
  expect_mss("IPv6", 1460, kVip6, kClient6, {2, 4, 5, 0xb4}, 2);
}

}  // namespace
}  // namespace portico
