// SPDX-License-Identifier: Apache-2.0
// The steering program in the kernel, frame by frame (BPF_PROG_TEST_RUN). No socket is in its map here, so a
// frame that it steers is dropped: that fallback is what keeps it from the kernel. Each frame is judged by
// the dataplane's own copy of the rules (kernel_rules.h), too, which must agree.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <algorithm>

#include "bpf/steer_object.h"
#include "dataplane/kernel_rules.h"
#include "dataplane/steer_map.h"
#include "tests/packet/rig.h"
#include "tests/unit/steer_frames.h"

namespace portico {
namespace {

using namespace frames;

constexpr uint16_t kIp = 0x0800, kIp6 = 0x86dd;
constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestinationOptions = 60;
const std::string kClient = "198.18.0.9", kVip = "198.18.0.80", kNat = "198.18.0.90", kOther = "198.18.0.1";
const std::string kClient6 = "2001:db8::9", kVip6 = "2001:db8::80", kNat6 = "2001:db8::90";

constexpr uint16_t kBackendPort = 9000;
const std::string kBackend = "198.18.1.1", kBackend6 = "2001:db8:1::1", kOwn6 = "2001:db8::1";

// What the maps hold, as a table.
std::shared_ptr<const Table> steered_table() {
  TableContent content = test::usual_content();
  content.listeners = {{*Address::parse(kVip), 443, 2, 0}, {*Address::parse(kVip6), 443, 2, 0}};
  content.nat = {{*Address::parse(kNat), 1024, 2047, 0}, {*Address::parse(kNat6), 1024, 2047, 0}};
  content.settings.tunnel_source_v4 = *Address::parse("198.51.100.64");
  content.settings.tunnel_length_v4 = 26;
  content.settings.tunnel_source_v6 = *Address::parse("2001:db8:5::");
  content.settings.tunnel_length_v6 = 48;
  content.services[0].mode = static_cast<uint8_t>(Mode::dnat);
  content.services[0].backend_port = kBackendPort;
  for (const auto& vip : {kVip, kVip6}) content.listeners.push_back({*Address::parse(vip), 8443, 1, 0});
  std::sort(content.listeners.begin(), content.listeners.end(), [](const auto& a, const auto& b) {
    return std::pair(a.address, a.port) < std::pair(b.address, b.port);
  });
  content.own = {{*Address::parse(kOther)}, {*Address::parse(kOwn6)}};
  return build_table(test::snapshot_of(content, nullptr), nullptr);
}

class SteerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: the kernel runs BPF programs for root only";
    libbpf_set_print(nullptr);
    object_ = bpf_object__open_mem(kSteerObject, kSteerObjectSize, nullptr);
    ASSERT_NE(object_, nullptr);
    ASSERT_EQ(bpf_object__load(object_), 0) << "the verifier refuses the steering program";
    program_ = bpf_program__fd(bpf_object__find_program_by_name(object_, STEER_PROGRAM_NAME));
    SteerMap listeners = map(STEER_LISTENERS_MAP), nat = map(STEER_NAT_MAP),
             addresses = map(STEER_ADDRESSES_MAP);
    for (const auto& vip : {kVip, kVip6})
      for (const uint16_t port : {uint16_t{443}, uint16_t{8443}})
        ASSERT_FALSE(listeners.put(steer_key(*Address::parse(vip), port), 1));
    SteerMap dnat = map(STEER_DNAT_MAP), own = map(STEER_OWN_MAP);
    for (const auto& backend : {kBackend, kBackend6})
      ASSERT_FALSE(dnat.put(steer_key(*Address::parse(backend), kBackendPort), 1));
    for (const auto& address : {kOther, kOwn6}) ASSERT_FALSE(own.put(steer_key(*Address::parse(address)), 1));
    for (const auto& address : {kNat, kNat6})
      ASSERT_FALSE(nat.put(steer_key(*Address::parse(address)), steer_range_value(1024, 2047)));
    SteerMap tunnels = map(STEER_TUNNELS_MAP);
    ASSERT_FALSE(tunnels.put(steer_tunnel_key(*Address::parse("198.51.100.64"), 26), 1));
    ASSERT_FALSE(tunnels.put(steer_tunnel_key(*Address::parse("2001:db8:5::"), 48), 1));
    for (const auto& address : {kVip, kVip6, kNat, kNat6})
      ASSERT_FALSE(addresses.put(steer_key(*Address::parse(address)), 1));
  }
  void TearDown() override { bpf_object__close(object_); }

