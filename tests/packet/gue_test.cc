// SPDX-License-Identifier: Apache-2.0
// dsr-gue: what stands around the client's packet, byte by byte as docs/gue.md says, and which further hops
// it names.
#include <gtest/gtest.h>

#include <set>

#include "bpf/gue.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

struct Way {
  const char* name;
  bool inner_is_v6, outer_is_v6;
};
constexpr Way kWays[] = {{"v4_in_v4", false, false},
                         {"v6_in_v6", true, true},
                         {"v4_in_v6", false, true},
                         {"v6_in_v4", true, false}};

// What a packet from the balancer says, taken apart by this file's own arithmetic.
struct Wrapped {
  Bytes outer;  // the IP header
  uint16_t source_port, destination_port, udp_size;
  Bytes gue;
  uint8_t next = 0, count = 0;
  std::vector<std::string> hops;
  Bytes inner;
  bool sums_are_right = false;
};

uint16_t word(const Bytes& b, size_t at) {
  return static_cast<uint16_t>(b[at] << 8 | b[at + 1]);
}

std::string address_at(const Bytes& b, size_t at, bool is_v6) {
  if (is_v6) return to_string(Address::from_v6(b.data() + at));
  uint32_t v4;
  std::memcpy(&v4, b.data() + at, 4);
  return to_string(Address::from_v4(v4));
}

Wrapped unwrap(const Bytes& ip) {
  const bool is_v6 = ip[0] >> 4 == 6;
  const size_t udp = is_v6 ? 40 : 20, gue = udp + 8, size = is_v6 ? 16 : 4;
  EXPECT_EQ(ip[is_v6 ? 6 : 9], 17);
  Wrapped w;
  w.outer = Bytes(ip.begin(), ip.begin() + static_cast<long>(udp));
  w.source_port = word(ip, udp), w.destination_port = word(ip, udp + 2), w.udp_size = word(ip, udp + 4);
  EXPECT_EQ(w.udp_size, ip.size() - udp);
  Bytes summed(ip.begin() + (is_v6 ? 8 : 12), ip.begin() + static_cast<long>(udp));  // addresses
  summed.insert(summed.end(), {0, 17, ip[udp + 4], ip[udp + 5]});
  summed.insert(summed.end(), ip.begin() + static_cast<long>(udp), ip.end());
  w.sums_are_right =
      word(ip, udp + 6) != 0 && internet_sum(summed) == 0xffff && (is_v6 || internet_sum(w.outer) == 0xffff);
  const size_t end = gue + 4 + size_t{ip[gue]} * 4;
  w.gue = Bytes(ip.begin() + static_cast<long>(gue), ip.begin() + static_cast<long>(end));
  if (end > gue + 4) {
    EXPECT_EQ(word(ip, gue + 4), GUE_HOPS_TYPE);
    w.next = ip[gue + 6], w.count = ip[gue + 7];
    EXPECT_EQ(end, gue + 8 + w.count * size);
    for (uint32_t i = 0; i < w.count; ++i) w.hops.push_back(address_at(ip, gue + 8 + i * size, is_v6));
  }
  w.inner = Bytes(ip.begin() + static_cast<long>(end), ip.end());
  return w;
}

// All slots name backend 2, and as many of these as fallbacks.
TableContent gue_content(bool outer_is_v6, const std::vector<uint16_t>& fallback = {}) {
  TableContent c = usual_content();
  c.services[0].mode = static_cast<uint8_t>(Mode::dsr_gue);
  if (outer_is_v6) {
    c.settings.tunnel_source_v6 = address("2001:db8:5::"), c.settings.tunnel_length_v6 = 64;
  } else {
    c.settings.tunnel_source_v4 = address("198.51.100.0"), c.settings.tunnel_length_v4 = 24;
  }
  aim_at(c, 2);
  c.pools[0].record.fallback_columns = static_cast<uint8_t>(fallback.size());
  for (size_t slot = 0; slot < c.pools[0].lookup.size(); ++slot)
    c.pools[0].fallback.insert(c.pools[0].fallback.end(), fallback.begin(), fallback.end());
  return c;
}

