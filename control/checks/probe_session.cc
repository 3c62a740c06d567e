// SPDX-License-Identifier: Apache-2.0
#include "control/checks/probe_session.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "contract/proxy_header.h"

namespace portico {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;
namespace errc = boost::system::errc;

// A server that has been sent COM_QUIT, or has refused a login, closes; so long it may take.
constexpr std::chrono::seconds kQuitLimit{1};
// A login takes one round, an authentication switch two; a server that asks for more is not served.
constexpr int kMaxLoginRounds = 4;
constexpr const char* kInLogin = "during the login";

tcp::endpoint to_asio(const Address& address, uint16_t port) {
  if (address.is_v4()) return {asio::ip::address_v4(ntohl(address.v4())), port};
  return {asio::ip::address_v6(address.bytes), port};
}

// What an error of connect(2), bind(2) or socket(2) says of the target.
ProbeOutcome outcome_of(const error_code& error) {
  switch (error.value()) {
    case ECONNREFUSED:
      return ProbeOutcome::refused;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
      return ProbeOutcome::unreachable;
    case ETIMEDOUT:
      return ProbeOutcome::timeout;
    case EMFILE:  // these are this host's own troubles
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case EADDRINUSE:
    case EAFNOSUPPORT:
    case EACCES:
    case EPERM:
    case ECANCELED:
      return ProbeOutcome::inconclusive;
    default:
      return ProbeOutcome::failure;
  }
}

std::string reason_of(const error_code& error) {
  switch (error.value()) {
    case ECONNREFUSED:
      return "connection refused";
    case EHOSTUNREACH:
    case EHOSTDOWN:
      return "host unreachable";
    case ENETUNREACH:
    case ENETDOWN:
      return "network unreachable";
    default:
      break;
  }
  const std::string text = error.message();
  return outcome_of(error) == ProbeOutcome::inconclusive ? "cannot probe: " + text : text;
}

}  // namespace

ProbeSession::ProbeSession(asio::io_context& io, ProbeRequest request)
    : request_(std::move(request)),
      socket_(io),
      verdict_timer_(io),
      close_timer_(io),
      started_(Clock::now()) {}

void ProbeSession::start() {
  close_after(std::max<Clock::duration>(kLateLoginLimit, request_.timeout));
  asio::co_spawn(
      socket_.get_executor(), [self = shared_from_this()] { return self->run(); }, asio::detached);
}

asio::awaitable<bool> ProbeSession::wait_for_verdict(Clock::time_point until) {
  if (has_verdict_) co_return true;
  error_code cancelled;
  verdict_timer_.expires_at(until);
  co_await verdict_timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  co_return has_verdict_;
}

// Whether the target has not answered the connection attempt. Asks the kernel: where this thread is late, the
// answer may have come without its knowing.
bool ProbeSession::is_waiting_for_target() {
  if (stage_ != Stage::connecting) return false;
  if (!socket_.is_open()) return true;  // run() has not begun
  pollfd connection{.fd = socket_.native_handle(), .events = POLLOUT, .revents = 0};
  return poll(&connection, 1, 0) == 0;
}

ProbeSession::Clock::time_point ProbeSession::deadline() {
  const bool is_limited = request_.connect_limit && *request_.connect_limit < request_.timeout;
  return started_ + (is_limited && is_waiting_for_target() ? *request_.connect_limit : request_.timeout);
}

asio::awaitable<bool> ProbeSession::wait_for_verdict() {
  while (!has_verdict_ && Clock::now() < deadline()) co_await wait_for_verdict(deadline());
  co_return has_verdict_;
}

void ProbeSession::hurry(Milliseconds connect_limit) {
  if (stage_ != Stage::connecting) return;
  request_.connect_limit = std::min(connect_limit, request_.connect_limit.value_or(connect_limit));
  verdict_timer_.cancel();
}

ProbeResult ProbeSession::late_verdict() const {
  ProbeResult late{ProbeOutcome::failure, {}, 0};
  const long long limit_ms = request_.timeout.count();
  if (stage_ == Stage::connecting) {
    late.outcome = ProbeOutcome::timeout;
    late.reason =
        fmt::format("no answer within {} ms",
                    std::min(request_.timeout, request_.connect_limit.value_or(request_.timeout)).count());
  } else if (stage_ == Stage::greeting) {
    late.reason = fmt::format("connected, but no greeting within {} ms", limit_ms);
  } else if (stage_ == Stage::handshake) {
    late.reason = fmt::format("connected, but no TLS handshake within {} ms", limit_ms);
  } else if (stage_ == Stage::answer) {
    late.reason = fmt::format("connected, but no whole answer within {} ms", limit_ms);
  } else {
    late.reason = fmt::format("no answer to the login within {} ms", limit_ms);
  }
  late.unanswered = true;
  late.latency_us = microseconds_since_start();
  late.connect_us = verdict_.connect_us;
  return late;
}

