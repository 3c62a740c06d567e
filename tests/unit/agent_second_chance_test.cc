// SPDX-License-Identifier: Apache-2.0
// Second chance: which packets are this host's, asked of the kernel's real TCP sockets, and what those look
// like that go on to the next portal.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <fstream>

#include "tests/unit/agent_rig.h"

namespace portico {
namespace {

using namespace frames;

constexpr uint16_t kPort = 443;

sockaddr_storage endpoint(const std::string& address, uint16_t port, socklen_t& size) {
  sockaddr_storage storage{};
  const Bytes bytes = address_bytes(address);
  if (bytes.size() == 4) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, bytes.data(), bytes.size());
    size = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, bytes.data(), bytes.size());
    size = sizeof *v6;
  }
  return storage;
}

// A family of addresses: the test's world in it.
struct World {
  std::string client, vip, portal, balancer, peer, lost, stranger;
  uint8_t protocol;
};
const World kWorlds[] = {{kClient, kVip, kPortal, kBalancer, kPeer, kLost, kStranger, kIpInIp},
                         {kClient6, kVip6, kPortal6, kBalancer6, kPeer6, kLost6, kStranger6, kIp6InIp}};

class SecondChanceTest : public AgentTest {
 protected:
  static void SetUpTestSuite() {
    AgentTest::SetUpTestSuite();
    if (geteuid() != 0) return;
    // Client and VIP are this host's, so that real connections between them can be; others' SYN-ACKs are
    // lost.
    const std::string commands = "ip address add " + kVip + "/32 dev lo && ip address add " + kClient +
                                 "/32 dev lo && ip address add " + kVip6 +
                                 "/128 dev lo nodad && ip address add " + kClient6 +
                                 "/128 dev lo nodad && ip route add 198.18.3.0/24 dev lo";
    ASSERT_EQ(std::system(commands.c_str()), 0);
  }
  void TearDown() override {
    for (const int fd : sockets_) close(fd);
  }

