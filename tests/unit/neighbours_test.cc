// SPDX-License-Identifier: Apache-2.0
// The cache beside a real kernel: `ip` changes things in a namespace, the cache must say so.
#include "control/neighbours.h"

#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <optional>
#include <thread>

#include "contract/tap_interface.h"
#include "control/kernel_cache.h"
#include "control/netlink.h"
#include "tests/unit/net_namespaces.h"

namespace portico {
namespace {

const MacAddress kHostMac{2, 0, 0, 0, 0, 0x21}, kOtherMac{2, 0, 0, 0, 0, 0x22}, kPortMac{2, 0, 0, 0, 0, 1};

Address address(const std::string& text) {
  return *Address::parse(text);
}

// A balancer with the ports p0 and p1; behind p0 a host, 198.18.0.21 and 2001:db8::21.
class NeighboursTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    balancer_.emplace();
    host_.emplace();
    ip("link add p0 address 02:00:00:00:00:01 type veth peer name h0 address 02:00:00:00:00:21 netns " +
       host_->path());
    ip("link add p1 type veth peer name h1 netns " + host_->path());
    ip("addr add 198.18.0.1/24 dev p0");
    ip("addr add 2001:db8::1/64 dev p0 nodad");
    ip("addr add 198.18.1.1/24 dev p1");
    for (const char* port : {"p0", "p1"}) ip("link set " + std::string(port) + " up");
    host_->run("ip addr add 198.18.0.21/24 dev h0; ip addr add 2001:db8::21/64 dev h0 nodad");
    host_->run("ip link set h0 up; ip link set h1 up");
    balancer_->inside([&] {
      std::string failure;
      kernel_ = Neighbours::open(failure);
      ASSERT_TRUE(kernel_) << failure;
    });
  }

  void ip(const std::string& command) { balancer_->run("ip " + command); }

  // Takes in news until the condition holds.
  bool sees(const std::function<bool()>& condition) {
    return eventually([&] {
      kernel_->process();
      return condition();
    });
  }
  bool sees_mac(const std::string& to, const MacAddress& mac) {
    return sees([&] {
      const auto hop = kernel_->next_hop(address(to));
      return hop && hop->resolved && hop->mac == mac;
    });
  }
  // The gateway or neighbour towards `to`; "none" without a way.
  std::string way(const std::string& to) {
    kernel_->process();
    const auto hop = kernel_->next_hop(address(to));
    return hop ? to_string(hop->neighbour) + " dev " + hop->interface : "none";
  }
  // "prefix port [via gateway | on link [mac]]", one each.
  std::vector<std::string> routes(std::vector<std::string> interfaces) {
    kernel_->process();
    std::vector<std::string> result;
    for (const PortRoute& route : kernel_->routes_for_ports(interfaces)) {
      std::string text = to_string(route.prefix) + " " + interfaces[route.port];
      if (route.on_link) text += route.hop && route.hop->resolved ? " on link, resolved" : " on link";
      if (!route.on_link) text += " via " + to_string(route.hop->neighbour);
      result.push_back(text);
    }
    return result;
  }

  std::optional<NetNamespace> balancer_, host_;
  std::unique_ptr<Neighbours> kernel_;
};

using Texts = std::vector<std::string>;

TEST_F(NeighboursTest, ResolvesAndKeepsWhatIsInUse) {
  kernel_->use({address("198.18.0.21"), address("2001:db8::21")});
  EXPECT_TRUE(sees_mac("198.18.0.21", kHostMac));
  EXPECT_TRUE(sees_mac("2001:db8::21", kHostMac));
  const auto hop = kernel_->next_hop(address("198.18.0.21"));
  ASSERT_TRUE(hop);
  EXPECT_EQ(hop->interface, "p0");
  EXPECT_EQ(hop->source_mac, kPortMac);
  EXPECT_EQ(hop->mtu, 1500u);
  EXPECT_EQ(hop->vlan, 0);
  EXPECT_TRUE(hop->on_link);

  // A stale entry is confirmed by tick() before it goes unseen.
  ip("neigh change 198.18.0.21 dev p0 nud stale");
  EXPECT_TRUE(sees([&] {
    kernel_->tick();
    return balancer_->inside([] {
      return std::system("ip neigh show 198.18.0.21 dev p0 | grep -q -e DELAY -e PROBE -e REACHABLE") == 0;
    });
  }));
  // One that somebody removed is asked for again.
  ip("neigh flush all");
  EXPECT_TRUE(sees([&] {
    kernel_->tick();
    return balancer_->inside(
        [] { return std::system("ip neigh show 198.18.0.21 dev p0 | grep -q lladdr") == 0; });
  }));
}

