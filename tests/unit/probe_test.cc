// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sched.h>

#include <random>
#include <thread>

#include "control/checks/mysql_protocol.h"
#include "control/checks/probe.h"
#include "tests/support/probe_fixture.h"

namespace portico {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using fake::asio::awaitable;
using PeerPtr = std::shared_ptr<fake::Peer>;

// A server that greets, reads the login, answers it and waits for the end; what it read goes to `seen`.
fake::Script greets_and_answers(std::string answer, std::vector<std::string>* seen = nullptr) {
  return [answer = std::move(answer), seen](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    std::string login = co_await peer->receive_packet();
    if (seen) seen->push_back(login);
    co_await peer->send(fake::packet(2, answer));
    std::string after = co_await peer->receive_packet();
    if (seen && !peer->ended()) seen->push_back(after);
  };
}

fake::Script sends(std::string bytes) {
  return [bytes = std::move(bytes)](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(bytes);
    co_await peer->wait_for_end();
  };
}

fake::Script stays_silent() {
  return [](PeerPtr peer) -> awaitable<void> { co_await peer->wait_for_end(); };
}

TEST_F(Probe, TcpSucceedsOnAnOpenPort) {
  serve(stays_silent());
  const ProbeResult result = probe();
  EXPECT_EQ(result.outcome, ProbeOutcome::success);
  EXPECT_EQ(result.reason, "");
}

// Signature, version 2 and LOCAL, no family, no addresses (HAProxy's proxy-protocol.txt, section 2.2).
const std::string kLocalHeader("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);

TEST_F(Probe, TcpBeginsWithALocalHeaderWhereTheProxyProtocolIsSpoken) {
  serve([this](PeerPtr peer) -> awaitable<void> { seen_.push_back(co_await peer->receive(17)); });
  request_.proxy_protocol = ProxyProtocol::v2;
  EXPECT_EQ(probe().outcome, ProbeOutcome::success);
  run_until(io_, [&] { return !seen_.empty(); });
  EXPECT_EQ(seen_[0], kLocalHeader);  // and then the RST
}

TEST_F(Probe, MysqlBeginsWithALocalHeaderWhereTheProxyProtocolIsSpoken) {
  serve([this](PeerPtr peer) -> awaitable<void> {
    seen_.push_back(co_await peer->receive(16));  // greets only then
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    seen_.push_back(co_await peer->receive_packet());
    co_await peer->send(fake::packet(2, fake::ok_payload()));
    co_await peer->wait_for_end();
  });
  request_.proxy_protocol = ProxyProtocol::v2;
  EXPECT_EQ(probe_mysql().outcome, ProbeOutcome::success);
  ASSERT_EQ(seen_.size(), 2u);
  EXPECT_EQ(seen_[0], kLocalHeader);
}

TEST_F(Probe, TcpSucceedsOverIpv6) {
  try {
    serve(stays_silent(), "::1");
  } catch (const boost::system::system_error&) {
    GTEST_SKIP() << "SKIPPED: this host has no IPv6 loopback";
  }
  EXPECT_EQ(probe().outcome, ProbeOutcome::success);
}

TEST_F(Probe, AClosedPortIsRefused) {
  for (const CheckKind kind : {CheckKind::tcp, CheckKind::mysql}) {
    serve(stays_silent());
    server_->close();
    request_.kind = kind;
    const ProbeResult result = probe();
    EXPECT_EQ(result.outcome, ProbeOutcome::refused);
    EXPECT_EQ(result.reason, "connection refused");
  }
}

TEST_F(Probe, AConnectionThatIsNotAnsweredTimesOut) {
  // A listener whose backlog is full lets SYNs go unanswered.
  fake::tcp::acceptor full(io_, fake::tcp::endpoint(fake::asio::ip::make_address("127.0.0.1"), 0));
  full.listen(0);
  std::vector<fake::tcp::socket> waiting;
  for (int i = 0; i < 4; ++i) {
    fake::tcp::socket& socket = waiting.emplace_back(io_);
    socket.open(fake::tcp::v4());
    socket.async_connect(full.local_endpoint(), [](const boost::system::error_code&) {});
  }
  io_.run_for(50ms);
  request_.target = {*Address::parse("127.0.0.1"), full.local_endpoint().port()};
  request_.timeout = 100ms;
  const ProbeResult result = probe();
  EXPECT_EQ(result.outcome, ProbeOutcome::timeout);
  EXPECT_EQ(result.reason, "no answer within 100 ms");
}

TEST(ProbeWithoutNetwork, IsUnreachable) {
  ProbeResult result;
  bool separated = false;
  std::thread([&] {  // a thread may leave the network namespace alone
    separated = unshare(CLONE_NEWNET) == 0;
    if (!separated) return;
    fake::asio::io_context io;
    Prober prober(io);
    ProbeRequest request;
    request.target = {*Address::parse("198.18.0.1"), 80};
    result = run_probe(io, prober, request);
  })
      .join();
  if (!separated) GTEST_SKIP() << "SKIPPED: not permitted to make a network namespace";
  EXPECT_EQ(result.outcome, ProbeOutcome::unreachable);
  EXPECT_EQ(result.reason, "network unreachable");
}

TEST_F(Probe, MysqlWithoutCredentialsTakesARefusedLoginForLife) {
  for (const uint16_t code : {uint16_t{1044}, uint16_t{1045}, uint16_t{1698}}) {
    serve(greets_and_answers(fake::error_payload(code, "Access denied for user 'portico'")));
    EXPECT_EQ(probe_mysql().outcome, ProbeOutcome::success) << code;
  }
}

TEST_F(Probe, MysqlWithoutCredentialsLogsInWithoutPassword) {
  serve(greets_and_answers(fake::error_payload(1045, "no"), &seen_));
  probe_mysql();
  ASSERT_EQ(seen_.size(), 1u);
  EXPECT_NE(seen_[0].find("portico\0\0"s), std::string::npos);
}

TEST_F(Probe, MysqlWithCredentialsFailsOnARefusedLogin) {
  serve(greets_and_answers(fake::error_payload(1045, "Access denied for user 'check'")));
  const ProbeResult result = probe_mysql("check", "secret");
  EXPECT_EQ(result.outcome, ProbeOutcome::failure);
  EXPECT_EQ(result.reason, "\"Access denied for user 'check'\"");
}

TEST_F(Probe, MysqlWithCredentialsLogsInAndQuits) {
  serve(greets_and_answers(fake::ok_payload(), &seen_));
  EXPECT_EQ(probe_mysql("check", "secret").outcome, ProbeOutcome::success);
  run_until(io_, [&] { return seen_.size() == 2; });
  const std::string scramble = mysql_native_scramble("secret", fake::kNonce);
  EXPECT_NE(seen_[0].find("check\0\x14"s + scramble + "mysql_native_password\0"s), std::string::npos);
  EXPECT_EQ(seen_[1], "\x01");
}

TEST_F(Probe, MysqlFollowsAnAuthenticationSwitchToTheNativePlugin) {
  const std::string other_nonce = "ABCDEFGHIJKLMNOPQRST";
  serve([&](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    co_await peer->receive_packet();
    co_await peer->send(fake::packet(2,
                                     "\xfe"s
                                     "mysql_native_password\0"s +
                                         other_nonce + "\0"s));
    answer_ = co_await peer->receive_packet();
    co_await peer->send(fake::packet(4, fake::ok_payload()));
    co_await peer->wait_for_end();
  });
  EXPECT_EQ(probe_mysql("check", "secret").outcome, ProbeOutcome::success);
  EXPECT_EQ(answer_, mysql_native_scramble("secret", other_nonce));
}

TEST_F(Probe, MysqlNamesTheLoginPluginItDoesNotSpeak) {
  const auto script = [](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    co_await peer->receive_packet();
    co_await peer->send(fake::packet(2,
                                     "\xfe"s
                                     "client_ed25519\0"s +
                                         std::string(32, 'n')));
    co_await peer->receive_packet();
    co_await peer->send(fake::packet(4, fake::error_payload(1045, "Access denied")));
    co_await peer->wait_for_end();
  };
  serve(script);
  const ProbeResult result = probe_mysql("check", "secret");
  EXPECT_EQ(result.outcome, ProbeOutcome::failure);
  EXPECT_EQ(result.reason,
            "\"Access denied\" (the check logs in by mysql_native_password, this account by client_ed25519)");
  serve(script);
  EXPECT_EQ(probe_mysql().outcome, ProbeOutcome::success);
}

TEST_F(Probe, MysqlTakesAnErrorInsteadOfAGreetingForItsReason) {
  serve(sends(fake::packet(0, fake::error_payload(1040, "Too many connections", false))));
  expect_failure("\"Too many connections\"");
  const std::string blocked = "Host 'edge-1' is blocked because of many connection errors";
  serve(sends(fake::packet(0, fake::error_payload(1129, blocked, false))));
  expect_failure("\"" + blocked + "\"");
  // Access denied before the login is no refused login.
  serve(sends(fake::packet(0, fake::error_payload(1045, "No", false))));
  expect_failure("\"No\"");
}

TEST_F(Probe, MysqlFailsOnAnErrorThatIsNoRefusal) {
  serve(greets_and_answers(fake::error_payload(1053, "Server shutdown in progress")));
  expect_failure("\"Server shutdown in progress\"");
}

TEST_F(Probe, MysqlErrorTextsAreMadePrintable) {
  serve(sends(fake::packet(0, fake::error_payload(1040, "a\x1b[2J\nb\xff" + std::string(300, 'x'), false))));
  expect_failure("\"a?[2J?b?" + std::string(192, 'x') + "\"");
}

TEST_F(Probe, MysqlFailsOnSilence) {
  serve(stays_silent());
  request_.timeout = 50ms;
  expect_failure("connected, but no greeting within 50 ms");
}

TEST_F(Probe, MysqlFailsOnSilenceAfterTheLogin) {
  serve(sends(fake::packet(0, fake::greeting_payload())));
  request_.timeout = 100ms;
  expect_failure("no answer to the login within 100 ms");
}

TEST_F(Probe, MysqlFailsOnASlowDrip) {
  serve([](PeerPtr peer) -> awaitable<void> {
    for (const char byte : fake::packet(0, fake::greeting_payload())) {
      co_await peer->send(std::string(1, byte));
      co_await peer->sleep(10ms);
    }
  });
  request_.timeout = 100ms;
  expect_failure("connected, but no greeting within 100 ms");
}

TEST_F(Probe, MysqlFailsOnAnEarlyEnd) {
  serve([](PeerPtr) -> awaitable<void> { co_return; });
  expect_failure("closed the connection before its greeting");
  serve([](PeerPtr peer) -> awaitable<void> {
    peer->reset();
    co_return;
  });
  expect_failure("reset the connection before its greeting");
  serve([](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    co_await peer->receive_packet();
  });
  expect_failure("closed the connection during the login");
  serve([](PeerPtr peer) -> awaitable<void> { co_await peer->send("\x40\0\0\0\x0a"s); });
  expect_failure("closed the connection before its greeting");
}

TEST_F(Probe, MysqlFailsOnAnotherProtocol) {
  const std::string no_packet = "what it sends before its greeting is no MySQL packet";
  serve(sends("HTTP/1.1 400 Bad Request\r\n\r\n"));
  expect_failure(no_packet);
  serve(sends("SSH-2.0-OpenSSH_9.2\r\n"));
  expect_failure(no_packet);
  serve(sends("\xff\xff\xff\0"s));
  expect_failure(no_packet);
  serve(sends(fake::packet(0,
                           "\x09"
                           "3.23.58\0"s)));
  expect_failure("what it sends first is no MySQL greeting");
  serve(sends(fake::packet(0, "")));
  expect_failure("what it sends first is no MySQL greeting");
}

TEST_F(Probe, MysqlEndsADialogueThatDoesNot) {
  serve([](PeerPtr peer) -> awaitable<void> {
    co_await peer->send(fake::packet(0, fake::greeting_payload()));
    while (!peer->ended()) {
      co_await peer->receive_packet();
      co_await peer->send(fake::packet(2, "\x01\x04"));
    }
  });
  expect_failure("its login dialogue does not end");
}

TEST_F(Probe, ALateMysqlLoginIsFinishedNotBrokenOff) {
  serve([&](PeerPtr peer) -> awaitable<void> {
    while (!awake_) co_await peer->sleep(5ms);
    co_await greets_and_answers(fake::ok_payload(), &seen_)(peer);
  });
  request_.timeout = 50ms;
  for (int i = 0; i < 3; ++i) {
    const ProbeResult result = probe_mysql("check", "secret");
    EXPECT_EQ(result.reason, "connected, but no greeting within 50 ms");
  }
  EXPECT_EQ(server_->connections(), 1) << "one connection waits, not one per probe";
  awake_ = true;
  run_until(io_, [&] { return seen_.size() == 2; });
  EXPECT_EQ(seen_[1], "\x01") << "the late login ended with COM_QUIT";
  request_.timeout = 5000ms;
  EXPECT_EQ(probe_mysql("check", "secret").outcome, ProbeOutcome::success);
  EXPECT_EQ(server_->connections(), 2);
}

TEST_F(Probe, CancelEndsAProbeUnderWay) {
  serve(stays_silent());
  request_.kind = CheckKind::mysql;
  fake::asio::steady_timer timer(io_, 20ms);
  timer.async_wait([&](const boost::system::error_code&) { prober_.cancel(); });
  EXPECT_EQ(probe().outcome, ProbeOutcome::inconclusive);
}

std::span<const uint8_t> bytes_of(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Computed apart from this code: Python's hashlib, by the formula of the protocol's documentation.
TEST(MysqlProtocol, ScramblesPasswords) {
  EXPECT_EQ(mysql_native_scramble("", fake::kNonce), "");
  const std::string scramble = mysql_native_scramble("secret", fake::kNonce);
  std::string hex;
  for (const char c : scramble) {
    static constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[static_cast<uint8_t>(c) >> 4];
    hex += kDigits[c & 15];
  }
  EXPECT_EQ(hex, "8817c50fa779daef010ee7577825b0847df9842e");
}

TEST(MysqlProtocol, ReadsAGreeting) {
  const std::string payload = fake::greeting_payload();
  const MysqlFirstPacket first = parse_mysql_greeting(bytes_of(payload));
  ASSERT_TRUE(std::holds_alternative<MysqlGreeting>(first));
  EXPECT_EQ(std::get<MysqlGreeting>(first).version, "5.5.5-10.11.6-MariaDB");
  EXPECT_EQ(std::get<MysqlGreeting>(first).nonce, fake::kNonce);
}

TEST(MysqlProtocol, EveryPrefixOfAGreetingIsRefusedOrWhole) {
  const std::string whole = fake::greeting_payload();
  const size_t needed = whole.find("\0mysql_native_password"s);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    EXPECT_EQ(std::holds_alternative<MysqlGreeting>(parse_mysql_greeting(bytes_of(cut))), size >= needed)
        << size;
  }
}

TEST(MysqlProtocol, ReadsAnythingWithoutHarm) {
  std::mt19937 random(1045);
  for (int trial = 0; trial < 20000; ++trial) {
    std::string payload = trial % 2 ? fake::greeting_payload() : fake::error_payload(1045, "Access denied");
    payload.resize(random() % (payload.size() + 1));
    for (int i = 0; i < 3 && !payload.empty(); ++i)
      payload[random() % payload.size()] = static_cast<char>(random());
    const MysqlFirstPacket first = parse_mysql_greeting(bytes_of(payload));
    if (const auto* error = std::get_if<MysqlError>(&first)) {
      EXPECT_LE(error->text.size(), 200u);
    }
    if (const auto* greeting = std::get_if<MysqlGreeting>(&first)) {
      EXPECT_EQ(greeting->nonce.size(), 20u);
    }
    const MysqlLoginReply reply = parse_mysql_login_reply(bytes_of(payload));
    if (const auto* error = std::get_if<MysqlError>(&reply)) {
      EXPECT_LE(error->text.size(), 200u);
    }
  }
}

}  // namespace
}  // namespace portico