  SteerMap map(const char* name) {
    return {UniqueFd(dup(bpf_object__find_map_fd_by_name(object_, name))), name};
  }

  // XDP_PASS: to the kernel; XDP_DROP: steered, but nobody is there.
  unsigned action(const Bytes& frame) {
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<uint32_t>(frame.size());
    options.repeat = 1;
    EXPECT_EQ(bpf_prog_test_run_opts(program_, &options), 0);
    EXPECT_EQ(options.retval == XDP_DROP,
              is_for_dataplane(*table_, frame.data(), static_cast<uint32_t>(frame.size())))
        << "the dataplane's rules differ";
    return options.retval;
  }
  void expect_steered(const char* what, const Bytes& frame) { EXPECT_EQ(action(frame), XDP_DROP) << what; }
  void expect_kernel(const char* what, const Bytes& frame) { EXPECT_EQ(action(frame), XDP_PASS) << what; }

  uint64_t verdicts(uint32_t verdict) {
    std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
    bpf_map_lookup_elem(map(STEER_VERDICTS_MAP).fd(), &verdict, per_cpu.data());
    uint64_t sum = 0;
    for (const uint64_t count : per_cpu) sum += count;
    return sum;
  }

  const std::shared_ptr<const Table> table_ = steered_table();
  bpf_object* object_ = nullptr;
  int program_ = -1;
};

TEST_F(SteerTest, TakesTcpOfListenersAndNatPorts) {
  expect_steered("v4 listener", ethernet(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443));
  expect_steered("v6 listener", ethernet(kIp6) + ipv6(kTcp, kClient6, kVip6) + tcp(5000, 443));
  expect_steered("VLAN, v4", vlan(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443));
  expect_steered("VLAN, v6", vlan(kIp6) + ipv6(kTcp, kClient6, kVip6) + tcp(5000, 443));
  expect_steered("v4 options", ethernet(kIp) + ipv4(kTcp, kClient, kVip, 0, 15) + tcp(5000, 443));
  expect_steered("don't fragment", ethernet(kIp) + ipv4(kTcp, kClient, kVip, 0x4000) + tcp(5000, 443));
  for (const uint16_t port : std::initializer_list<uint16_t>{1024, 1500, 2047}) {
    expect_steered("v4 NAT port", ethernet(kIp) + ipv4(kTcp, kClient, kNat) + tcp(443, port));
    expect_steered("v6 NAT port", ethernet(kIp6) + ipv6(kTcp, kClient6, kNat6) + tcp(443, port));
  }
  // All the ports that there are, and no more bytes.
  expect_steered("four bytes of TCP", ethernet(kIp) + ipv4(kTcp, kClient, kVip) + be16(5000) + be16(443));
}

TEST_F(SteerTest, LeavesEverythingElseToTheKernel) {
  expect_kernel("ARP", ethernet(0x0806) + Bytes(28, 0));
  expect_kernel("other port", ethernet(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 22));
  expect_kernel("other port, v6", ethernet(kIp6) + ipv6(kTcp, kClient6, kVip6) + tcp(5000, 22));
  expect_kernel("other address", ethernet(kIp) + ipv4(kTcp, kClient, kOther) + tcp(5000, 443));
  expect_kernel("source is the listener", ethernet(kIp) + ipv4(kTcp, kVip, kClient) + tcp(443, 5000));
  expect_kernel("below the NAT range", ethernet(kIp) + ipv4(kTcp, kClient, kNat) + tcp(443, 1023));
  expect_kernel("above the NAT range", ethernet(kIp) + ipv4(kTcp, kClient, kNat) + tcp(443, 2048));
  expect_kernel("above, v6", ethernet(kIp6) + ipv6(kTcp, kClient6, kNat6) + tcp(443, 2048));
  expect_kernel("UDP", ethernet(kIp) + ipv4(kUdp, kClient, kVip) + tcp(5000, 443));
  expect_kernel("UDP, v6", ethernet(kIp6) + ipv6(kUdp, kClient6, kVip6) + tcp(5000, 443));
  expect_kernel("ping", ethernet(kIp) + ipv4(kIcmp, kClient, kVip) + icmp(8) + Bytes(32, 0));
  expect_kernel("ping, v6", ethernet(kIp6) + ipv6(kIcmp6, kClient6, kVip6) + icmp(128) + Bytes(32, 0));
  expect_kernel("neighbour solicitation",
                ethernet(kIp6) + ipv6(kIcmp6, kClient6, kVip6) + icmp(135) + Bytes(16, 0));
  expect_kernel("group MAC", ethernet(kIp, 0x01) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443));
  expect_kernel("two tags", vlan(0x8100) + be16(7) + be16(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443));
  expect_kernel("AH", ethernet(kIp6) + ipv6(51, kClient6, kVip6) + extension(kTcp) + tcp(5000, 443));
}