  int socket_at(const World& w, int type = SOCK_STREAM, int protocol = 0) {
    sockets_.push_back(socket(w.protocol == kIpInIp ? AF_INET : AF_INET6, type, protocol));
    const int on = 1;
    setsockopt(sockets_.back(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return sockets_.back();
  }
  int listen_at(const World& w, int backlog = 8) {
    const int fd = socket_at(w);
    socklen_t size;
    const sockaddr_storage vip = endpoint(w.vip, kPort, size);
    EXPECT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&vip), size), 0) << std::strerror(errno);
    EXPECT_EQ(listen(fd, backlog), 0);
    return fd;
  }
  // A connection's two ends, the server's second; `port` is the client's.
  std::pair<int, int> connect_to(const World& w, int listener, uint16_t& port) {
    const int client = socket_at(w);
    socklen_t size;
    sockaddr_storage address = endpoint(w.client, 0, size);
    EXPECT_EQ(bind(client, reinterpret_cast<const sockaddr*>(&address), size), 0);
    address = endpoint(w.vip, kPort, size);
    EXPECT_EQ(connect(client, reinterpret_cast<const sockaddr*>(&address), size), 0) << std::strerror(errno);
    size = sizeof address;
    EXPECT_EQ(getsockname(client, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
    sockets_.push_back(accept(listener, nullptr, nullptr));
    return {client, sockets_.back()};
  }

  static IpHeader outer_of(const World& w) { return {.from = w.balancer, .to = w.portal}; }
  static Bytes segment(const World& w, uint16_t port, uint8_t flags, uint32_t sequence = 1,
                       uint32_t acknowledged = 2) {
    return ip_packet(
        {.from = w.client, .to = w.vip},
        tcp_segment(w.client, w.vip, port, kPort, flags, sequence, acknowledged, {}, Bytes(10, 'd')));
  }
  static Bytes in_gue(const World& w, const Gue& gue, const Bytes& inner) {
    return frame_of(gue_packet(outer_of(w), gue, w.protocol, inner));
  }
  // With one hop left, the peer.
  void expect_local(const char* what, uint32_t counter, const World& w, const Bytes& inner) {
    expect_taken(what, counter, in_gue(w, {.hops = {w.peer}}, inner), inner);
  }
  // Passed on: to the peer's MAC, address and index and TTL moved on by one, all checksums right, all else as
  // it was.
  void expect_passed_on(const char* what, const World& w, const Bytes& inner, Gue gue = {}) {
    if (gue.hops.empty()) gue.hops = {w.peer};
    const Outcome outcome = expect(what, AGENT_PASSED_ON, in_gue(w, gue, inner));
    EXPECT_EQ(outcome.action, XDP_TX) << what;
    IpHeader outer = outer_of(w);
    outer.to = gue.hops[gue.next++];
    --outer.ttl;
    const Bytes frame =
        kPeerMac + kOwnMac +
        part(in_gue({w.client, w.vip, outer.to, w.balancer, {}, {}, {}, w.protocol}, gue, inner), 12);
    Bytes expected = frame;
    expected[w.protocol == kIpInIp ? 22 : 21] = outer.ttl;
    if (w.protocol == kIpInIp) {
      set16(expected, 24, 0);
      set16(expected, 24, checksum(words(part(expected, 14, 20))));
    }
    EXPECT_EQ(outcome.frame, expected) << what;
  }

  std::vector<int> sockets_;
};

TEST_F(SecondChanceTest, TakesTheConnectionsOfThisHost) {
  for (const World& w : kWorlds) {
    uint16_t port = 0;
    const int listener = listen_at(w);
    const auto [client, server] = connect_to(w, listener, port);
    for (const uint8_t flags : Bytes{kAck, kAck | kFin, kRst, kAck | kSyn})
      expect_local("established", AGENT_TAKEN_SOCKET, w, segment(w, port, flags));
    const auto other = static_cast<uint16_t>(port == 65535 ? port - 1 : port + 1);
    for (const uint8_t flags : Bytes{kAck, kAck | kFin, kRst, kAck | kSyn})
      expect_passed_on("another port: only the listener", w, segment(w, other, flags));
    // The server's end closes first and waits.
    shutdown(server, SHUT_WR);
    char byte;
    EXPECT_EQ(read(client, &byte, 1), 0);
    expect_local("FIN_WAIT", AGENT_TAKEN_SOCKET, w, segment(w, port, kAck));
    shutdown(client, SHUT_WR);
    EXPECT_EQ(read(server, &byte, 1), 0);
    close(std::exchange(sockets_.back(), -1));
    expect_local("TIME_WAIT", AGENT_TAKEN_SOCKET, w, segment(w, port, kAck));
  }
}

TEST_F(SecondChanceTest, TakesSynsAndPassesOnWhatNobodyHas) {
  for (const World& w : kWorlds) {
    expect_local("SYN", AGENT_TAKEN_SYN, w, segment(w, 5000, kSyn));
    expect_passed_on("nobody listens", w, segment(w, 5000, kAck));
    listen_at(w);
    expect_local("SYN", AGENT_TAKEN_SYN, w, segment(w, 5000, kSyn));
    expect_passed_on("a listener is not a connection", w, segment(w, 5000, kAck));
  }
}

TEST_F(SecondChanceTest, TakesAHandshakeUnderWay) {
  const World& w = kWorlds[0];
  listen_at(w);
  World away = w;
  away.client = "198.18.3.7";  // its SYN-ACK is lost
  const int raw = socket_at(w, SOCK_RAW, IPPROTO_RAW);
  const Bytes syn = segment(away, 5000, kSyn, 100, 0);
  socklen_t size;
  const sockaddr_storage to = endpoint(w.vip, 0, size);
  ASSERT_EQ(sendto(raw, syn.data(), syn.size(), 0, reinterpret_cast<const sockaddr*>(&to), size),
            static_cast<ssize_t>(syn.size()));
  expect_local("SYN_RECV", AGENT_TAKEN_SOCKET, away, segment(away, 5000, kAck, 101));
}

// The SYN-ACK to a client that has no connection there, taken off the loopback by a raw socket.
uint32_t cookie_for(int raw, const World& w, uint16_t port) {
  Bytes syn = tcp_segment(w.client, w.vip, port, kPort, kSyn, 100, 0, {2, 4, 5, 0xb4});
  socklen_t size;
  sockaddr_storage to = endpoint(w.vip, 0, size);
  EXPECT_EQ(sendto(raw, syn.data(), syn.size(), 0, reinterpret_cast<const sockaddr*>(&to), size),
            static_cast<ssize_t>(syn.size()));
  for (int tries = 0; tries < 20; ++tries) {
    Bytes got(2048);
    const ssize_t received = recv(raw, got.data(), got.size(), 0);
    if (received < 20) break;
    const size_t tcp = w.protocol == kIpInIp ? static_cast<size_t>(got[0] & 0xf) * 4 : 0;
    if (get16(got, tcp + 2) != port || (got[tcp + 13] & (kSyn | kAck)) != (kSyn | kAck)) continue;
    return static_cast<uint32_t>(get16(got, tcp + 4)) << 16 | get16(got, tcp + 6);
  }
  ADD_FAILURE() << "no SYN-ACK";
  return 0;
}

TEST_F(SecondChanceTest, TakesTheAnswerToASynCookieOfThisHost) {
  std::ofstream("/proc/sys/net/ipv4/tcp_syncookies") << 2;  // always
  for (const World& w : kWorlds) {
    const int listener = listen_at(w);
    const int raw = socket_at(w, SOCK_RAW, IPPROTO_TCP);
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    socklen_t size;
    const sockaddr_storage from = endpoint(w.client, 0, size);
    ASSERT_EQ(bind(raw, reinterpret_cast<const sockaddr*>(&from), size), 0);
    const uint32_t cookie = cookie_for(raw, w, 6000);
    expect_local("its cookie", AGENT_TAKEN_COOKIE, w, segment(w, 6000, kAck, 101, cookie + 1));
    expect_passed_on("another's cookie", w, segment(w, 6000, kAck, 101, cookie + 0x01000000));
    expect_passed_on("a RST is not an answer", w, segment(w, 6000, kRst, 101, cookie + 1));
    close(listener);
  }
  std::ofstream("/proc/sys/net/ipv4/tcp_syncookies") << 1;
}

TEST_F(SecondChanceTest, TheLastHopTakesEverything) {
  for (const World& w : kWorlds) {
    for (const auto& hops : {std::vector{w.peer}, {w.peer, w.lost}, {w.peer, w.lost, w.stranger}}) {
      const Bytes inner = segment(w, 5000, kAck);
      expect_taken("last", AGENT_TAKEN_LAST,
                   in_gue(w, {.hops = hops, .next = static_cast<uint8_t>(hops.size())}, inner), inner);
    }
    const Bytes inner = segment(w, 5000, kAck);
    expect_taken("no hops", AGENT_TAKEN_GUE, in_gue(w, {}, inner), inner);
  }
}

TEST_F(SecondChanceTest, PassesOnToEachHopInTurn) {
  for (const World& w : kWorlds) {
    const Bytes inner = segment(w, 5000, kAck);
    expect_passed_on("first of three", w, inner, {.hops = {w.peer, w.lost, w.stranger}});
    expect_passed_on("second of three", w, inner, {.hops = {w.lost, w.peer, w.stranger}, .next = 1});
    expect_passed_on("third of three", w, inner, {.hops = {w.lost, w.stranger, w.peer}, .next = 2});
    expect_passed_on("without a checksum", w, inner, {.hops = {w.peer}, .with_sum = false});
    expect_dropped("not resolved", AGENT_NO_HOP, in_gue(w, {.hops = {w.lost}}, inner));
    expect_dropped("not a peer", AGENT_NO_HOP, in_gue(w, {.hops = {w.stranger}}, inner));
    IpHeader outer = outer_of(w);
    outer.ttl = 1;
    expect_dropped("TTL used up", AGENT_TTL,
                   frame_of(gue_packet(outer, {.hops = {w.peer}}, w.protocol, inner)));
    outer = outer_of(w);
    outer.from = w.peer;
    expect_dropped("from a portal", AGENT_FORGED,
                   frame_of(gue_packet(outer, {.hops = {w.peer}}, w.protocol, inner)));
  }
}

// The checksum of UDP is adjusted, not made: whatever there was, many times.
TEST_F(SecondChanceTest, AdjustsEveryChecksum) {
  for (const World& w : kWorlds)
    for (uint16_t port = 20000; port < 20300; ++port)
      expect_passed_on("sum", w, segment(w, port, kAck, port * 77777u));
}

TEST_F(SecondChanceTest, LooksBehindOptionsAndExtensionHeaders) {
  const World &w4 = kWorlds[0], &w6 = kWorlds[1];
  const Bytes tcp4 = tcp_segment(w4.client, w4.vip, 5000, kPort, kAck);
  expect_passed_on("IPv4 options", w4,
                   ip_packet({.from = w4.client, .to = w4.vip, .options = Bytes(12, 1)}, tcp4));
  const Bytes tcp6 = tcp_segment(w6.client, w6.vip, 5000, kPort, kAck);
  const auto with = [&](uint8_t first, const Bytes& headers) {
    return ip_packet({.from = w6.client, .to = w6.vip, .protocol = first}, headers + tcp6);
  };
  expect_passed_on("hop by hop", w6, with(0, extension(kTcp)));
  expect_passed_on("four headers", w6,
                   with(0, extension(60, 2) + extension(43) + extension(60) + extension(kTcp)));
  expect_local("five headers", AGENT_TAKEN_UNTOLD, w6,
               with(0, extension(60) + extension(60) + extension(60) + extension(60) + extension(kTcp)));
  expect_local("beyond the end", AGENT_TAKEN_UNTOLD, w6, with(0, Bytes{kTcp, 200} + Bytes(6, 0)));
}

TEST_F(SecondChanceTest, TakesWhatCannotBeTold) {
  for (const World& w : kWorlds) {
    const bool is_v4 = w.protocol == kIpInIp;
    const Bytes tcp = tcp_segment(w.client, w.vip, 5000, kPort, kAck);
    if (is_v4) {
      for (const uint16_t fragment : std::initializer_list<uint16_t>{0x2000, 0x0010})
        expect_local("fragment", AGENT_TAKEN_UNTOLD, w,
                     ip_packet({.from = w.client, .to = w.vip, .fragment = fragment}, tcp));
    } else {
      expect_local("fragment", AGENT_TAKEN_UNTOLD, w,
                   ip_packet({.from = w.client, .to = w.vip, .protocol = 44}, fragment6(kTcp, 1) + tcp));
    }
    expect_local("cut off", AGENT_TAKEN_UNTOLD, w,
                 ip_packet({.from = w.client, .to = w.vip}, part(tcp, 0, 19)));
    expect_local("UDP", AGENT_TAKEN_UNTOLD, w,
                 ip_packet({.from = w.client, .to = w.vip, .protocol = kUdp}, tcp));
  }
}

// An error belongs to the host that has the connection that it is about.
TEST_F(SecondChanceTest, IcmpErrorsFollowTheirConnection) {
  for (const World& w : kWorlds) {
    const bool is_v4 = w.protocol == kIpInIp;
    uint16_t port = 0;
    connect_to(w, listen_at(w), port);
    const auto error = [&](uint8_t type, uint16_t to_port) {
      const Bytes sent = ip_packet({.from = w.vip, .to = w.client},
                                   part(tcp_segment(w.vip, w.client, kPort, to_port, kAck), 0, 8));
      return ip_packet({.from = w.stranger, .to = w.vip, .protocol = is_v4 ? kIcmp : kIcmp6},
                       icmp(type) + sent);
    };
    const auto other = static_cast<uint16_t>(port == 65535 ? port - 1 : port + 1);
    for (const uint8_t type : is_v4 ? Bytes{3, 11, 12} : Bytes{1, 2, 3, 4}) {
      expect_local("its connection", AGENT_TAKEN_SOCKET, w, error(type, port));
      expect_passed_on("another's", w, error(type, other));
    }
    expect_local("a ping", AGENT_TAKEN_UNTOLD, w, error(is_v4 ? 8 : 128, other));
  }
}

TEST_F(SecondChanceTest, CanBeSwitchedOff) {
  settings_.second_chance = 0;
  load();
  for (const World& w : kWorlds) {
    const Bytes inner = segment(w, 5000, kAck);
    expect_taken("off", AGENT_TAKEN_GUE, in_gue(w, {.hops = {w.peer}}, inner), inner);
  }
}

TEST_F(SecondChanceTest, VlanTagsFollowTheHop) {
  const World& w = kWorlds[0];
  const Bytes frame =
      tagged_frame_of(gue_packet(outer_of(w), {.hops = {w.peer}}, w.protocol, segment(w, 5000, kAck)));
  expect_dropped("a hop without a tag", AGENT_NO_HOP, frame);
  agent_hop hop{.ifindex = 1, .vlan = htons(7)};
  put_hop(*object_, w.peer, hop);
  const Outcome outcome = expect("tag", AGENT_PASSED_ON, frame);
  EXPECT_EQ(outcome.action, XDP_TX);
  EXPECT_EQ(get16(outcome.frame, 12), 0x8100);
  EXPECT_EQ(get16(outcome.frame, 14), 7);
}

}  // namespace
}  // namespace portico
