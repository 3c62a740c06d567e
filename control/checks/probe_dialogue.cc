// SPDX-License-Identifier: Apache-2.0
// Probes that send something and judge the answer. What they read is bounded, whatever the server sends.
#include "control/checks/probe_session.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <limits>

#include "control/checks/tls_context.h"
#include "control/config_names.h"
#include "control/printable.h"

namespace portico {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

// The pattern is tried at each piece that comes, so that this many pieces cost little.
constexpr size_t kMaxExpected = 4096;
constexpr size_t kMaxHttpHeader = 16384;
constexpr size_t kMaxHttpBody = 65536;
constexpr size_t kShownBytes = 80;  // of an answer, in a reason
constexpr uint16_t kHttpPort = 80, kHttpsPort = 443;

// The beginning of what a server said, for a person.
std::string shown(std::string_view text) {
  const bool is_cut = text.size() > kShownBytes;
  return fmt::format("\"{}{}\"", to_printable(text.substr(0, kShownBytes)), is_cut ? "..." : "");
}

bool matches(const re2::RE2& pattern, std::string_view text) {
  return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), pattern);
}

}  // namespace

asio::awaitable<void> ProbeSession::run_exchange() {
  stage_ = Stage::answer;
  error_code error;
  if (!request_.dialogue.send.empty()) {
    co_await asio::async_write(socket_, asio::buffer(request_.dialogue.send),
                               asio::redirect_error(asio::use_awaitable, error));
    if (error) decide_by(error, "before its answer");
  }
  std::string answer(kMaxExpected, '\0');
  size_t size = 0;
  while (!has_verdict_) {
    const size_t got =
        co_await socket_.async_read_some(asio::buffer(answer.data() + size, answer.size() - size),
                                         asio::redirect_error(asio::use_awaitable, error));
    size += got;
    const std::string_view all(answer.data(), size);
    if (!error && matches(*request_.pattern, all)) {
      decide(ProbeOutcome::success);
    } else if (size == answer.size() || (error == asio::error::eof && size > 0)) {
      decide(ProbeOutcome::failure, "not the expected answer, but " + shown(all));
    } else if (error) {
      decide_by(error, "before its answer");
    }
  }
}

asio::awaitable<void> ProbeSession::run_tls() {
  stage_ = Stage::handshake;
  asio::ssl::stream<asio::ip::tcp::socket&> stream(socket_, *request_.tls);
  prepare_tls(stream.native_handle(), request_.sni);
  error_code error;
  co_await stream.async_handshake(asio::ssl::stream_base::client,
                                  asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    decide_by(error, "in the TLS handshake");
    co_return;
  }
  if (has_verdict_) co_return;
  const TlsVerdict verdict = judge_tls(stream.native_handle(), request_.verify);
  verdict_.certificate_expires_s = verdict.expires_s;
  if (!verdict.problem.empty())
    decide(ProbeOutcome::failure, verdict.problem);
  else if (request_.kind == CheckKind::tls)
    decide(ProbeOutcome::success);
  else
    co_await run_http(stream);
}

std::string ProbeSession::http_request() const {
  const Endpoint& target = request_.target;
  std::string host = request_.dialogue.host;
  if (host.empty()) {
    const std::string address = to_string(target.address);
    host = target.address.is_v4() ? address : "[" + address + "]";
    if (target.port != (request_.kind == CheckKind::https ? kHttpsPort : kHttpPort))
      host += fmt::format(":{}", target.port);
  }
  return fmt::format(
      "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portico\r\nAccept: */*\r\nConnection: close\r\n\r\n",
      to_word(request_.dialogue.method), request_.dialogue.path, host);
}

void ProbeSession::judge_status(unsigned status, std::string_view reason) {
  for (const StatusRange& range : request_.dialogue.status)
    if (status >= range.first && status <= range.last) return;
  decide(ProbeOutcome::failure, fmt::format("status {}{}{}", status, reason.empty() ? "" : " ",
                                            reason.empty() ? "" : shown(reason)));
}

template <typename Stream>
asio::awaitable<void> ProbeSession::run_http(Stream& stream) {
  stage_ = Stage::answer;
  error_code error;
  const std::string request = http_request();
  co_await asio::async_write(stream, asio::buffer(request), asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    decide_by(error, "before its answer");
    co_return;
  }
  boost::beast::flat_buffer buffer(kMaxHttpHeader + kMaxHttpBody);
  http::response_parser<http::buffer_body> parser;
  parser.header_limit(kMaxHttpHeader);
  parser.body_limit(std::numeric_limits<uint64_t>::max());
  parser.skip(request_.dialogue.method == HttpMethod::head);
  co_await http::async_read_header(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error == http::error::end_of_stream) {
    decide(ProbeOutcome::failure, "closed the connection before its answer");
  } else if (error.category() == http::make_error_code(http::error::bad_version).category()) {
    decide(ProbeOutcome::failure, "what it answers is no HTTP: " + error.message());
  } else if (error) {
    decide_by(error, "before its answer");
  } else {
    judge_status(parser.get().result_int(), {parser.get().reason().data(), parser.get().reason().size()});
  }
  if (has_verdict_) co_return;
  if (!request_.pattern) {
    decide(ProbeOutcome::success);
    co_return;
  }
  std::string body(kMaxHttpBody, '\0');
  parser.get().body().data = body.data();
  parser.get().body().size = body.size();
  parser.get().body().more = false;
  co_await http::async_read(stream, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  body.resize(body.size() - parser.get().body().size);
  if (matches(*request_.pattern, body))
    decide(ProbeOutcome::success);
  else if (error && error != http::error::need_buffer)
    decide(ProbeOutcome::failure, fmt::format("its answer broke off: {}", error.message()));
  else
    decide(ProbeOutcome::failure, "not the expected body, but " + shown(body));
}

template asio::awaitable<void> ProbeSession::run_http(asio::ip::tcp::socket& stream);

}  // namespace portico
