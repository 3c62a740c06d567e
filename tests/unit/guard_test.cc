// SPDX-License-Identifier: Apache-2.0
// The guard between a client and a kernel that owns the VIP, over a veth.
#include "control/guard.h"

#include <gtest/gtest.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>

#include "tests/unit/net_namespaces.h"

namespace portico {
namespace {

const std::string kVip = "198.18.0.80", kVip6 = "2001:db8::80";

Endpoint endpoint(const std::string& address, uint16_t port) {
  return {*Address::parse(address), port};
}
NatRange range(const std::string& address, uint16_t first, uint16_t last) {
  return {*Address::parse(address), first, last};
}

class GuardTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces and nftables rules";
    balancer_.emplace();
    client_.emplace();
    balancer_->run("ip link add guard0 type veth peer name guard1 netns " + client_->path());
    balancer_->run("ip addr add 198.18.0.80/24 dev guard0 && ip addr add 2001:db8::80/64 dev guard0 nodad");
    client_->run("ip addr add 198.18.0.9/24 dev guard1 && ip addr add 2001:db8::9/64 dev guard1 nodad");
    balancer_->run("ip link set guard0 up");
    client_->run("ip link set guard1 up");
  }

  template <typename Code>
  auto in_balancer(Code code) {
    return balancer_->inside(code);
  }