TEST_F(SteerTest, TakesErrorsToTunnelsSources) {
  for (const char* source : {"198.51.100.64", "198.51.100.127"}) {
    expect_steered("unreachable", ethernet(kIp) + ipv4(kIcmp, kOther, source) + icmp(3) + Bytes(28, 0));
    expect_kernel("ping", ethernet(kIp) + ipv4(kIcmp, kOther, source) + icmp(8) + Bytes(28, 0));
    expect_kernel("TCP", ethernet(kIp) + ipv4(kTcp, kOther, source) + tcp(5000, 443));
    expect_kernel("a fragment", ethernet(kIp) + ipv4(kIcmp, kOther, source, kMoreFragments) + icmp(3));
    expect_kernel("cut", ethernet(kIp) + ipv4(kIcmp, kOther, source) + Bytes{3, 4, 0, 0});
  }
  for (const char* other : {"198.51.100.63", "198.51.100.128"})
    expect_kernel("another address", ethernet(kIp) + ipv4(kIcmp, kClient, other) + icmp(3) + Bytes(28, 0));
  const std::string source6 = "2001:db8:5::1234:5678", other6 = "2001:db8:5:1::1";
  for (const uint8_t type : std::initializer_list<uint8_t>{1, 2, 3, 4})
    expect_steered("error, v6", ethernet(kIp6) + ipv6(kIcmp6, kClient6, source6) + icmp(type) + Bytes(48, 0));
  expect_kernel("ping, v6", ethernet(kIp6) + ipv6(kIcmp6, kClient6, source6) + icmp(128) + Bytes(48, 0));
  expect_kernel("beyond the last 64 bits",
                ethernet(kIp6) + ipv6(kIcmp6, kClient6, other6) + icmp(2) + Bytes(48, 0));
}

TEST_F(SteerTest, TakesAllFragmentsOfTcpToItsAddresses) {
  for (const auto& to : {kVip, kNat}) {
    expect_steered("first", ethernet(kIp) + ipv4(kTcp, kClient, to, kMoreFragments) + tcp(5000, 443));
    expect_steered("middle", ethernet(kIp) + ipv4(kTcp, kClient, to, kMoreFragments | 100) + Bytes(8, 0));
    expect_steered("last", ethernet(kIp) + ipv4(kTcp, kClient, to, 200) + Bytes(1, 0));
  }
  for (const auto& to : {kVip6, kNat6}) {
    const Bytes ip = ethernet(kIp6) + ipv6(kFragment, kClient6, to);
    expect_steered("first, v6", ip + fragment6(kTcp, 1) + tcp(5000, 443));
    expect_steered("middle, v6", ip + fragment6(kTcp, 80 | 1) + Bytes(8, 0));
    expect_steered("last, v6", ip + fragment6(kTcp, 160) + Bytes(1, 0));
    expect_steered("atomic, v6", ip + fragment6(kTcp, 0) + tcp(5000, 443));
    expect_steered("first, options inside",
                   ip + fragment6(kDestinationOptions, 1) + extension(kTcp) + tcp(5000, 443));
    expect_kernel("of UDP, v6", ip + fragment6(kUdp, 80) + Bytes(8, 0));
  }
  expect_kernel("to others", ethernet(kIp) + ipv4(kTcp, kClient, kOther, 200) + Bytes(8, 0));
  expect_kernel("of UDP", ethernet(kIp) + ipv4(kUdp, kClient, kVip, 200) + Bytes(8, 0));
  expect_kernel("of an ICMP error", ethernet(kIp) + ipv4(kIcmp, kOther, kVip, kMoreFragments) + icmp(3) +
                                        ipv4(kTcp, kVip, kClient) + tcp(443, 5000));
}