TEST_F(NeighboursTest, ANeighbourIsLostWhenTheKernelGetsNoAnswer) {
  ip("route add 192.0.2.0/24 via 198.18.0.21");
  kernel_->use({address("198.18.0.21")});
  ASSERT_TRUE(sees_mac("198.18.0.21", kHostMac));
  EXPECT_FALSE(kernel_->is_lost(address("198.18.0.21")));
  EXPECT_TRUE(kernel_->is_lost(address("192.0.2.1"))) << "that its gateway is there says nothing of it";
  EXPECT_TRUE(kernel_->is_lost(address("203.0.113.1"))) << "no way";
  host_->run("ip addr del 198.18.0.21/24 dev h0");
  EXPECT_FALSE(kernel_->is_lost(address("198.18.0.21"))) << "nobody has asked";
  kernel_->verify(address("198.18.0.21"));
  EXPECT_TRUE(sees([&] { return kernel_->is_lost(address("198.18.0.21")); }));
}

TEST_F(NeighboursTest, FollowsAMacThatMoves) {
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud reachable");
  EXPECT_TRUE(sees_mac("198.18.0.21", kHostMac));
  const uint64_t version = kernel_->version();
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud stale");
  kernel_->process();
  EXPECT_EQ(kernel_->version(), version) << "the same MAC is no reason to publish";
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:22 nud reachable");
  EXPECT_TRUE(sees_mac("198.18.0.21", kOtherMac));
  EXPECT_GT(kernel_->version(), version);
}

TEST_F(NeighboursTest, KeepsTheLastMacOfAFailedNeighbourForAWhile) {
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud reachable");
  ip("neigh replace 198.18.0.22 dev p0 lladdr 02:00:00:00:00:22 nud reachable");
  ASSERT_TRUE(sees_mac("198.18.0.21", kHostMac));
  ASSERT_TRUE(sees_mac("198.18.0.22", kOtherMac));
  const auto before = Neighbours::Clock::now();
  ip("neigh change 198.18.0.21 dev p0 nud failed");
  ip("neigh del 198.18.0.22 dev p0");
  kernel_->tick(before + Neighbours::kKeepFailed - std::chrono::seconds(1));
  EXPECT_TRUE(sees_mac("198.18.0.21", kHostMac));
  EXPECT_TRUE(sees_mac("198.18.0.22", kOtherMac));
  const uint64_t version = kernel_->version();
  kernel_->tick(Neighbours::Clock::now() + Neighbours::kKeepFailed);
  EXPECT_FALSE(kernel_->next_hop(address("198.18.0.21"))->resolved);
  EXPECT_FALSE(kernel_->next_hop(address("198.18.0.22"))->resolved);
  EXPECT_GT(kernel_->version(), version);
}