  int listen_on(const std::string& address, uint16_t port) {
    return in_balancer([&] {
      const SocketAddress at(address, port);
      const int fd = socket(at.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
      EXPECT_EQ(bind(fd, at.get(), at.size), 0);
      EXPECT_EQ(listen(fd, 16), 0);
      return fd;
    });
  }

  // Starts to connect; the caller closes the descriptor.
  int connect_to(const std::string& address, uint16_t port) {
    return client_->inside([&] {
      const SocketAddress to(address, port);
      const int fd = socket(to.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
      EXPECT_EQ(connect(fd, to.get(), to.size), -1);
      EXPECT_EQ(errno, EINPROGRESS);
      return fd;
    });
  }

  // The outcome of connecting once there is one: 0 or ECONNREFUSED.
  int outcome(const std::string& address, uint16_t port) {
    const int fd = connect_to(address, port);
    pollfd wait{fd, POLLOUT, 0};
    EXPECT_EQ(poll(&wait, 1, 10000), 1) << "no answer from " << address << " port " << port;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    close(fd);
    return error;
  }

  // Connects, waits until the guard has dropped that SYN, and sees that nothing came back.
  void expect_guarded(Guard& guard, const std::string& address, uint16_t port) {
    const auto dropped = [&] { return in_balancer([&] { return guard.dropped(); }); };
    const auto before = dropped();
    ASSERT_TRUE(before);
    const int fd = connect_to(address, port);
    EXPECT_TRUE(eventually([&] { return dropped() > before; })) << address << " port " << port;
    pollfd wait{fd, POLLOUT, 0};
    EXPECT_EQ(poll(&wait, 1, 0), 0) << "the kernel answered for " << address << " port " << port;
    close(fd);
  }

  std::optional<NetNamespace> balancer_, client_;
};

TEST_F(GuardTest, KeepsServicesFromTheKernelAndNothingElse) {
  const int open4 = listen_on(kVip, 443), open6 = listen_on(kVip6, 443), ssh = listen_on(kVip, 22);
  EXPECT_EQ(outcome(kVip, 443), 0) << "without the guard the kernel's socket answers";
  EXPECT_EQ(outcome(kVip, 80), ECONNREFUSED) << "and a closed port resets";

  Guard guard("edge 1");
  const Endpoint listeners[] = {endpoint(kVip, 443), endpoint(kVip6, 443), endpoint(kVip, 80),
                                endpoint(kVip6, 80)};
  const NatRange nat[] = {range(kVip, 2000, 2999), range(kVip, 2500, 3999), range(kVip6, 2000, 2000)};
  in_balancer([&] { ASSERT_FALSE(guard.apply(listeners, nat)); });
  for (const auto& vip : {kVip, kVip6}) {
    expect_guarded(guard, vip, 443);
    expect_guarded(guard, vip, 80);
    expect_guarded(guard, vip, 2000);
  }
  expect_guarded(guard, kVip, 3999);
  EXPECT_EQ(outcome(kVip, 22), 0) << "SSH goes on";
  EXPECT_EQ(outcome(kVip, 1999), ECONNREFUSED);
  EXPECT_EQ(outcome(kVip, 4000), ECONNREFUSED);
  EXPECT_EQ(outcome(kVip6, 2001), ECONNREFUSED);
  client_->run("ping -c 1 -W 10 -q " + kVip + " > /dev/null");
  client_->run("ping -c 1 -W 10 -q " + kVip6 + " > /dev/null");

  in_balancer([&] { ASSERT_FALSE(guard.remove()); });
  EXPECT_EQ(outcome(kVip, 443), 0);
  for (const int fd : {open4, open6, ssh}) close(fd);
}

// The balancer routes, a portal behind it answers a client that asked the VIP, and no dataplane is there.
TEST_F(GuardTest, ForwardsNoReplyOfModeDnat) {
  NetNamespace portal;
  balancer_->run("ip link add guard2 type veth peer name guard3 netns " + portal.path());
  balancer_->run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
  balancer_->run("ip addr add 198.18.1.1/24 dev guard2 && ip addr add 2001:db8:1::1/64 dev guard2 nodad");
  portal.run("ip addr add 198.18.1.21/24 dev guard3 && ip addr add 2001:db8:1::21/64 dev guard3 nodad");
  balancer_->run("ip link set guard2 up");
  portal.run("ip link set guard3 up");
  portal.run("ip route add default via 198.18.1.1 && ip route add default via 2001:db8:1::1");
  client_->run("ip route add 198.18.1.0/24 via 198.18.0.80 && ip route add 2001:db8:1::/64 via 2001:db8::80");
  // A closed port answers with RST by the same way.
  EXPECT_EQ(outcome("198.18.1.21", 443), ECONNREFUSED);
  EXPECT_EQ(outcome("2001:db8:1::21", 443), ECONNREFUSED);

  Guard guard("edge 1");
  const Endpoint backends[] = {endpoint("198.18.1.21", 443), endpoint("2001:db8:1::21", 443)};
  in_balancer([&] { ASSERT_FALSE(guard.apply({}, {}, backends)); });
  expect_guarded(guard, "198.18.1.21", 443);
  expect_guarded(guard, "2001:db8:1::21", 443);
  EXPECT_EQ(outcome("198.18.1.21", 444), ECONNREFUSED) << "other traffic passes";
  EXPECT_EQ(outcome("2001:db8:1::21", 444), ECONNREFUSED);
  const int fd = in_balancer([] {
    const SocketAddress to("198.18.1.21", 443);
    const int check = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(check, to.get(), to.size), -1);
    EXPECT_EQ(errno, ECONNREFUSED) << "the host's own health checks get their answers";
    return check;
  });
  close(fd);
  in_balancer([&] { ASSERT_FALSE(guard.apply({}, {})); });
  EXPECT_EQ(outcome("198.18.1.21", 443), ECONNREFUSED);
}

TEST_F(GuardTest, ComesBackWhateverWasTakenFromIt) {
  const Endpoint listeners[] = {endpoint(kVip, 443), endpoint(kVip6, 443)};
  const NatRange nat[] = {range(kVip, 2000, 2999), range(kVip6, 2000, 2000)};
  Guard guard("edge");
  const auto apply = [&] { in_balancer([&] { ASSERT_FALSE(guard.apply(listeners, nat)); }); };
  apply();
  expect_guarded(guard, kVip, 443);
  apply();
  EXPECT_FALSE(guard.was_mended()) << "counted packets are no change";
  for (const char* harm : {"flush ruleset", "flush table inet portico-edge",
                           "flush set inet portico-edge services4", "delete table inet portico-edge"}) {
    balancer_->run(std::string("nft ") + harm);
    apply();
    EXPECT_TRUE(guard.was_mended()) << harm;
    expect_guarded(guard, kVip, 443);
  }
}

TEST_F(GuardTest, OutlivesItsProcessAndFollowsChanges) {
  const Endpoint both[] = {endpoint(kVip, 443), endpoint(kVip, 80)};
  in_balancer([&] {
    Guard killed("edge");
    ASSERT_FALSE(killed.apply(both, {}));
  });
  Guard guard("edge");
  expect_guarded(guard, kVip, 80);
  const uint64_t dropped = *in_balancer([&] { return guard.dropped(); });
  in_balancer([&] { ASSERT_FALSE(guard.apply({both, 1}, {})); });
  EXPECT_GE(*in_balancer([&] { return guard.dropped(); }), dropped) << "the count goes on";
  EXPECT_EQ(outcome(kVip, 80), ECONNREFUSED) << "a removed service is the kernel's again";
  expect_guarded(guard, kVip, 443);

  // Somebody reloads the host's firewall; the same apply brings the guard back.
  balancer_->run("nft flush ruleset");
  EXPECT_EQ(outcome(kVip, 443), ECONNREFUSED);
  in_balancer([&] { ASSERT_FALSE(guard.apply({both, 1}, {})); });
  expect_guarded(guard, kVip, 443);
}

TEST_F(GuardTest, FindsHolesFromOutside) {
  Guard guard("edge"), other("edge");
  const Endpoint listeners[] = {endpoint(kVip, 443), endpoint(kVip6, 443)};
  const NatRange nat[] = {range("198.18.0.81", 1024, 65535), range("2001:db8::81", 1024, 65535)};
  const Endpoint backends[] = {endpoint("198.18.1.21", 443), endpoint("2001:db8:1::21", 443)};
  const auto has_hole = [&] {
    return in_balancer([&] { return other.find_hole(listeners, nat, backends).has_value(); });
  };
  EXPECT_TRUE(has_hole());
  const auto apply = [&] { in_balancer([&] { ASSERT_FALSE(guard.apply(listeners, nat, backends)); }); };
  apply();
  EXPECT_FALSE(has_hole());
  for (const char* change : {"delete table inet portico-edge", "flush chain inet portico-edge arriving",
                             "delete element inet portico-edge services6 { 2001:db8::80 . 443 }",
                             "flush set inet portico-edge nat4", "flush chain inet portico-edge passing",
                             "flush set inet portico-edge backends6"}) {
    balancer_->run("nft '" + std::string(change) + "'");
    EXPECT_TRUE(has_hole()) << change;
    apply();
    EXPECT_FALSE(has_hole()) << change;
  }
}

TEST_F(GuardTest, SendsNoResetForAService) {
  Guard guard("edge");
  const Endpoint listeners[] = {endpoint(kVip, 443)};
  in_balancer([&] { ASSERT_FALSE(guard.apply(listeners, {})); });
  const int raw = in_balancer([] { return socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW); });
  struct {
    iphdr ip;
    tcphdr tcp;
  } packet{};
  packet.ip.version = 4;
  packet.ip.ihl = 5;
  packet.ip.ttl = 64;
  packet.ip.protocol = IPPROTO_TCP;
  packet.ip.saddr = Address::parse(kVip)->v4();
  packet.ip.daddr = Address::parse("198.18.0.9")->v4();
  packet.tcp.doff = 5;
  const SocketAddress to("198.18.0.9", 0);
  const auto send = [&](uint16_t source_port, bool reset) {
    packet.tcp.source = htons(source_port);
    packet.tcp.rst = reset;
    return sendto(raw, &packet, sizeof packet, 0, to.get(), to.size) < 0 ? errno : 0;
  };
  EXPECT_EQ(send(443, true), EPERM);
  EXPECT_EQ(send(443, false), 0);
  EXPECT_EQ(send(22, true), 0);
  close(raw);
}

TEST_F(GuardTest, TakesTheLargestConfiguration) {
  std::vector<Endpoint> listeners;
  for (uint16_t port = 1; port <= kMaxListeners / 2; ++port) {
    listeners.push_back(endpoint(kVip, port));
    listeners.push_back(endpoint(kVip6, port));
  }
  Guard guard("edge");
  in_balancer([&] { ASSERT_FALSE(guard.apply(listeners, {})); });
  expect_guarded(guard, kVip, kMaxListeners / 2);
}

TEST(Guard, NamesItsTable) {
  EXPECT_EQ(Guard("edge-1").table(), "portico-edge-1");
  EXPECT_EQ(Guard("rack 7; flush ruleset").table(), "portico-rack_7__flush_ruleset");
}

TEST(Guard, SaysWhatIsMissingWithoutPermission) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to give it up";
  const pid_t child = fork();
  if (child == 0) {
    if (setuid(65534) != 0) std::_Exit(2);
    const auto failure = Guard("edge").apply({}, {});
    std::_Exit(failure && failure->find("CAP_NET_ADMIN") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace portico