TEST_F(SteerTest, TakesIcmpErrorsAboutItsFlows) {
  const Bytes to_vip = ethernet(kIp) + ipv4(kIcmp, kOther, kVip);
  const Bytes to_nat = ethernet(kIp) + ipv4(kIcmp, kOther, kNat);
  for (const uint8_t type : Bytes{3, 11, 12}) {
    expect_steered("about a reply", to_vip + icmp(type) + ipv4(kTcp, kVip, kClient) + tcp(443, 5000));
    expect_steered("about NAT", to_nat + icmp(type) + ipv4(kTcp, kNat, kOther) + tcp(1024, 443));
    expect_steered("about a request", to_vip + icmp(type) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443));
  }
  expect_steered("eight bytes embedded",
                 to_vip + icmp(3) + ipv4(kTcp, kVip, kClient) + Bytes{1, 187, 0, 9, 0, 0, 0, 0});
  expect_steered("embedded first fragment",
                 to_vip + icmp(3) + ipv4(kTcp, kVip, kClient, kMoreFragments) + tcp(443, 5000));
  const Bytes to_vip6 = ethernet(kIp6) + ipv6(kIcmp6, kClient6, kVip6);
  const Bytes to_nat6 = ethernet(kIp6) + ipv6(kIcmp6, kClient6, kNat6);
  for (const uint8_t type : Bytes{1, 2, 3, 4}) {
    expect_steered("about a reply, v6", to_vip6 + icmp(type) + ipv6(kTcp, kVip6, kClient6) + tcp(443, 5000));
    expect_steered("about NAT, v6", to_nat6 + icmp(type) + ipv6(kTcp, kNat6, kClient6) + tcp(2047, 443));
  }
  expect_steered("embedded extension", to_vip6 + icmp(2) + ipv6(kDestinationOptions, kVip6, kClient6) +
                                           extension(kTcp) + tcp(443, 5000));
}

TEST_F(SteerTest, LeavesOtherIcmpToTheKernel) {
  const Bytes to_vip = ethernet(kIp) + ipv4(kIcmp, kOther, kVip);
  const Bytes to_vip6 = ethernet(kIp6) + ipv6(kIcmp6, kClient6, kVip6);
  const Bytes ours = ipv4(kTcp, kVip, kClient) + tcp(443, 5000);
  expect_kernel("redirect", to_vip + icmp(5) + ours);
  expect_kernel("echo that looks like an error", to_vip + icmp(0) + ours);
  expect_kernel("v6 echo", to_vip6 + icmp(129) + ipv6(kTcp, kVip6, kClient6) + tcp(443, 5000));
  expect_kernel("about our SSH", to_vip + icmp(3) + ipv4(kTcp, kVip, kClient) + tcp(22, 5000));
  expect_kernel("about UDP", to_vip + icmp(3) + ipv4(kUdp, kVip, kClient) + tcp(443, 5000));
  expect_kernel("to another host", ethernet(kIp) + ipv4(kIcmp, kOther, kClient) + icmp(3) + ours);
  expect_kernel("embedded later fragment",
                to_vip + icmp(3) + ipv4(kTcp, kVip, kClient, 100) + tcp(443, 5000));
  expect_kernel("nothing embedded", to_vip + icmp(3));
  expect_kernel("ports cut off", to_vip + icmp(3) + ipv4(kTcp, kVip, kClient) + Bytes(3, 1));
  expect_kernel("v6 embedded in v4", to_vip + icmp(3) + ipv6(kTcp, kVip6, kClient6) + tcp(443, 5000));
}

TEST_F(SteerTest, TakesRepliesOfModeDnatButForTheHostsOwn) {
  const auto v4 = [](const std::string& from, const std::string& to) {
    return ethernet(kIp) + ipv4(kTcp, from, to);
  };
  const auto v6 = [](const std::string& from, const std::string& to) {
    return ethernet(kIp6) + ipv6(kTcp, from, to);
  };
  expect_steered("v4", v4(kBackend, kClient) + tcp(kBackendPort, 5000));
  expect_steered("v6", v6(kBackend6, kClient6) + tcp(kBackendPort, 5000));
  expect_steered("VLAN", vlan(kIp) + ipv4(kTcp, kBackend, kClient) + tcp(kBackendPort, 5000));
  expect_steered("to a listener", v4(kBackend, kVip) + tcp(kBackendPort, 443));
  expect_kernel("another port", v4(kBackend, kClient) + tcp(22, 5000));
  expect_kernel("another port, v6", v6(kBackend6, kClient6) + tcp(22, 5000));
  expect_kernel("another host", v4("198.18.1.99", kClient) + tcp(kBackendPort, 5000));
  expect_kernel("to the port", v4(kClient, kBackend) + tcp(5000, kBackendPort));
  expect_kernel("a check's answer", v4(kBackend, kOther) + tcp(kBackendPort, 5000));
  expect_kernel("a check's answer, v6", v6(kBackend6, kOwn6) + tcp(kBackendPort, 5000));
  expect_kernel("to the VIP, elsewhere", v4(kBackend, kVip) + tcp(kBackendPort, 22));
  expect_kernel("a fragment",
                ethernet(kIp) + ipv4(kTcp, kBackend, kClient, kMoreFragments) + tcp(kBackendPort, 5000));
}

