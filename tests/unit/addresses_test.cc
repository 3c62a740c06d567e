// SPDX-License-Identifier: Apache-2.0
// Addresses beside a real kernel, in a namespace of the test's own.
#include "control/addresses.h"

#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "control/announce.h"
#include "tests/unit/net_namespaces.h"

namespace portico {
namespace {

using Texts = std::vector<std::string>;
using Frame = std::vector<uint8_t>;

// A balancer with the ports p0 and p1, and what is behind them.
class AddressesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    balancer_.emplace();
    client_.emplace();
    balancer_->run("ip link add p0 type veth peer name c0 netns " + client_->path());
    balancer_->run("ip link add p1 type veth peer name c1 netns " + client_->path());
    balancer_->run("ip addr add 198.18.0.1/24 dev p0 && ip addr add 2001:db8::1/64 dev p0 nodad");
    balancer_->run("ip addr add 198.18.1.1/24 dev p1 && ip addr add 2001:db8:1::1/64 dev p1 nodad");
    balancer_->run("ip link set p0 up && ip link set p1 up");
    client_->run("ip addr add 198.18.1.9/24 dev c1 && ip addr add 2001:db8:1::9/64 dev c1 nodad");
    client_->run("ip link set c0 up && ip link set c1 up");
  }

  Addresses::Failure apply(Addresses& addresses, const Texts& desired, const Texts& ports = {"p0", "p1"}) {
    std::vector<Address> parsed;
    for (const std::string& text : desired) parsed.push_back(*Address::parse(text));
    return balancer_->inside([&] { return addresses.apply(parsed, ports); });
  }
  Texts installed(const Addresses& addresses) {
    Texts result;
    for (const Address& address : balancer_->inside([&] { return addresses.installed(); }))
      result.push_back(to_string(address));
    std::sort(result.begin(), result.end());
    return result;
  }
  // True if `ip -o addr show dev DEVICE` has a line with the text.
  bool shows(const std::string& device, const std::string& text) {
    const std::string command = "ip -o addr show dev " + device + " | grep -q -F '" + text + "'";
    return balancer_->inside([&] { return std::system(command.c_str()) == 0; });
  }

  std::optional<NetNamespace> balancer_, client_;
};

TEST_F(AddressesTest, InstallsOnTheConnectedInterfaceElseTheFirst) {
  Addresses addresses("edge");
  ASSERT_FALSE(
      apply(addresses, {"198.18.0.80", "198.18.1.80", "203.0.113.20", "2001:db8:1::80", "2001:db8:9::80"}));
  EXPECT_TRUE(shows("p0", "198.18.0.80/32"));
  EXPECT_TRUE(shows("p1", "198.18.1.80/32"));
  EXPECT_TRUE(shows("p0", "203.0.113.20/32")) << "in no connected network";
  EXPECT_TRUE(shows("p1", "2001:db8:1::80/128"));
  EXPECT_TRUE(shows("p0", "2001:db8:9::80/128"));
  EXPECT_TRUE(shows("p1", "nodad"));
  balancer_->run("! ip -o addr show dev p1 to 2001:db8:1::80 | grep -q tentative");
  EXPECT_TRUE(shows("p1", "deprecated")) << "never chosen as a source";
  // The kernel answers ARP, neighbour solicitations and ping for them.
  client_->run("ping -c 1 -W 10 -q 198.18.1.80 > /dev/null");
  client_->run("ping -c 1 -W 10 -q 2001:db8:1::80 > /dev/null");
  // And its own connections still come from its own address.
  balancer_->run("ip route get 198.18.1.9 | grep -q 'src 198.18.1.1 '");
  balancer_->run("ip -6 route get 2001:db8:1::9 | grep -q 'src 2001:db8:1::1 '");
}

// Any interface may stand for a VLAN device here: kernels without 802.1Q have none.
TEST_F(AddressesTest, VlanDevicesAreHomesOfTheirNetworksOnly) {
  Addresses addresses("edge");
  const Texts desired = {"198.18.0.80", "198.18.1.80", "203.0.113.20", "2001:db8:1::80"};
  const auto with_vlans = [&](const Texts& devices) {
    std::vector<Address> parsed;
    for (const std::string& text : desired) parsed.push_back(*Address::parse(text));
    return balancer_->inside([&] { return addresses.apply(parsed, Texts{"p0"}, devices); });
  };
  ASSERT_FALSE(with_vlans({"p1"}));
  EXPECT_TRUE(shows("p0", "198.18.0.80/32"));
  EXPECT_TRUE(shows("p1", "198.18.1.80/32"));
  EXPECT_TRUE(shows("p1", "2001:db8:1::80/128"));
  EXPECT_TRUE(shows("p0", "203.0.113.20/32")) << "in no connected network";

  balancer_->run("ip link set p1 down && ip link set p1 name p9");
  EXPECT_FALSE(with_vlans({"p1"})) << "a device that is gone is no failure";
  EXPECT_TRUE(shows("p0", "198.18.1.80/32"));
  EXPECT_TRUE(shows("p0", "2001:db8:1::80/128"));

  balancer_->run("ip link set p9 up && ip addr replace 2001:db8:1::1/64 dev p9 nodad");
  ASSERT_FALSE(with_vlans({"p9"}));
  EXPECT_TRUE(shows("p9", "198.18.1.80/32"));
  EXPECT_TRUE(shows("p9", "2001:db8:1::80/128"));
}