TEST_F(NeighboursTest, TakesTheLongestPrefixThenTheLowestMetric) {
  EXPECT_EQ(way("192.0.2.1"), "none");
  EXPECT_EQ(way("198.18.0.77"), "198.18.0.77 dev p0");
  ip("route add default via 198.18.0.254");
  ip("route add default via 198.18.1.254 metric 100");
  ip("route add 192.0.2.0/24 via 198.18.1.2 metric 20");
  ip("route add 192.0.2.0/24 via 198.18.1.9 metric 30");
  ip("route add 192.0.2.64/26 via 198.18.1.3");
  ip("route add blackhole 192.0.2.128/26");
  ip("-6 route add default via 2001:db8::fe");
  ip("-6 route add 2001:db8:1::/48 via fe80::9 dev p1");
  EXPECT_EQ(way("203.0.113.1"), "198.18.0.254 dev p0");
  EXPECT_EQ(way("192.0.2.1"), "198.18.1.2 dev p1");
  EXPECT_EQ(way("192.0.2.65"), "198.18.1.3 dev p1");
  EXPECT_EQ(way("192.0.2.129"), "none");
  EXPECT_EQ(way("2001:db8:ffff::1"), "2001:db8::fe dev p0");
  EXPECT_EQ(way("2001:db8:1::1"), "fe80::9 dev p1");
  ip("route del 192.0.2.64/26");
  EXPECT_EQ(way("192.0.2.65"), "198.18.1.2 dev p1");
  // The kernel tells nobody of the routes that go with an interface.
  ip("link set p1 down");
  EXPECT_EQ(way("192.0.2.1"), "198.18.0.254 dev p0");
}

TEST_F(NeighboursTest, TakesTheFirstUsableOfSeveralHops) {
  ip("route add 192.0.2.0/24 nexthop via 198.18.1.2 dev p1 nexthop via 198.18.0.2 dev p0");
  ip("route add 203.0.113.0/24 via inet6 fe80::7 dev p0");
  ip("route add 233.252.0.0/24 via 198.18.0.2 mtu 1400");
  EXPECT_EQ(way("192.0.2.1"), "198.18.1.2 dev p1");
  EXPECT_EQ(way("203.0.113.1"), "fe80::7 dev p0");
  EXPECT_EQ(kernel_->next_hop(address("233.252.0.1"))->mtu, 1400u);
  EXPECT_EQ(routes({"p0"})[0], "192.0.2.0/24 p0 via 198.18.0.2") << "the hop that leaves by a port";
  host_->run("ip link set h1 down");  // no carrier at p1
  EXPECT_TRUE(sees([&] { return way("192.0.2.1") == "198.18.0.2 dev p0"; }));
}

TEST_F(NeighboursTest, ListsTheRoutesOfThePorts) {
  ip("route add default via 198.18.0.254");
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud permanent");
  ip("neigh replace 198.18.0.22 dev p0 lladdr 02:00:00:00:00:22 nud permanent");
  const Texts both = {"0.0.0.0/0 p0 via 198.18.0.254", "198.18.0.0/24 p0 on link", "198.18.1.0/24 p1 on link",
                      "2001:db8::/64 p0 on link"};
  const auto sorted = [](Texts texts) {
    std::sort(texts.begin(), texts.end());
    return texts;
  };
  EXPECT_EQ(sorted(routes({"p0", "p1"})), both);
  EXPECT_EQ(routes({"p1"}), Texts{"198.18.1.0/24 p1 on link"});
  // Only neighbours in use have a host route.
  kernel_->use({address("198.18.0.21"), address("198.18.0.99"), address("192.0.2.1")});
  Texts with_host = both;
  with_host.insert(with_host.begin() + 2, "198.18.0.21/32 p0 on link, resolved");
  EXPECT_EQ(sorted(routes({"p0", "p1"})), with_host);
}

TEST_F(NeighboursTest, KnowsTheHostsOwnAddresses) {
  EXPECT_TRUE(kernel_->own_addresses().contains(address("198.18.0.1")));
  EXPECT_TRUE(kernel_->own_addresses().contains(address("2001:db8::1")));
  EXPECT_FALSE(kernel_->own_addresses().contains(address("127.0.0.1")));
  EXPECT_FALSE(kernel_->own_addresses().contains(address("198.18.0.255"))) << "of the network's broadcast";
  const uint64_t before = kernel_->version();
  ip("addr add 198.18.7.1/32 dev p0");
  EXPECT_TRUE(sees([&] { return kernel_->own_addresses().contains(address("198.18.7.1")); }));
  EXPECT_GT(kernel_->version(), before);
  ip("addr del 198.18.7.1/32 dev p0");
  EXPECT_TRUE(sees([&] { return !kernel_->own_addresses().contains(address("198.18.7.1")); }));
}