class Gue : public testing::TestWithParam<Way> {
 protected:
  bool is_v6() const { return GetParam().inner_is_v6; }
  bool outer_is_v6() const { return GetParam().outer_is_v6; }
  Tcp from_client(uint16_t port = 40000) const {
    return is_v6() ? Tcp(kClient6, port, kVip6, kDsr) : Tcp(kClient4, port, kVip4, kDsr);
  }
  Tcp of_size(size_t size) const {
    return from_client().ack(1).fragment(0x4000).payload(std::string(size - (is_v6() ? 60 : 40), 'x'));
  }
  std::string backend(int i) const {
    return (outer_is_v6() ? "2001:db8:1::" : "198.18.1.") + std::to_string(i);
  }
  size_t outer_size() const { return outer_is_v6() ? 40 : 20; }
  size_t hop_size() const { return outer_is_v6() ? 16 : 4; }
};
INSTANTIATE_TEST_SUITE_P(Ways, Gue, testing::ValuesIn(kWays),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(Gue, HasThePacketUnchangedInsideUdp) {
  Rig rig(gue_content(outer_is_v6()));
  Bytes frame = from_client().flags(kSynFlag).options({2, 4, 5, 0xb4});
  const Seen seen = rig.send_one(frame);
  EXPECT_EQ(seen.mac, "02:00:00:00:00:12");
  const Wrapped w = unwrap(seen.ip);
  EXPECT_TRUE(w.sums_are_right);
  EXPECT_EQ(w.destination_port, 6080);
  EXPECT_GE(w.source_port, GUE_FIRST_SOURCE_PORT);
  EXPECT_EQ(w.gue, (Bytes{0, static_cast<uint8_t>(is_v6() ? 41 : 4), 0, 0}));
  EXPECT_EQ(address_at(w.outer, outer_is_v6() ? 24 : 16, outer_is_v6()), backend(2));
  EXPECT_EQ(w.outer[outer_is_v6() ? 7 : 8], 64) << "hops";
  EXPECT_TRUE(outer_is_v6() || word(w.outer, 6) == 0x4000) << "do not fragment";
  const Seen inner = read_ip(w.inner);
  EXPECT_TRUE(inner.checksums_right);
  EXPECT_EQ(inner.ttl, 63);
  EXPECT_EQ(inner.destination, is_v6() ? kVip6 : kVip4);
  EXPECT_EQ(w.inner.size(), frame.size() - 14);
}

TEST_P(Gue, ChecksumsAreRightForAnyPayload) {
  Rig rig(gue_content(outer_is_v6(), {1, 3}));
  rig.send_one(from_client().flags(kSynFlag));
  for (size_t size = 0; size < 60; ++size) {
    Tcp tcp = from_client()
                  .ack(static_cast<uint32_t>(size * 0x01010101))
                  .payload(std::string(size, static_cast<char>(size * 7)));
    if (!is_v6() && size % 3 == 0) tcp.ip_options({1, 1, 1, 0});
    const Wrapped w = unwrap(rig.send_one(tcp).ip);
    EXPECT_TRUE(w.sums_are_right) << size;
    EXPECT_TRUE(read_ip(w.inner).checksums_right) << size;
  }
}

TEST_P(Gue, AWrongInnerChecksumStaysVisible) {
  Rig rig(gue_content(outer_is_v6()));
  rig.send_one(from_client().flags(kSynFlag));
  Bytes frame = from_client().ack(1).payload("payload");
  frame.back() ^= 0x55;
  EXPECT_FALSE(unwrap(rig.send_one(frame).ip).sums_are_right);
}

TEST_P(Gue, LaterPacketsNameFurtherHopsOfTheOuterFamily) {
  Rig rig(gue_content(outer_is_v6(), {3, 1}));
  EXPECT_TRUE(unwrap(rig.send_one(from_client().flags(kSynFlag)).ip).hops.empty()) << "a new connection";
  const Wrapped w = unwrap(rig.send_one(from_client().ack(1).payload("x")).ip);
  EXPECT_EQ(w.hops, (std::vector{backend(3), backend(1)}));
  EXPECT_EQ(w.next, 0);
  EXPECT_TRUE(w.sums_are_right);
  EXPECT_EQ(read_ip(w.inner).payload, "x");
}

TEST_P(Gue, AFlowThatIsElsewhereHasItsSlotAsAHop) {
  TableContent content = gue_content(outer_is_v6(), {3, 1});
  Rig rig(content);
  rig.send_one(from_client().flags(kSynFlag));
  aim_at(content, 3);
  content.pools[0].fallback.clear();
  for (size_t i = 0; i < content.pools[0].lookup.size(); ++i)
    content.pools[0].fallback.insert(content.pools[0].fallback.end(), {2, 1});
  rig.adopt(content);
  const Seen seen = rig.send_one(from_client().ack(1));
  EXPECT_EQ(seen.mac, "02:00:00:00:00:12");
  EXPECT_EQ(unwrap(seen.ip).hops, (std::vector{backend(3), backend(1)}));
}

// A flow whose SYN was not seen here may be another backend's: the end of the one that the table names is no
// reason to reset it.
TEST_P(Gue, TheEndOfAGuessedBackendResetsNoFlow) {
  TableContent content = gue_content(outer_is_v6(), {3, 1});
  Rig rig(content);
  const uint16_t known = 40000, silent = 40001, talking = 40002;
  rig.send_one(from_client(known).flags(kSynFlag));
  for (const uint16_t port : {known, silent, talking})
    EXPECT_EQ(rig.send_one(from_client(port).ack(1)).mac, "02:00:00:00:00:12");
  content.pools[0].backends[1].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  content.pools[0].backends[1].weight = 0;
  aim_at(content, 3);
  content.pools[0].record.fallback_columns = 1;
  content.pools[0].fallback.assign(content.pools[0].lookup.size(), 1);
  rig.adopt(content);
  const Seen seen = rig.send_one(from_client(talking).ack(1).payload("x"));
  EXPECT_EQ(seen.mac, "02:00:00:00:00:13");
  EXPECT_EQ(unwrap(seen.ip).hops, (std::vector{backend(1)}));
  const auto swept = rig.sweep_ms(3000);
  ASSERT_EQ(swept.size(), 1u) << "the RST of the one that began here";
  EXPECT_EQ(rig.send_one(from_client(silent).ack(1)).mac, "02:00:00:00:00:13");
  EXPECT_EQ(rig.drops(DropReason::flow_reset), 0u);
}

TEST_P(Gue, BackendsWhoseFlowsAreResetAreNoHops) {
  TableContent content = gue_content(outer_is_v6(), {3, 1});
  content.pools[0].backends[2].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  content.pools[0].backends[2].weight = 0;
  Rig rig(content);
  rig.send_one(from_client().flags(kSynFlag));
  EXPECT_EQ(unwrap(rig.send_one(from_client().ack(1)).ip).hops, (std::vector{backend(1)}));
  content.pools[0].backends[0].reset_count = 1;
  content.pools[0].backends[0].reset_ports[0] = kDsr;
  rig.adopt(content);
  EXPECT_TRUE(unwrap(rig.send_one(from_client().ack(1)).ip).hops.empty()) << "nor those that refuse the port";
}

TEST_P(Gue, BackendsWithoutAnAddressOfTheOuterFamilyAreNoHops) {
  TableContent content = gue_content(outer_is_v6(), {3, 1});
  BackendRecord& b = content.pools[0].backends[2];
  (outer_is_v6() ? b.address_v6 : b.address_v4) = {};
  (outer_is_v6() ? b.next_hop_v6 : b.next_hop_v4) = kNone;
  Rig rig(content);
  rig.send_one(from_client().flags(kSynFlag));
  EXPECT_EQ(unwrap(rig.send_one(from_client().ack(1)).ip).hops, (std::vector{backend(1)}));
}

TEST_P(Gue, TellsClientsWhatFitsWithAllHops) {
  Rig rig(gue_content(outer_is_v6(), {3, 1}));
  rig.send_one(from_client().flags(kSynFlag));
  const size_t fits = 1500 - outer_size() - 8 - 8 - 2 * hop_size();
  const Seen largest = rig.send_one(of_size(fits));
  EXPECT_EQ(largest.ip.size(), 1500u);
  EXPECT_TRUE(unwrap(largest.ip).sums_are_right);
  const Seen answer = rig.send_one(of_size(fits + 1));
  EXPECT_EQ(answer.destination, is_v6() ? kClient6 : kClient4);
  EXPECT_EQ(answer.source, is_v6() ? kVip6 : kVip4);
  EXPECT_TRUE(answer.checksums_right);
  const size_t at = is_v6() ? 46 : 26;
  EXPECT_EQ(word(answer.ip, at), fits);
  EXPECT_EQ(rig.drops(DropReason::tunnel_too_big), 1u);
}

TEST_P(Gue, NeedsRoomBeforeThePacket) {
  const auto room = static_cast<uint16_t>(outer_size() + 8 + 4 + 4);  // and a tag
  {
    Rig rig(gue_content(outer_is_v6()), {.headroom = room});
    EXPECT_EQ(rig.send(Bytes(from_client().flags(kSynFlag))).size(), 1u);
  }
  Rig rig(gue_content(outer_is_v6()), {.headroom = static_cast<uint16_t>(room - 1)});
  EXPECT_TRUE(rig.send(Bytes(from_client().flags(kSynFlag))).empty());
  EXPECT_EQ(rig.drops(DropReason::tunnel_no_headroom), 1u);
}

TEST_P(Gue, ErrorsAboutItsFlowsGoThroughItWithTheirHops) {
  Rig rig(gue_content(outer_is_v6(), {3, 1}));
  rig.send_one(from_client().flags(kSynFlag));
  const char* const router = is_v6() ? "2001:db8:f::1" : "192.0.2.254";
  const char* const vip = is_v6() ? kVip6 : kVip4;
  Bytes packet = Tcp(vip, kDsr, is_v6() ? kClient6 : kClient4, 40000).ack(1).payload("abc").ip();
  const Seen error = rig.send_one(icmp_error(router, vip, is_v6() ? 2 : 3, packet, packet.size()));
  EXPECT_EQ(error.mac, "02:00:00:00:00:12");
  const Wrapped w = unwrap(error.ip);
  EXPECT_TRUE(w.sums_are_right);
  EXPECT_EQ(w.hops.size(), 2u);
  EXPECT_EQ(read_ip(w.inner).source, router);
  EXPECT_TRUE(read_ip(w.inner).checksums_right);
}

// An ICMP error from a router on the way to the backend about one of our packets, of which it embeds `size`
// bytes at most.
Bytes router_error(const Seen& sent, uint8_t type, uint8_t code, uint16_t mtu, size_t size) {
  const bool is_v6 = sent.ip[0] >> 4 == 6;
  Bytes error = icmp_error(is_v6 ? "2001:db8:f::1" : "192.0.2.254", sent.source, type, sent.ip,
                           std::min(size, sent.ip.size()));
  const size_t icmp = 14 + (is_v6 ? 40 : 20);
  error[icmp + 1] = code;
  error[icmp + 6] = static_cast<uint8_t>(mtu >> 8), error[icmp + 7] = static_cast<uint8_t>(mtu);
  return error;
}

TEST_P(Gue, ErrorsAboutItsOwnPacketsBecomeTheClients) {
  for (const Mode mode : {Mode::dsr_gue, Mode::dsr_ipip}) {
    TableContent content = gue_content(outer_is_v6(), {3, 1});
    content.services[0].mode = static_cast<uint8_t>(mode);
    Rig rig(content, {.workers = 2});
    rig.send_one(from_client().flags(kSynFlag));
    const Seen sent = rig.send_one(of_size(1400));
    const size_t added = sent.ip.size() - 1400;
    const uint8_t too_big = outer_is_v6() ? 2 : 3, code = outer_is_v6() ? 0 : 4;
    // Wherever the error arrives: nothing is remembered.
    const Seen error = rig.send_one(router_error(sent, too_big, code, 1400, 1232), 1);
    EXPECT_EQ(error.mac, kGatewayMac);
    EXPECT_EQ(error.destination, is_v6() ? kClient6 : kClient4);
    EXPECT_EQ(error.source, is_v6() ? kVip6 : kVip4);
    EXPECT_TRUE(error.checksums_right);
    const size_t icmp = is_v6() ? 40 : 20;
    EXPECT_EQ(error.ip[icmp], is_v6() ? 2 : 3);
    EXPECT_EQ(word(error.ip, icmp + 6), is_v6() ? std::max<size_t>(1280, 1400 - added) : 1400 - added);
    const Seen about = read_ip(error.icmp_embedded);
    EXPECT_EQ(about.source_port, 40000);
    EXPECT_EQ(about.destination_port, kDsr);
    EXPECT_LE(error.ip.size(), is_v6() ? 1280u : 576u);
    const Seen unreachable = rig.send_one(router_error(sent, outer_is_v6() ? 1 : 3, 0, 0, 1232));
    EXPECT_EQ(unreachable.ip[icmp], is_v6() ? 1 : 3);
    EXPECT_EQ(unreachable.ip[icmp + 1], is_v6() ? 3 : 1);
    EXPECT_TRUE(unreachable.checksums_right);
  }
}

TEST_P(Gue, ErrorsThatNobodyOnTheWayCanHaveSentAreDropped) {
  Rig rig(gue_content(outer_is_v6()));
  rig.send_one(from_client().flags(kSynFlag));
  const Seen sent = rig.send_one(of_size(1400));
  const uint8_t too_big = outer_is_v6() ? 2 : 3, code = outer_is_v6() ? 0 : 4;
  Seen forged = sent;  // another flow's source
  forged.source = outer_is_v6() ? "2001:db8:5::77" : "198.51.100.77";
  const Address source = address(forged.source.c_str());
  std::copy(source.bytes.begin() + (outer_is_v6() ? 0 : 12), source.bytes.end(),
            forged.ip.begin() + (outer_is_v6() ? 8 : 12));
  EXPECT_TRUE(rig.send(router_error(forged, too_big, code, 1400, 1232)).empty());
  EXPECT_EQ(rig.drops(DropReason::icmp_unknown_flow), 1u);
  for (size_t size = 0; size < outer_size() + 12 + (is_v6() ? 40 : 20) + 8; ++size)
    EXPECT_TRUE(rig.send(router_error(sent, too_big, code, 1400, size)).empty()) << "cut after " << size;
  EXPECT_EQ(
      rig.send(router_error(sent, too_big, code, 1400, outer_size() + 12 + (is_v6() ? 40 : 20) + 8)).size(),
      1u);
  Seen other = sent;
  other.ip[outer_size() + 3] ^= 1;  // UDP to another port
  EXPECT_TRUE(rig.send(router_error(other, too_big, code, 1400, 1232)).empty());
}

TEST_P(Gue, SourcePortsAndAddressesStandForTheFlow) {
  Rig rig(gue_content(outer_is_v6()));
  std::set<uint16_t> ports;
  for (uint16_t port = 1; port <= 300; ++port) {
    const Wrapped syn = unwrap(rig.send_one(from_client(port).flags(kSynFlag)).ip);
    const Wrapped later = unwrap(rig.send_one(from_client(port).ack(1)).ip);
    EXPECT_EQ(syn.source_port, later.source_port);
    EXPECT_EQ(syn.outer, Bytes(later.outer)) << "of one size";
    ports.insert(syn.source_port);
  }
  EXPECT_GE(ports.size(), 290u);
}

TEST_P(Gue, ConnectionsOfOneClientShareTheirHopsUnderItsAffinity) {
  TableContent content = gue_content(outer_is_v6());
  content.services[0].affinity = static_cast<uint8_t>(Affinity::client);
  TableContent::Pool& pool = content.pools[0];
  pool.record.fallback_columns = 1;
  for (size_t slot = 0; slot < pool.lookup.size(); ++slot) pool.fallback.push_back(slot % 2 == 0 ? 1 : 3);
  Rig rig(content);
  std::set<std::vector<std::string>> hops;
  for (uint16_t port = 1; port <= 40; ++port) {
    rig.send_one(from_client(port).flags(kSynFlag));
    hops.insert(unwrap(rig.send_one(from_client(port).ack(1)).ip).hops);
  }
  EXPECT_EQ(hops.size(), 1u);
}

}  // namespace
}  // namespace portico::test