uint32_t ProbeSession::microseconds_since_start() const {
  return static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - started_).count());
}

void ProbeSession::close() {
  error_code ignored;
  socket_.close(ignored);
  close_timer_.cancel();
  if (!has_verdict_) decide(ProbeOutcome::inconclusive, "cancelled");
}

void ProbeSession::close_after(Clock::duration delay) {
  close_timer_.expires_after(delay);
  close_timer_.async_wait([weak = weak_from_this()](const error_code& cancelled) {
    if (cancelled) return;
    error_code ignored;
    if (const auto self = weak.lock()) self->socket_.close(ignored);
  });
}

void ProbeSession::decide(ProbeOutcome outcome, std::string reason) {
  if (has_verdict_) return;
  has_verdict_ = true;
  verdict_.outcome = outcome;
  verdict_.reason = std::move(reason);
  verdict_.latency_us = microseconds_since_start();
  verdict_timer_.cancel();
}

void ProbeSession::decide_by(const error_code& error, const char* while_doing) {
  if (!has_verdict_) verdict_.unanswered = is_silence(outcome_of(error));
  if (error == asio::error::eof || error == errc::broken_pipe)
    decide(ProbeOutcome::failure, fmt::format("closed the connection {}", while_doing));
  else if (error == errc::connection_reset)
    decide(ProbeOutcome::failure, fmt::format("reset the connection {}", while_doing));
  else
    decide(ProbeOutcome::failure, fmt::format("{} {}", error.message(), while_doing));
}

bool ProbeSession::open(error_code& error) {
  const tcp::endpoint target = to_asio(request_.target.address, request_.target.port);
  if (socket_.open(target.protocol(), error)) return false;
  if (socket_.set_option(tcp::no_delay(true), error)) return false;
  // RST instead of FIN: nothing stays in TIME_WAIT on either side however often the check runs. MySQL counts
  // it.
  if (request_.kind != CheckKind::mysql && socket_.set_option(asio::socket_base::linger(true, 0), error))
    return false;
  const auto& source = request_.target.address.is_v4() ? request_.source_v4 : request_.source_v6;
  if (!source) return true;
  // The kernel chooses the port when it knows the target: one port serves many.
  using BindAddressNoPort = asio::detail::socket_option::boolean<IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT>;
  if (socket_.set_option(BindAddressNoPort(true), error)) return false;
  return !socket_.bind(to_asio(*source, 0), error);
}