TEST_F(NeighboursTest, SeesThroughVlanDevices) {
  if (balancer_->inside(
          [] { return std::system("ip link add link p0 name p0.100 type vlan id 100 2> /dev/null"); }))
    GTEST_SKIP() << "this kernel has no VLAN devices (8021q)";
  ip("addr add 198.18.2.1/24 dev p0.100");
  ip("link set p0.100 up");
  ip("neigh replace 198.18.2.9 dev p0.100 lladdr 02:00:00:00:00:22 nud reachable");
  ASSERT_TRUE(sees_mac("198.18.2.9", kOtherMac));
  const auto hop = kernel_->next_hop(address("198.18.2.9"));
  EXPECT_EQ(hop->interface, "p0");
  EXPECT_EQ(hop->vlan, 100);
  EXPECT_EQ(kernel_->link("p0.100")->lower, kernel_->link("p0")->ifindex);
  EXPECT_EQ(kernel_->vlans("p0"), std::set<uint16_t>{100});
  EXPECT_EQ(kernel_->vlan_devices("p0"), Texts{"p0.100"});
  EXPECT_EQ(kernel_->vlan_devices("p1"), Texts{});
  EXPECT_EQ(kernel_->vlans("p1"), std::set<uint16_t>{});
  EXPECT_EQ(kernel_->vlans("p7"), std::set<uint16_t>{});
  ip("link del p0.100");
  EXPECT_TRUE(sees([&] { return kernel_->vlans("p0").empty(); }));

  ip("link add link p0 name p0.0 type vlan id 0; ip link set p0.0 up; ip addr add 198.18.8.1/24 dev p0.0");
  EXPECT_TRUE(sees([&] { return way("198.18.8.9") == "198.18.8.9 dev p0"; })) << "untagged";
  EXPECT_EQ(kernel_->vlans("p0"), std::set<uint16_t>{});
  ip("link add link p0 name p0.ad type vlan protocol 802.1ad id 7; ip link set p0.ad up");
  EXPECT_TRUE(sees([&] { return kernel_->other_vlan_devices("p0") == Texts{"p0.ad"}; }));
  EXPECT_EQ(kernel_->vlans("p0"), std::set<uint16_t>{});
}

TEST_F(NeighboursTest, CopesWithInterfacesThatComeAndGo) {
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud permanent");
  ASSERT_TRUE(sees_mac("198.18.0.21", kHostMac));
  ip("link set p0 mtu 1400");
  EXPECT_TRUE(sees([&] { return kernel_->link("p0")->mtu == 1400; }));
  ip("link set p0 down");
  EXPECT_TRUE(sees([&] { return !kernel_->link("p0")->up; }));
  ip("link set p0 name gone0");
  EXPECT_TRUE(sees([&] { return kernel_->link("gone0") && !kernel_->link("p0"); }));
  ip("link del gone0");
  EXPECT_TRUE(sees([&] { return !kernel_->link("gone0"); }));
  EXPECT_EQ(way("198.18.0.21"), "none");
  kernel_->use({address("198.18.0.21")});
  kernel_->tick();

  ip("link add p0 type veth peer name h0 netns " + host_->path());
  ip("addr add 198.18.0.1/24 dev p0");
  ip("link set p0 up");
  host_->run("ip link set h0 up");
  EXPECT_TRUE(sees([&] { return way("198.18.0.21") == "198.18.0.21 dev p0"; }));
  EXPECT_FALSE(kernel_->next_hop(address("198.18.0.21"))->resolved) << "what the old interface knew is gone";
}