TEST_F(AddressesTest, FollowsByDifferenceAndTakesOverItsOwn) {
  {
    Addresses killed("edge");
    ASSERT_FALSE(apply(killed, {"198.18.0.80", "198.18.0.81", "2001:db8::80"}));
  }
  balancer_->run("ip addr add 198.18.0.90/32 dev p0 && ip addr add 198.18.0.82/32 dev p0");
  Addresses other("another-instance");
  ASSERT_FALSE(apply(other, {"198.18.0.70"}));

  Addresses addresses("edge");
  EXPECT_EQ(installed(addresses), (Texts{"198.18.0.80", "198.18.0.81", "2001:db8::80"}));
  ASSERT_FALSE(apply(addresses, {"198.18.0.81", "2001:db8::80", "2001:db8::81", "198.18.0.82"}));
  EXPECT_EQ(installed(addresses), (Texts{"198.18.0.81", "2001:db8::80", "2001:db8::81"}))
      << "what the administrator installed is not ours";

  balancer_->inside([&] { ASSERT_FALSE(addresses.remove_all()); });
  EXPECT_EQ(installed(addresses), Texts{});
  for (const char* kept : {"198.18.0.90/32", "198.18.0.82/32", "198.18.0.70/32", "198.18.0.1/24"})
    EXPECT_TRUE(shows("p0", kept)) << kept;
  EXPECT_EQ(installed(other), Texts{"198.18.0.70"});
}

TEST_F(AddressesTest, MovesToTheInterfaceWhoseNetworkItIsIn) {
  balancer_->run("ip addr del 2001:db8:1::1/64 dev p1 && ip addr del 198.18.1.1/24 dev p1");
  Addresses addresses("edge");
  const Texts vips = {"198.18.1.80", "2001:db8:1::80"};
  ASSERT_FALSE(apply(addresses, vips));
  EXPECT_TRUE(shows("p0", "2001:db8:1::80/128"));
  EXPECT_EQ(addresses.unconnected().size(), 2u);

  balancer_->run("ip addr add 2001:db8:1::1/64 dev p1 nodad && ip addr add 198.18.1.1/24 dev p1");
  ASSERT_FALSE(apply(addresses, vips));
  for (const char* moved : {"198.18.1.80/32", "2001:db8:1::80/128"}) {
    EXPECT_TRUE(shows("p1", moved));
    EXPECT_FALSE(shows("p0", moved));
  }
  EXPECT_TRUE(addresses.unconnected().empty());
  ASSERT_EQ(addresses.mended().size(), 2u);
  EXPECT_EQ(addresses.mended()[0], "moved the address 198.18.1.80 from p0 to p1, where it belongs");
  client_->run("ping -c 1 -W 10 -q 198.18.1.80 > /dev/null");
  client_->run("ping -c 1 -W 10 -q 2001:db8:1::80 > /dev/null");
  ASSERT_FALSE(apply(addresses, vips));
  EXPECT_TRUE(addresses.mended().empty()) << "and then it stays";
}

TEST_F(AddressesTest, ATakeoverMovesWhatAnEarlierOneMisplaced) {
  balancer_->run("ip addr del 2001:db8:1::1/64 dev p1");
  Addresses killed("edge");
  ASSERT_FALSE(apply(killed, {"2001:db8:1::80"}));
  balancer_->run("ip addr add 2001:db8:1::1/64 dev p1 nodad");
  Addresses addresses("edge");
  ASSERT_FALSE(apply(addresses, {"2001:db8:1::80"}));
  EXPECT_TRUE(shows("p1", "2001:db8:1::80/128"));
  EXPECT_FALSE(shows("p0", "2001:db8:1::80/128"));
}

TEST_F(AddressesTest, TheLongestNetworkCounts) {
  balancer_->run("ip addr add 2001:db8:1::2/48 dev p0 nodad");
  Addresses addresses("edge");
  ASSERT_FALSE(apply(addresses, {"2001:db8:1::80"}));
  EXPECT_TRUE(shows("p1", "2001:db8:1::80/128"));
}

