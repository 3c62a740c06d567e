// SPDX-License-Identifier: Apache-2.0
// What leaves in fragments, since it does not fit its way: IPv4 without DF as by any router, and of both
// families what came in fragments.
#include <gtest/gtest.h>

#include <set>

#include "tests/packet/fragment_case.h"
#include "tests/packet/fragment_frames.h"

namespace portico::test {
namespace {

constexpr size_t kNarrow = 1300;  // MTU

std::vector<Bytes> packets_of(const std::vector<Seen>& seen) {
  std::vector<Bytes> out;
  for (const Seen& s : seen) out.push_back(s.ip);
  return out;
}

uint16_t id_of(const Bytes& ipv4) {
  return static_cast<uint16_t>(ipv4[4] << 8 | ipv4[5]);
}

class FragmentsOut : public FragmentCase {
 protected:
  FragmentsOut() { aim_at(content_, 2); }
  Bytes data(uint16_t service_port) const { return FragmentCase::data(service_port, 1400); }
  // Opens a flow of each service, then all ways are narrow. Returns what the backend of nat sees.
  Seen open(Rig& rig) {
    const Seen in = FragmentCase::open(rig);
    for (NextHopRecord& hop : content_.next_hops) hop.mtu = kNarrow;
    rig.adopt(content_);
    return in;
  }
  // Fragments of what is too large.
  static Seen expect_whole(const std::vector<Seen>& seen) {
    EXPECT_GT(seen.size(), 1u);
    for (const Seen& s : seen) {
      EXPECT_LE(s.ip.size(), kNarrow);
      EXPECT_EQ(s.mac, seen[0].mac);
    }
    const Bytes whole = joined(packets_of(seen));
    if (whole.empty()) throw std::runtime_error("the fragments make no packet");
    const Seen read = read_ip(whole);
    EXPECT_TRUE(read.checksums_right);
    EXPECT_EQ(read.ttl, 63);
    EXPECT_EQ(read.payload, text(1400));
    return read;
  }

  TableContent content_ = usual_content();
};
INSTANTIATE_TEST_SUITE_P(Families, FragmentsOut, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

TEST_P(FragmentsOut, OfWhatCameInFragmentsGoByANarrowWay) {
  Rig rig(content_);
  const Seen in = open(rig);
  EXPECT_EQ(expect_whole(rig.send(fragments_of(data(kDsr), 1232))).destination, GetParam().vip);
  const Seen to_backend = expect_whole(rig.send(fragments_of(data(kNat), 1232)));
  EXPECT_EQ(to_backend.source, in.source);
  EXPECT_EQ(to_backend.source_port, in.source_port);
  const Bytes reply = Tcp(in.destination, in.destination_port, in.source, in.source_port)
                          .seq(78)
                          .ack(1001)
                          .payload(text(1400));
  EXPECT_EQ(expect_whole(rig.send(fragments_of(reply, 1232))).destination, GetParam().client);
  EXPECT_EQ(rig.total(&WorkerCounters::fragmented), 3u);
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_sent), 6u);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::packets_in), 2u);
}

// Over IPv6 nobody splits what its sender did not.
TEST_P(FragmentsOut, OfWhatCameWholeOnlyOverIpv4) {
  Rig rig(content_);
  open(rig);
  if (is_v6()) {
    EXPECT_EQ(rig.send_one(data(kNat)).protocol, 58);
    EXPECT_EQ(rig.drops(DropReason::exceeds_mtu), 1u);
    const auto told = rig.send(fragments_of(data(kNat), 1280));
    ASSERT_EQ(told.size(), 1u) << "a fragment that does not fit";
    EXPECT_EQ(told[0].protocol, 58);
    return;
  }
  expect_whole(rig.send(data(kDsr)));
  expect_whole(rig.send(data(kNat)));
  const Bytes whole = from_client(kNat).seq(1001).ack(78).fragment(0x4000).payload(text(1400));
  EXPECT_EQ(rig.send_one(whole).protocol, 1) << "with DF it is told";
}