TEST_F(NeighboursTest, KeepsTheWayWhereNoneHasCarrier) {
  const auto began = Neighbours::Clock::now();
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud reachable");
  ASSERT_TRUE(sees_mac("198.18.0.21", kHostMac));
  const int device = kernel_->device_to(address("198.18.0.21")).value();
  EXPECT_EQ(kernel_->interface_of(device), "p0");
  EXPECT_TRUE(kernel_->is_up_since(device, began - std::chrono::hours(1))) << "it was up when we came";
  host_->run("ip link set h0 down");
  EXPECT_TRUE(eventually([&] {
    kernel_->look_at_links();
    return !kernel_->is_up_since(device, Neighbours::Clock::now());
  }));
  EXPECT_EQ(way("198.18.0.21"), "198.18.0.21 dev p0");
  EXPECT_TRUE(sees_mac("198.18.0.21", kHostMac)) << "its last one";
  EXPECT_EQ(routes({"p0"})[0], "198.18.0.0/24 p0 on link");
  const auto lost = Neighbours::Clock::now();
  host_->run("ip link set h0 up");
  EXPECT_TRUE(eventually([&] {
    kernel_->look_at_links();
    return kernel_->is_up_since(device, Neighbours::Clock::now());
  }));
  EXPECT_FALSE(kernel_->is_up_since(device, lost));
  EXPECT_EQ(kernel_->device_to(address("203.0.113.9")), std::nullopt);
  EXPECT_FALSE(kernel_->is_up_since(4711, lost));
  EXPECT_EQ(kernel_->interface_of(4711), "");
}

// As the kernel with ignore_routes_with_linkdown: of two routes the one that works, for backends as for
// clients.
TEST_F(NeighboursTest, TakesTheRouteWithCarrierOfSeveral) {
  ip("route add 192.0.2.0/24 via 198.18.0.2 metric 100");
  ip("route add 192.0.2.0/24 via 198.18.1.2 metric 200");
  ip("route add 203.0.113.0/24 via 198.18.0.2 metric 100");
  ip("route add blackhole 203.0.113.0/24 metric 150");
  ip("route add 203.0.113.0/24 via 198.18.1.2 metric 200");
  const auto leads_by = [&](const std::string& to) {
    const auto all = routes({"p0", "p1"});
    return std::count(all.begin(), all.end(), to) == 1;
  };
  EXPECT_EQ(way("192.0.2.1"), "198.18.0.2 dev p0");
  host_->run("ip link set h0 down");
  EXPECT_TRUE(sees([&] { return way("192.0.2.1") == "198.18.1.2 dev p1"; }));
  EXPECT_TRUE(leads_by("192.0.2.0/24 p1 via 198.18.1.2"));
  EXPECT_EQ(way("203.0.113.1"), "198.18.0.2 dev p0") << "nothing lies behind the one that forbids";
  host_->run("ip link set h0 up");
  EXPECT_TRUE(sees([&] { return way("192.0.2.1") == "198.18.0.2 dev p0"; }));
}

// The kernel shows carrier at once, and only later takes the mark "link down" off the routes. Whatever it
// tells of the link between the two (here of its MTU) is not to be the last that is heard of the routes.
TEST_F(NeighboursTest, SeesRoutesComeBackAfterCarrier) {
  ip("tuntap add t0 mode tap; ip addr add 198.18.5.1/24 dev t0; ip link set t0 up");
  ip("route add 192.0.2.0/24 nexthop via 198.18.5.2 dev t0 nexthop via 198.18.0.2 dev p0");
  for (int round = 0; round < 6; ++round) {
    ASSERT_TRUE(sees([&] { return way("192.0.2.1") == "198.18.0.2 dev p0"; }))
        << "no carrier, round " << round;
    std::optional<FileHandle> tap;
    std::thread opener([&] {
      balancer_->inside([&] {
        tap = open_tap("t0");
        for (int mtu = 1400; mtu < 1410; ++mtu) {
          std::system(("ip link set t0 mtu " + std::to_string(mtu)).c_str());
        }
      });
    });
    const bool is_back = sees([&] { return way("192.0.2.1") == "198.18.5.2 dev t0"; });
    opener.join();
    ASSERT_TRUE(tap->is_open());
    EXPECT_TRUE(is_back) << "round " << round;
    EXPECT_TRUE(sees([&] { return way("192.0.2.1") == "198.18.5.2 dev t0"; })) << "round " << round;
  }
}

