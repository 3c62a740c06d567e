// SPDX-License-Identifier: Apache-2.0
#include "control/cli/client.h"

#include <fmt/format.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

namespace portico::cli {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using boost::system::error_code;
using Stream = beast::basic_stream<asio::local::stream_protocol>;

// A status answer of 4,096 backends is about 4 MiB.
constexpr uint64_t kMaxAnswerBytes = 64u << 20;

// Starts an operation and runs it to its end: synchronous calls would know no timeout.
template <typename Start>
error_code complete(asio::io_context& io, Start start) {
  error_code result = asio::error::would_block;
  start([&result](error_code error, auto&&...) { result = error; });
  io.restart();
  io.run();
  return result;
}

ApiReply not_reached(const std::string& path, const error_code& error) {
  ApiReply reply;
  if (error == beast::error::timeout) {
    reply.problem = fmt::format("control does not answer on {}", path);
    reply.remedy = "it hangs or is stopped: look at its log, restart it; forwarding does not depend on it";
  } else if (error == asio::error::access_denied) {
    reply.problem = fmt::format("no permission to open {}", path);
    reply.remedy = "run this as root, or as a member of the socket's group";
  } else {
    reply.problem = fmt::format("control is not running: {}: {}", path, error.message());
    reply.remedy =
        "start portico-control, or name its run directory with --run-dir; forwarding does not depend on it";
  }
  return reply;
}

}  // namespace

ApiReply ApiClient::ask(const char* method, const std::string& target, const std::string& body) const {
  asio::io_context io;
  Stream stream(io);
  stream.expires_after(timeout_);
  // A path longer than sockaddr_un holds.
  if (socket_path_.size() >= 108) return not_reached(socket_path_, asio::error::name_too_long);
  const asio::local::stream_protocol::endpoint endpoint(socket_path_);
  error_code error = complete(io, [&](auto done) { stream.async_connect(endpoint, done); });
  if (error) return not_reached(socket_path_, error);

  http::request<http::string_body> request(http::string_to_verb(method), target, 11);
  request.set(http::field::host, "portico");
  request.set(http::field::connection, "close");
  if (!body.empty()) request.set(http::field::content_type, "application/json");
  request.body() = body;
  request.prepare_payload();
  error = complete(io, [&](auto done) { http::async_write(stream, request, done); });
  if (error) return not_reached(socket_path_, error);

  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMaxAnswerBytes);
  error = complete(io, [&](auto done) { http::async_read(stream, buffer, parser, done); });
  if (error) return not_reached(socket_path_, error);
  return ApiReply{parser.get().result_int(), std::move(parser.get().body()), {}, {}};
}

}  // namespace portico::cli
