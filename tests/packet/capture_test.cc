// SPDX-License-Identifier: Apache-2.0
// Which packets a capture is about: asked of what really goes in and out.
#include "dataplane/capture_filter.h"

#include <gtest/gtest.h>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

struct Ends {
  const char *client, *other, *vip, *nat, *router;
  uint8_t unreachable;
};
constexpr Ends kV4{kClient4, "203.0.113.8", kVip4, kNat4, "192.0.2.254", 3},
    kV6{kClient6, "2001:db8:c::8", kVip6, kNat6, "2001:db8:f::1", 1};
constexpr uint16_t kDsrService = 1, kNatService = 2;

class CaptureTest : public testing::TestWithParam<Ends> {
 protected:
  CaptureTest() : rig_(usual_content()) {
    // A connection of the client, in both modes.
    for (const uint16_t port : {kDsr, kNat})
      sent_.push_back(rig_.send_one(from(GetParam().client, port).flags(kSynFlag)));
  }
  static Tcp from(const std::string& client, uint16_t port) {
    return Tcp(client, 40000, GetParam().vip, port);
  }
  // What the balancer has sent to the backend by NAT, and the backend's answer to it.
  Tcp to_backend() const {
    const Seen& s = sent_[1];
    return Tcp(s.source, s.source_port, s.destination, s.destination_port);
  }
  Tcp from_backend() const {
    const Seen& s = sent_[1];
    return Tcp(s.destination, s.destination_port, s.source, s.source_port);
  }
  bool is_captured(const CaptureFilter& filter, const Bytes& frame) {
    return rig_.worker().is_captured(filter, rig_.table(), frame);
  }
  static CaptureFilter of_client(const std::string& client, uint16_t port = 0) {
    return {.client = *Address::parse(client), .client_port = port};
  }

  Rig rig_;
  std::vector<Seen> sent_;
};
INSTANTIATE_TEST_SUITE_P(Families, CaptureTest, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

TEST_P(CaptureTest, TakesBothSidesOfAService) {
  const CaptureFilter nat{.service = kNatService}, dsr{.service = kDsrService};
  const Bytes reply = Tcp(GetParam().vip, kNat, GetParam().client, 40000).ack(1);
  for (const Bytes& frame : {Bytes(from(GetParam().client, kNat).ack(1)), reply, Bytes(to_backend().ack(1)),
                             Bytes(from_backend().ack(1)), Bytes(to_backend().ack(1).vlan(7))}) {
    EXPECT_TRUE(is_captured(nat, frame));
    EXPECT_FALSE(is_captured(dsr, frame));
  }
  const Bytes other = from(GetParam().other, kDsr).flags(kSynFlag);  // no flow has it yet
  EXPECT_TRUE(is_captured(dsr, other));
  EXPECT_FALSE(is_captured(nat, other));
  EXPECT_FALSE(is_captured(nat, from(GetParam().client, 22).flags(kSynFlag)));
  EXPECT_FALSE(is_captured({}, from(GetParam().client, 22).flags(kSynFlag)));
}

TEST_P(CaptureTest, TakesOneClientBehindTheNatAsWell) {
  for (const uint16_t port : {uint16_t{0}, uint16_t{40000}}) {
    const CaptureFilter filter = of_client(GetParam().client, port);
    EXPECT_TRUE(is_captured(filter, from(GetParam().client, kNat).ack(1)));
    EXPECT_TRUE(is_captured(filter, from(GetParam().client, kDsr).ack(1)));
    EXPECT_TRUE(is_captured(filter, to_backend().ack(1)));
    EXPECT_TRUE(is_captured(filter, from_backend().ack(1)));
    EXPECT_FALSE(is_captured(filter, from(GetParam().other, kNat).ack(1)));
  }
  EXPECT_FALSE(is_captured(of_client(GetParam().client, 40001), to_backend().ack(1)));
  EXPECT_FALSE(is_captured(of_client(GetParam().other), to_backend().ack(1)));
}

TEST_P(CaptureTest, TakesErrorsAboutThem) {
  const CaptureFilter filter{.service = kNatService};
  const Bytes packet = to_backend().flags(kSynFlag).ip();
  for (const size_t embedded : {packet.size(), packet.size() - 12})
    EXPECT_TRUE(is_captured(
        filter, icmp_error(GetParam().router, GetParam().nat, GetParam().unreachable, packet, embedded)));
  const Bytes foreign = from(GetParam().client, 22).flags(kSynFlag).ip();
  EXPECT_FALSE(is_captured(filter, icmp_error(GetParam().router, GetParam().nat, GetParam().unreachable,
                                              foreign, foreign.size())));
}

TEST_P(CaptureTest, LooksIntoTunnels) {
  const Bytes inner = from(GetParam().client, kDsr).ack(1).ip();
  const bool is_v6 = GetParam().vip == std::string(kVip6);
  Bytes frame = Tcp("198.18.2.1", 1, "198.18.1.1", 2).protocol(is_v6 ? 41 : 4);
  frame.resize(34);  // without a segment
  frame.insert(frame.end(), inner.begin(), inner.end());
  frame[16] = static_cast<uint8_t>((20 + inner.size()) >> 8);
  frame[17] = static_cast<uint8_t>(20 + inner.size());
  mend_ip_sum(frame);
  EXPECT_TRUE(is_captured({.service = kDsrService}, frame));
  EXPECT_TRUE(is_captured(of_client(GetParam().client), frame));
  EXPECT_FALSE(is_captured({.service = kNatService}, frame));
  EXPECT_FALSE(is_captured(of_client(GetParam().other), frame));
}

TEST_P(CaptureTest, ReadsNothingBeyondAFrame) {
  const CaptureFilter filter = of_client(GetParam().client);
  const Bytes packet = to_backend().flags(kSynFlag).ip();
  const Bytes whole[] = {
      from_backend().ack(1).vlan(7).vlan(8), from(GetParam().client, kNat).ack(1),
      icmp_error(GetParam().router, GetParam().nat, GetParam().unreachable, packet, packet.size())};
  for (const Bytes& frame : whole)
    for (size_t size = 0; size < frame.size(); ++size) {
      const Bytes cut(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(size));  // for ASan's eyes
      is_captured(filter, cut);
    }
}

TEST(CaptureOrder, IsReadOrRefused) {
  CaptureOrder order;
  std::string complaint;
  ASSERT_TRUE(parse_capture("0123456789abcdef,7,2001:db8::7,40000,60,100,5000,96", order, complaint));
  EXPECT_EQ(order.token, "0123456789abcdef");
  EXPECT_EQ(order.filter.service, 7);
  EXPECT_EQ(order.filter.client, *Address::parse("2001:db8::7"));
  EXPECT_EQ(order.limits.snap, 96u);
  for (const char* bad :
       {"", "0123456789abcdef", "../../etc/passwd0,7,-,0,60,100,5000,96",
        "0123456789abcdeF,7,-,0,60,100,5000,96", "0123456789abcdef,70000,-,0,60,100,5000,96",
        "0123456789abcdef,7,x,0,60,100,5000,96", "0123456789abcdef,7,-,0,0,100,5000,96",
        "0123456789abcdef,7,-,0,3601,100,5000,96", "0123456789abcdef,7,-,0,60,100,5000,96,1",
        "0123456789abcdef,7,-,0,60,100,5000,65000"}) {
    EXPECT_FALSE(parse_capture(bad, order, complaint)) << bad;
    EXPECT_FALSE(complaint.empty());
  }
}

}  // namespace
}  // namespace portico::test