asio::awaitable<void> ProbeSession::run() {
  error_code error;
  if (!request_.problem.empty()) decide(ProbeOutcome::inconclusive, "cannot probe: " + request_.problem);
  if (!has_verdict_ && open(error)) {
    const tcp::endpoint target = to_asio(request_.target.address, request_.target.port);
    co_await socket_.async_connect(target, asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) {
    verdict_.unanswered = is_silence(outcome_of(error));
    decide(outcome_of(error), reason_of(error));
  } else {
    verdict_.connect_us = microseconds_since_start();
    const bool introduced = co_await introduce();
    if (introduced) co_await run_dialogue();
  }
  stage_ = Stage::over;
  socket_.close(error);
  close_timer_.cancel();
}

asio::awaitable<bool> ProbeSession::introduce() {
  if (has_verdict_ || request_.proxy_protocol == ProxyProtocol::none) co_return true;
  const bool sent = co_await write(std::string(kProxyLocalHeader.begin(), kProxyLocalHeader.end()),
                                   "at the PROXY protocol's header");
  co_return sent;
}

asio::awaitable<void> ProbeSession::run_dialogue() {
  if (has_verdict_) co_return;
  switch (request_.kind) {
    case CheckKind::tcp:
      if (request_.pattern)
        co_await run_exchange();
      else
        decide(ProbeOutcome::success);
      break;
    case CheckKind::mysql:
      co_await run_mysql();
      break;
    case CheckKind::http:
      co_await run_http(socket_);
      break;
    case CheckKind::https:
    case CheckKind::tls:
      co_await run_tls();
      break;
  }
}

asio::awaitable<void> ProbeSession::run_mysql() {
  stage_ = Stage::greeting;
  const bool arrived = co_await read_packet();
  if (!arrived) co_return;
  MysqlFirstPacket first = parse_mysql_greeting(payload_);
  if (const auto* error = std::get_if<MysqlError>(&first))
    judge_error(*error, {});
  else if (const auto* malformed = std::get_if<MysqlMalformed>(&first))
    decide(ProbeOutcome::failure, malformed->text);
  else
    co_await answer_login_dialogue(std::get<MysqlGreeting>(std::move(first)));
}

asio::awaitable<void> ProbeSession::answer_login_dialogue(MysqlGreeting greeting) {
  stage_ = Stage::login;
  std::string answer = mysql_login_packet(greeting, request_.user.empty() ? "portico" : request_.user,
                                          request_.user.empty() ? "" : request_.password);
  std::string unsupported_plugin;
  for (int round = 0; round < kMaxLoginRounds; ++round) {
    const bool sent = co_await write(std::move(answer), kInLogin);
    if (!sent) co_return;
    const bool arrived = co_await read_packet();
    if (!arrived) co_return;
    const MysqlLoginReply reply = parse_mysql_login_reply(payload_);
    if (std::holds_alternative<MysqlOk>(reply)) {
      decide(ProbeOutcome::success);
      co_await quit();
      co_return;
    }
    if (const auto* error = std::get_if<MysqlError>(&reply)) {
      judge_error(*error, unsupported_plugin);
      co_await wait_for_end();
      co_return;
    }
    if (const auto* malformed = std::get_if<MysqlMalformed>(&reply)) {
      decide(ProbeOutcome::failure, malformed->text);
      co_return;
    }
    std::string scramble;  // empty for plugins not spoken here: the server then refuses in good order
    if (const auto* wanted = std::get_if<MysqlAuthSwitch>(&reply)) {
      if (wanted->plugin != "mysql_native_password")
        unsupported_plugin = wanted->plugin;
      else if (!request_.user.empty())
        scramble = mysql_native_scramble(request_.password, wanted->nonce);
    }
    answer = mysql_packet(static_cast<uint8_t>(sequence_ + 1), scramble);
  }
  decide(ProbeOutcome::failure, "its login dialogue does not end");
}

// Without credentials a refused login is what a living server answers.
void ProbeSession::judge_error(const MysqlError& error, const std::string& unsupported_plugin) {
  if (stage_ == Stage::login && request_.user.empty() && is_mysql_login_refusal(error.code)) {
    decide(ProbeOutcome::success);
    return;
  }
  std::string reason = fmt::format("\"{}\"", error.text);
  if (!unsupported_plugin.empty() && is_mysql_login_refusal(error.code))
    reason +=
        fmt::format(" (the check logs in by mysql_native_password, this account by {})", unsupported_plugin);
  decide(ProbeOutcome::failure, std::move(reason));
}

asio::awaitable<bool> ProbeSession::read_packet() {
  const char* const where = stage_ == Stage::greeting ? "before its greeting" : kInLogin;
  error_code error;
  std::array<uint8_t, kMysqlHeaderSize> bytes;
  co_await asio::async_read(socket_, asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
  if (!error) {
    const MysqlHeader header = parse_mysql_header(bytes);
    sequence_ = header.sequence;
    if (header.length > kMysqlMaxPayload) {
      decide(ProbeOutcome::failure, fmt::format("what it sends {} is no MySQL packet", where));
      co_return false;
    }
    payload_.resize(header.length);
    co_await asio::async_read(socket_, asio::buffer(payload_),
                              asio::redirect_error(asio::use_awaitable, error));
  }
  if (error) decide_by(error, where);
  co_return !error;
}

asio::awaitable<bool> ProbeSession::write(std::string packet, const char* while_doing) {
  error_code error;
  co_await asio::async_write(socket_, asio::buffer(packet), asio::redirect_error(asio::use_awaitable, error));
  if (error) decide_by(error, while_doing);
  co_return !error;
}

asio::awaitable<void> ProbeSession::quit() {
  std::string packet = mysql_quit_packet();
  const bool sent = co_await write(std::move(packet), kInLogin);
  if (sent) co_await wait_for_end();
}

// The server closes first, so that TIME_WAIT is its own; an open end here would count as an aborted client.
asio::awaitable<void> ProbeSession::wait_for_end() {
  stage_ = Stage::over;
  close_after(kQuitLimit);
  error_code error;
  uint8_t ignored;
  while (!error)
    co_await socket_.async_read_some(asio::buffer(&ignored, 1),
                                     asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace portico
