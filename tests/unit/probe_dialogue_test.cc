// SPDX-License-Identifier: Apache-2.0
// Probes that send something and judge the answer.
#include <random>

#include "control/printable.h"
#include "tests/support/probe_fixture.h"

namespace portico {
namespace {

using namespace std::string_literals;
using fake::asio::awaitable;
using PeerPtr = std::shared_ptr<fake::Peer>;

class Dialogue : public Probe {
 protected:
  // A server that reads what it is asked until an empty line, answers, and closes.
  void answer_with(std::string answer) {
    serve([this, answer = std::move(answer)](PeerPtr peer) -> awaitable<void> {
      std::string asked;
      while (!asked.ends_with("\r\n\r\n") && !peer->ended()) asked += co_await peer->receive(1);
      seen_.push_back(asked);
      co_await peer->send(answer);
    });
  }
  ProbeResult ask(CheckConfig check) {
    check.timeout = 5000ms;
    request_ = make_request(check, server_->endpoint());
    return probe();
  }
  void expect(const CheckConfig& check, ProbeOutcome outcome, const std::string& reason = {}) {
    const ProbeResult result = ask(check);
    EXPECT_EQ(result.outcome, outcome) << result.reason;
    EXPECT_EQ(result.reason, reason);
  }
  static CheckConfig http() {
    CheckConfig check;
    check.kind = CheckKind::http;
    check.dialogue.status = {{200, 299}, {304, 304}};
    return check;
  }
  static CheckConfig http(const std::string& body) {
    CheckConfig check = http();
    check.dialogue.pattern = body;
    return check;
  }
};

TEST_F(Dialogue, TcpSendsAndExpects) {
  CheckConfig check;
  check.dialogue.send = "PING\r\n\r\n";
  check.dialogue.pattern = "^\\+PONG";
  answer_with("+PONG\r\n");
  expect(check, ProbeOutcome::success);
  EXPECT_EQ(seen_.at(0), "PING\r\n\r\n");
  answer_with("-LOADING\r\n");
  expect(check, ProbeOutcome::failure, R"(not the expected answer, but "-LOADING\x0d\x0a")");
  answer_with("");
  expect(check, ProbeOutcome::failure, "closed the connection before its answer");
  answer_with(std::string(1 << 20, 'x'));  // more than anybody reads
  expect(check, ProbeOutcome::failure, "not the expected answer, but \"" + std::string(80, 'x') + "...\"");
}

TEST_F(Dialogue, HttpAsksForWhatIsConfigured) {
  answer_with("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CheckConfig check = http();
  check.dialogue.path = "/health?full=1";
  check.dialogue.host = "portal.example.com";
  check.dialogue.method = HttpMethod::head;
  expect(check, ProbeOutcome::success);
  EXPECT_EQ(seen_.at(0),
            "HEAD /health?full=1 HTTP/1.1\r\nHost: portal.example.com\r\nUser-Agent: portico\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n");
}

TEST_F(Dialogue, HttpJudgesTheStatus) {
  answer_with("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  expect(http(), ProbeOutcome::failure, "status 503 \"Service Unavailable\"");
  answer_with("HTTP/1.0 304 \r\n\r\n");
  expect(http(), ProbeOutcome::success);
  answer_with("HTTP/1.1 300 \x1b[31mred\r\n\r\n");
  EXPECT_EQ(ask(http()).outcome, ProbeOutcome::failure);
}

TEST_F(Dialogue, HttpJudgesTheBody) {
  answer_with(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nalw\r\n5\r\nays o\r\n1\r\nk\r\n0\r\n\r\n");
  expect(http("always ok"), ProbeOutcome::success);
  expect(http("(?i)maintenance"), ProbeOutcome::failure, "not the expected body, but \"always ok\"");
  answer_with("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
  expect(http("whole"), ProbeOutcome::failure, "its answer broke off: partial message");
}

TEST_F(Dialogue, HttpReadsNoMoreThanIsBounded) {
  const std::string endless(1 << 20, 'x');
  answer_with("HTTP/1.1 200 OK\r\n\r\n" + endless + "ok");
  EXPECT_EQ(ask(http("ok")).outcome, ProbeOutcome::failure);
  answer_with("HTTP/1.1 200 OK\r\nX: " + endless);
  EXPECT_EQ(ask(http()).outcome, ProbeOutcome::failure);
  answer_with("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nok");
  EXPECT_EQ(ask(http()).outcome, ProbeOutcome::success);
}

TEST_F(Dialogue, HttpIsNotWaitedForLongerThanItsTimeout) {
  serve([](PeerPtr peer) -> awaitable<void> {
    co_await peer->send("HTTP/1.1 200 OK\r\n");
    co_await peer->wait_for_end();
  });
  request_ = make_request(http(), server_->endpoint());
  request_.timeout = 100ms;
  EXPECT_EQ(probe().reason, "connected, but no whole answer within 100 ms");
}

// Mutations of good answers, and noise: always a verdict, and a reason that terminals can show.
TEST_F(Dialogue, HostileAnswersGetAVerdict) {
  std::mt19937 random(1);
  const std::string good =
      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
  std::string answer;
  serve([&answer](PeerPtr peer) -> awaitable<void> { co_await peer->send(answer); });
  for (int i = 0; i < 300; ++i) {
    answer = good.substr(0, random() % (good.size() + 1));
    for (size_t changes = random() % 8; changes > 0 && !answer.empty(); --changes)
      answer[random() % answer.size()] = static_cast<char>(random());
    const ProbeResult result = ask(i % 2 == 0 ? http("ok") : http());
    EXPECT_NE(result.outcome, ProbeOutcome::inconclusive);
    EXPECT_TRUE(is_printable(result.reason)) << result.reason;
    EXPECT_LE(result.reason.size(), 512u);
  }
}

TEST_F(Dialogue, ComesFromItsSource) {
  answer_with("HTTP/1.1 200 OK\r\n\r\n");
  CheckConfig check = http();
  check.source_v4 = Address::parse("127.0.0.9");
  EXPECT_EQ(ask(check).outcome, ProbeOutcome::success);
  check.source_v4 = Address::parse("192.0.2.9");
  expect(check, ProbeOutcome::inconclusive, "cannot probe: Cannot assign requested address");
}

}  // namespace
}  // namespace portico