// As the kernel tells of a VLAN device, for kernels without any.
void tell_of_vlan_device(NetlinkRequest& message, uint16_t protocol, uint16_t vlan) {
  auto* part = message.fixed<ifinfomsg>();
  part->ifi_index = 7;
  part->ifi_flags = IFF_UP | 1 << 16;
  message.put(IFLA_IFNAME, sizeof "p0.100", "p0.100");
  message.put_u32(IFLA_LINK, 3);
  message.put_u32(IFLA_MTU, 1496);
  nlattr* info = mnl_attr_nest_start(message.header(), IFLA_LINKINFO);
  mnl_attr_put_strz(message.header(), IFLA_INFO_KIND, "vlan");
  nlattr* data = mnl_attr_nest_start(message.header(), IFLA_INFO_DATA);
  mnl_attr_put_u16(message.header(), IFLA_VLAN_PROTOCOL, htons(protocol));
  mnl_attr_put_u16(message.header(), IFLA_VLAN_ID, vlan);
  mnl_attr_nest_end(message.header(), data);
  mnl_attr_nest_end(message.header(), info);
}

TEST(KernelCache, ReadsVlanDevices) {
  NetlinkRequest message(RTM_NEWLINK, 0);
  tell_of_vlan_device(message, ETH_P_8021Q, 100);
  KernelCache cache;
  EXPECT_TRUE(cache.take_link(message.header()));
  EXPECT_FALSE(cache.take_link(message.header())) << "the same again is no change";
  EXPECT_EQ(cache.links.at(7), (Link{7, "p0.100", {}, 1496, true, 3, 100}));
}

// The dataplane tags by 802.1Q alone.
TEST(KernelCache, TellsOtherTagsFromVlans) {
  NetlinkRequest message(RTM_NEWLINK, 0);
  tell_of_vlan_device(message, ETH_P_8021AD, 100);
  KernelCache cache;
  EXPECT_TRUE(cache.take_link(message.header()));
  EXPECT_EQ(cache.links.at(7), (Link{7, "p0.100", {}, 1496, true, 0, 0, 3}));
}

// Frames with a priority and no VLAN are as good as untagged ones: so is the device.
TEST(KernelCache, SeesThroughDevicesOfPriorityTags) {
  NetlinkRequest message(RTM_NEWLINK, 0);
  tell_of_vlan_device(message, ETH_P_8021Q, 0);
  KernelCache cache;
  EXPECT_TRUE(cache.take_link(message.header()));
  EXPECT_EQ(cache.links.at(7), (Link{7, "p0.100", {}, 1496, true, 3, 0}));
}

// More news than the socket holds: some is lost, nothing stays wrong.
TEST_F(NeighboursTest, ReadsEverythingAgainWhenNewsIsLost) {
  ip("neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:21 nud permanent");
  ASSERT_TRUE(sees_mac("198.18.0.21", kHostMac));
  int small = 1;
  ASSERT_EQ(setsockopt(kernel_->fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
  std::string batch = "printf '";
  for (int i = 30; i < 250; ++i)
    batch +=
        "neigh replace 198.18.0." + std::to_string(i) + " dev p0 lladdr 02:00:00:00:00:22 nud permanent\\n";
  batch += "neigh replace 198.18.0.21 dev p0 lladdr 02:00:00:00:00:22 nud permanent\\n";
  batch += "route add 192.0.2.0/24 via 198.18.0.21\\n' | ip -batch -";
  balancer_->run(batch);
  EXPECT_TRUE(sees_mac("198.18.0.249", kOtherMac));
  EXPECT_TRUE(sees_mac("198.18.0.21", kOtherMac));
  EXPECT_EQ(way("192.0.2.1"), "198.18.0.21 dev p0");
}

}  // namespace
}  // namespace portico