TEST_F(AddressesTest, ComesBackWhereItWas) {
  Addresses addresses("edge");
  const Texts vips = {"198.18.1.80", "2001:db8:1::80"};
  ASSERT_FALSE(apply(addresses, vips));
  EXPECT_TRUE(addresses.mended().empty()) << "new ones are not news";
  // The kernel takes the IPv6 addresses, the network's own included.
  balancer_->run("ip link set p1 down && ip addr del 198.18.1.80/32 dev p1");
  ASSERT_FALSE(apply(addresses, vips));
  EXPECT_TRUE(shows("p1", "198.18.1.80/32"));
  EXPECT_TRUE(shows("p1", "2001:db8:1::80/128"));
  EXPECT_EQ(addresses.unconnected(), (std::vector<Address>{*Address::parse("2001:db8:1::80")}));
  ASSERT_EQ(addresses.mended().size(), 2u);
  EXPECT_EQ(addresses.mended()[0], "put back the address 198.18.1.80, which had vanished, on p1");
  balancer_->run("ip link set p1 up && ip addr add 2001:db8:1::1/64 dev p1 nodad");
  ASSERT_FALSE(apply(addresses, vips));
  client_->run("ping -c 1 -W 10 -q 198.18.1.80 > /dev/null");
  client_->run("ping -c 1 -W 10 -q 2001:db8:1::80 > /dev/null");
}

TEST_F(AddressesTest, AnnouncesWhatIsNew) {
  const auto open_capture = [&] {
    const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    EXPECT_GE(fd, 0);
    return fd;
  };
  const int capture = client_->inside(open_capture);
  Addresses addresses("edge");
  ASSERT_FALSE(apply(addresses, {"198.18.0.80", "2001:db8::80"}));
  // The captured frames, told by what they announce: bytes 28 (ARP sender) and 62 (advertised target).
  std::array<uint8_t, 2048> frame;
  const auto captured = [&](const char* text, size_t at, size_t skip) {
    const Address address = *Address::parse(text);
    return eventually([&] {
      const ssize_t size = recv(capture, frame.data(), frame.size(), MSG_DONTWAIT);
      const size_t length = address.bytes.size() - skip;
      return size >= static_cast<ssize_t>(at + length) &&
             std::equal(address.bytes.begin() + static_cast<ptrdiff_t>(skip), address.bytes.end(),
                        frame.data() + at);
    });
  };
  EXPECT_TRUE(captured("198.18.0.80", 28, 12));
  EXPECT_TRUE(captured("2001:db8::80", 62, 0));
  close(capture);
}

// Through the receiver's eyes: Linux learns from what it accepts, checksum included. Said again until heard:
// a new link takes no multicast for a moment.
TEST_F(AddressesTest, NeighboursBelieveTheAnnouncement) {
  balancer_->run("ip link set p1 address 02:00:00:00:00:77");
  for (const char* vip : {"198.18.1.80", "2001:db8:1::80"}) {
    const std::string entry = std::string(vip) + " dev c1";
    client_->run("ip neigh replace " + entry + " lladdr 02:00:00:00:00:66 nud stale");
    EXPECT_TRUE(eventually([&] {
      balancer_->inside(
          [&] { EXPECT_TRUE(announce(*Address::parse(vip), static_cast<int>(if_nametoindex("p1")))); });
      const std::string command = "ip neigh show " + entry + " | grep -q 02:00:00:00:00:77";
      return client_->inside([&] { return std::system(command.c_str()) == 0; });
    })) << vip;
  }
}

TEST_F(AddressesTest, SaysWhatIsWrongAndDoesTheRest) {
  Addresses addresses("edge");
  auto failure = apply(addresses, {"198.18.0.80"}, {"p9", "p0"});
  ASSERT_TRUE(failure);
  EXPECT_NE(failure->find("no interface 'p9'"), std::string::npos) << *failure;
  EXPECT_EQ(installed(addresses), Texts{"198.18.0.80"});
  EXPECT_TRUE(apply(addresses, {"198.18.0.81"}, {}));

  const pid_t child = fork();
  if (child == 0) {
    balancer_->inside([&] {
      const Address vip = *Address::parse("198.18.0.99");
      const std::string port = "p0";
      if (setuid(65534) != 0) std::_Exit(2);
      const auto refused = addresses.apply({&vip, 1}, {&port, 1});
      std::_Exit(refused && refused->find("CAP_NET_ADMIN") != std::string::npos ? 0 : 1);
    });
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(Announcement, IsWhatTheStandardsSay) {
  const MacAddress mac{2, 0, 0, 0, 0, 5};
  const Frame arp{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 5,  // RFC 5227 section 3
                  8,    6,    0,    1,    8,    0,    6, 4, 0, 1, 2, 0,   0,  0, 0,
                  5,    198,  18,   0,    80,   0,    0, 0, 0, 0, 0, 198, 18, 0, 80};
  EXPECT_EQ(announcement(*Address::parse("198.18.0.80"), mac), arp);
  const Frame advertisement = announcement(*Address::parse("2001:db8::80"), mac);
  ASSERT_EQ(advertisement.size(), 86u);
  EXPECT_EQ(advertisement[21], 255) << "hop limit, RFC 4861 section 7.1.2";
  EXPECT_EQ(advertisement[54], 136) << "neighbour advertisement";
  EXPECT_EQ(advertisement[58], 0x20) << "override, not solicited";
  EXPECT_TRUE(std::equal(mac.begin(), mac.end(), advertisement.end() - 6));
}

}  // namespace
}  // namespace portico