TEST_P(FragmentsOut, HaveIdentificationsThatDoNotMeet) {
  if (is_v6()) return;
  Rig rig(content_, {.workers = 2});
  open(rig);
  std::set<uint16_t> ids;
  for (int i = 0; i < 100; ++i) ids.insert(id_of(rig.send(data(kNat))[0].ip));
  EXPECT_EQ(ids.size(), 100u) << "behind a NAT address all clients' are the same sender's";
  EXPECT_EQ(id_of(rig.send(data(kDsr))[0].ip), 0x1234) << "the client's own";
}

TEST_P(FragmentsOut, HaveTheOptionsThatAreForAll) {
  if (is_v6()) return;
  Rig rig(content_);
  open(rig);
  // Record route is for the first fragment, the stream identifier for all.
  const auto seen = rig.send(Bytes(
      from_client(kNat).ack(78).ip_options({7, 7, 4, 0, 0, 0, 0, 1, 0x88, 4, 1, 2}).payload(text(1400))));
  ASSERT_EQ(seen.size(), 2u);
  const auto options = [](const Seen& s) { return Bytes(s.ip.begin() + 20, s.ip.begin() + 32); };
  EXPECT_EQ(options(seen[0]), (Bytes{7, 7, 4, 0, 0, 0, 0, 1, 0x88, 4, 1, 2}));
  EXPECT_EQ(options(seen[1]), (Bytes{1, 1, 1, 1, 1, 1, 1, 1, 0x88, 4, 1, 2}));
}

TEST_P(FragmentsOut, WaitForAMacAddressWithTheirPacket) {
  Rig rig(content_);
  const Seen in = open(rig);
  content_.next_hops[2].resolved = 0;
  rig.adopt(content_);
  EXPECT_TRUE(rig.send(fragments_of(data(kNat), 1232)).empty());
  content_.next_hops[2].resolved = 1;
  content_.routes = {{address("2001:db8:1::2"), 128, 0, 2, 0, 0}, {address("198.18.1.2"), 32, 0, 2, 0, 0}};
  std::ranges::sort(content_.routes, {}, &RouteRecord::prefix);
  rig.adopt(content_);
  EXPECT_EQ(expect_whole(rig.sweep_ms(10)).source, in.source);
}

// Each fragment is wrapped alone, whatever the outer family; over IPv6 UDP's checksum covers it.
TEST_P(FragmentsOut, GoThroughTunnels) {
  for (const Mode mode : {Mode::dsr_ipip, Mode::dsr_gue})
    for (const bool is_outer_v6 : {false, true}) {
      SCOPED_TRACE(std::string(mode_name(mode)) + (is_outer_v6 ? " over IPv6" : " over IPv4"));
      TableContent c = content_;
      c.services[0].mode = static_cast<uint8_t>(mode);
      c.settings.tunnel_source_v4 = is_outer_v6 ? Address{} : address("198.51.100.9");
      c.settings.tunnel_length_v4 = is_outer_v6 ? 0 : 32;
      c.settings.tunnel_source_v6 = is_outer_v6 ? address("2001:db8:5::9") : Address{};
      c.settings.tunnel_length_v6 = is_outer_v6 ? 128 : 0;
      const size_t outer = (is_outer_v6 ? 40u : 20u) + (mode == Mode::dsr_gue ? 12u : 0u);
      for (NextHopRecord& hop : c.next_hops) hop.mtu = static_cast<uint32_t>(1300 + outer);
      Rig rig(c);
      rig.send_one(from_client(kDsr).flags(kSynFlag));
      const auto seen = rig.send(fragments_of(data(kDsr), 1232));
      std::vector<Bytes> inner;
      for (const Seen& s : seen) {
        EXPECT_LE(s.ip.size(), 1300 + outer);
        if (is_outer_v6 && mode == Mode::dsr_gue) {
          EXPECT_TRUE(s.checksums_right) << "of UDP";
        }
        inner.emplace_back(s.ip.begin() + static_cast<long>(outer), s.ip.end());
      }
      ASSERT_EQ(inner.size(), 2u);
      const Seen whole = read_ip(joined(inner));
      EXPECT_EQ(whole.payload, text(1400));
      EXPECT_EQ(whole.destination, GetParam().vip);
      EXPECT_TRUE(whole.checksums_right);
    }
}

}  // namespace
}  // namespace portico::test