TEST_F(SteerTest, TakesErrorsOnTheirWayToClientsOfModeDnat) {
  const auto v4 = [](const std::string& to, uint8_t type = 3) {
    return ethernet(kIp) + ipv4(kIcmp, "198.18.1.254", to) + icmp(type);
  };
  const auto v6 = [](const std::string& to, uint8_t type = 2) {
    return ethernet(kIp6) + ipv6(kIcmp6, "2001:db8:1::fe", to) + icmp(type);
  };
  const auto about = [](const std::string& backend, uint16_t port, const std::string& client) {
    return ipv4(kTcp, client, backend) + tcp(5000, port);
  };
  expect_steered("v4", v4(kClient) + about(kBackend, kBackendPort, kClient));
  expect_steered("v6", v6(kClient6) + ipv6(kTcp, kClient6, kBackend6) + tcp(5000, kBackendPort));
  expect_kernel("about another port", v4(kClient) + about(kBackend, 22, kClient));
  expect_kernel("about another host", v4(kClient) + about("198.18.1.99", kBackendPort, kClient));
  expect_kernel("about a check", v4(kOther) + about(kBackend, kBackendPort, kOther));
  expect_kernel("no error", v4(kClient, 8) + about(kBackend, kBackendPort, kClient));
  expect_kernel("to the VIP", v4(kVip) + about(kBackend, kBackendPort, kClient));
}

TEST_F(SteerTest, WalksExtensionHeadersToABound) {
  const auto chain = [](int count) {
    Bytes headers;
    for (int i = 1; i < count; ++i) headers = headers + extension(kDestinationOptions);
    return ethernet(kIp6) + ipv6(kDestinationOptions, kClient6, kVip6) + headers + extension(kTcp) +
           tcp(5000, 443);
  };
  for (const int count : {1, 2, 7}) expect_steered("few headers", chain(count));
  expect_kernel("too many headers", chain(9));
  expect_steered("hop by hop",
                 ethernet(kIp6) + ipv6(kHopByHop, kClient6, kVip6) + extension(kTcp) + tcp(5000, 443));
  expect_steered("long routing header",
                 ethernet(kIp6) + ipv6(kRouting, kClient6, kVip6) + extension(kTcp, 20) + tcp(5000, 443));
  expect_kernel("beyond the end",
                ethernet(kIp6) + ipv6(kRouting, kClient6, kVip6) + Bytes{kTcp, 255} + Bytes(30, 0));
}

// Whatever is cut off: no byte beyond the end is read (the verifier sees to that), and nothing is steered
// before its ports are there.
TEST_F(SteerTest, LeavesTruncatedFramesToTheKernel) {
  const Bytes v4 = ethernet(kIp) + ipv4(kTcp, kClient, kVip, 0, 8) + tcp(5000, 443);
  const Bytes v6 = vlan(kIp6) + ipv6(kHopByHop, kClient6, kVip6) + extension(kTcp) + tcp(5000, 443);
  for (const Bytes& whole : {v4, v6}) {
    const size_t with_ports = whole.size() - 16;
    for (size_t size = 14; size <= whole.size(); ++size) {
      const Bytes frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
      EXPECT_EQ(action(frame), size < with_ports ? XDP_PASS : XDP_DROP) << size;
    }
  }
  Bytes short_header = ethernet(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443);
  short_header[14] = 0x44;
  expect_kernel("IPv4 header of four words", short_header);
  short_header[14] = 0x65;
  expect_kernel("another version", short_header);
}

TEST_F(SteerTest, CountsByVerdict) {
  const Bytes ours = ethernet(kIp) + ipv4(kTcp, kClient, kVip) + tcp(5000, 443);
  action(ours);
  action(ours);
  action(ethernet(0x0806) + Bytes(28, 0));
  EXPECT_EQ(verdicts(STEER_NO_SOCKET), 2u);
  EXPECT_EQ(verdicts(STEER_TO_KERNEL), 1u);
  EXPECT_EQ(verdicts(STEER_TO_DATAPLANE), 0u);
}

}  // namespace
}  // namespace portico
