// SPDX-License-Identifier: Apache-2.0
#include "control/api/http_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <limits>
#include <set>
#include <stdexcept>

namespace portico {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using unix_stream = asio::local::stream_protocol;

// What the kernel keeps for a slow client of a stream: by itself it would take megabytes.
constexpr int kStreamBufferBytes = 128 * 1024;

std::optional<Peer> peer_of(unix_stream::socket& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
    return std::nullopt;
  Peer peer{credentials.uid, {credentials.gid}};
  std::array<gid_t, 256> groups;
  size = sizeof groups;
  if (getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) == 0)
    peer.groups.insert(peer.groups.end(), groups.begin(), groups.begin() + size / sizeof(gid_t));
  return peer;
}
std::optional<Peer> peer_of(tcp::socket&) {
  return std::nullopt;
}

// A connection as the server sees it.
struct Connection {
  // In the order in which they give way to new ones; from `handling` on they do not.
  enum class Phase { reading, writing, handling, streaming };
  Phase phase = Phase::reading;
  uint64_t turn = 0;  // when the phase began: the lower, the longer ago
  std::function<void()> close;
};

// What the sessions of one server share; outlives it while a session ends.
struct Shared {
  ApiHandler handler;
  bool closed = false;
  std::set<Connection*> open;
  uint64_t turns = 0;
  uint32_t streams = 0;

  // True if another connection may come. At the limit the client that keeps us waiting the longest loses its
  // own: clients that hold connections and say nothing must not lock others out.
  bool make_room() {
    if (open.size() < kMaxApiConnections) return true;
    const auto first = std::min_element(open.begin(), open.end(), [](const auto* a, const auto* b) {
      return std::pair(a->phase, a->turn) < std::pair(b->phase, b->turn);
    });
    Connection* const victim = *first;
    if (victim->phase >= Connection::Phase::handling) return false;  // the answer is ours to give
    open.erase(first);
    victim->close();
    return true;
  }
};

// The error body of docs/api.md. The texts need no escapes.
ApiResponse refusal(unsigned status, const std::string& error, const std::string& remedy) {
  return {status, "application/json",
          "{\n  \"error\": \"" + error + "\",\n  \"remedy\": \"" + remedy + "\"\n}\n"};
}

// One connection: read a request, answer it, again. It lives as long as one of its operations does.
template <typename Protocol>
class Session : public std::enable_shared_from_this<Session<Protocol>> {
 public:
  using Stream = beast::basic_stream<Protocol>;

  Session(typename Protocol::socket socket, std::shared_ptr<Shared> shared)
      : peer_(peer_of(socket)),
        stream_(std::move(socket)),
        pause_(stream_.get_executor()),
        shared_(std::move(shared)) {
    connection_.close = [this] { stream_.close(); };
    shared_->open.insert(&connection_);
  }
  ~Session() {
    shared_->open.erase(&connection_);
    if (connection_.phase == Connection::Phase::streaming) --shared_->streams;
  }

  void read() {
    begin(Connection::Phase::reading);
    parser_.emplace();
    parser_->header_limit(kMaxApiHeaderBytes);
    parser_->body_limit(std::numeric_limits<uint64_t>::max());  // on_header knows better
    stream_.expires_after(std::chrono::seconds(kApiTimeoutSeconds));
    http::async_read_header(
        stream_, buffer_, *parser_,
        [self = this->shared_from_this()](beast::error_code error, size_t) { self->on_header(error); });
  }

 private:
  void begin(Connection::Phase phase) {
    connection_.phase = phase;
    connection_.turn = ++shared_->turns;
  }

  // A configuration is larger than other bodies may be.
  void on_header(beast::error_code error) {
    if (error) return on_read(error);
    const auto target = parser_->get().target();
    const bool is_file = peer_ && std::string_view(target.data(), target.size()) == kFilePath;
    const uint64_t limit = is_file ? kMaxApiFileBytes : kMaxApiBodyBytes;
    if (parser_->content_length().value_or(0) > limit) return on_read(http::error::body_limit);
    parser_->body_limit(limit);
    http::async_read(
        stream_, buffer_, *parser_,
        [self = this->shared_from_this()](beast::error_code failed, size_t) { self->on_read(failed); });
  }

  void on_read(beast::error_code error) {
    if (error == http::error::header_limit)
      return send(refusal(431, "the headers are too large", "at most 8 KiB"), false);
    if (error == http::error::body_limit)
      return send(refusal(413, "the body is too large", "at most 64 KiB, 16 MiB of a configuration"), false);
    if (error && error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message)
      return send(refusal(400, "this is not HTTP", "speak HTTP/1.1"), false);
    if (error) return;
    handle();
  }

  void handle() {
    const auto& message = parser_->get();
    const std::string target(message.target());
    const size_t mark = target.find('?');
    const auto path = percent_decode(std::string_view(target).substr(0, mark));
    const bool keep = message.keep_alive();
    if (!path || path->empty() || path->front() != '/')
      return send(refusal(400, "the path is malformed", "it begins with /; % stands before two hex digits"),
                  false);
    ApiRequest request{.method = std::string(message.method_string()),
                       .path = *path,
                       .query = mark == std::string::npos ? "" : target.substr(mark + 1),
                       .body = message.body(),
                       .peer = peer_,
                       .host = std::string(message[http::field::host]),
                       .authorization = std::string(message[http::field::authorization]),
                       .who = {}};
    begin(Connection::Phase::handling);
    // The answer's own time, not the client's: the handler bounds what it waits for.
    stream_.expires_never();
    shared_->handler(request, [self = this->shared_from_this(), keep](ApiResponse response) {
      if (response.stream)
        self->begin_stream(std::move(response));
      else
        self->send(std::move(response), keep);
    });
  }

  void fill(ApiResponse& from, bool keep) {
    response_.emplace(http::int_to_status(from.status), 11);
    response_->set(http::field::content_type, from.content_type);
    response_->set(http::field::cache_control, "no-store");
    for (const auto& [name, value] : from.headers) response_->set(name, value);
    response_->keep_alive(keep);
  }

  void send(ApiResponse from, bool keep) {
    if (shared_->closed) return;
    begin(Connection::Phase::writing);
    fill(from, keep);
    response_->body() = std::move(from.body);
    response_->prepare_payload();
    stream_.expires_after(std::chrono::seconds(kApiTimeoutSeconds));
    http::async_write(stream_, *response_,
                      [self = this->shared_from_this(), keep](beast::error_code error, size_t) {
                        if (!error && keep)
                          self->read();
                        else
                          self->stream_.close();
                      });
  }

  // Without a length: it ends with the connection.
  void begin_stream(ApiResponse from) {
    if (shared_->closed) return;
    if (shared_->streams >= kMaxApiStreams)
      return send(refusal(503, "too many streams are open", "close another page or `--follow`"), false);
    begin(Connection::Phase::streaming);
    ++shared_->streams;
    beast::error_code ignored;
    stream_.socket().set_option(asio::socket_base::send_buffer_size(kStreamBufferBytes), ignored);
    fill(from, false);
    next_ = std::move(from.stream);
    serializer_.emplace(*response_);
    stream_.expires_after(std::chrono::seconds(kStreamTimeoutSeconds));
    http::async_write_header(stream_, *serializer_,
                             [self = this->shared_from_this()](beast::error_code error, size_t) {
                               if (!error) self->send_next();
                             });
  }

  void send_next() {
    if (shared_->closed) return;
    piece_ = next_();
    quiet_ms_ = piece_ ? 0 : quiet_ms_ + kStreamPeriodMs;
    if (quiet_ms_ >= kStreamSilenceSeconds * 1000) {
      quiet_ms_ = 0;
      piece_ = std::make_shared<const std::string>(":\n\n");
    }
    if (!piece_) return look_later();
    stream_.expires_after(std::chrono::seconds(kStreamTimeoutSeconds));
    asio::async_write(stream_, asio::buffer(*piece_),
                      [self = this->shared_from_this()](beast::error_code error, size_t) {
                        self->piece_.reset();
                        if (!error) self->look_later();
                      });
  }
  void look_later() {
    pause_.expires_after(std::chrono::milliseconds(kStreamPeriodMs));
    pause_.async_wait([self = this->shared_from_this()](beast::error_code error) {
      if (!error) self->send_next();
    });
  }

  std::optional<Peer> peer_;
  Stream stream_;
  asio::steady_timer pause_;
  std::shared_ptr<Shared> shared_;
  Connection connection_;
  beast::flat_buffer buffer_{kMaxApiHeaderBytes + kMaxApiBodyBytes};
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
  // Of a stream.
  std::optional<http::response_serializer<http::string_body>> serializer_;
  ApiStream next_;
  std::shared_ptr<const std::string> piece_;  // on its way
  uint32_t quiet_ms_ = 0;
};

template <typename Protocol>
class Server : public HttpServer {
 public:
  Server(asio::io_context& io, const typename Protocol::endpoint& endpoint, ApiHandler handler)
      : io_(io), acceptor_(io), retry_(io), shared_(std::make_shared<Shared>()) {
    shared_->handler = std::move(handler);
    acceptor_.open(endpoint.protocol());
    if constexpr (std::is_same_v<Protocol, tcp>) acceptor_.set_option(asio::socket_base::reuse_address(true));
    acceptor_.bind(endpoint);
  }
  ~Server() override {
    shared_->closed = true;
    for (auto* connection : std::set(shared_->open)) connection->close();
    if (!path_.empty()) unlink(path_.c_str());
  }
  void start(const std::string& path) {
    path_ = path;
    acceptor_.listen(static_cast<int>(kMaxApiConnections));
    accept();
  }

 private:
  void accept() {
    acceptor_.async_accept(io_, [this](beast::error_code error, typename Protocol::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) return accept_later();
      if (shared_->make_room()) std::make_shared<Session<Protocol>>(std::move(socket), shared_)->read();
      accept();
    });
  }
  // Out of descriptors: trying again at once would spin.
  void accept_later() {
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait([this](beast::error_code error) {
      if (!error) accept();
    });
  }

  asio::io_context& io_;
  typename Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  std::shared_ptr<Shared> shared_;
  std::string path_;
};

tcp::endpoint parse_endpoint(const std::string& text) {
  const size_t colon = text.rfind(':');
  std::string host = colon == std::string::npos ? "" : text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  beast::error_code error;
  const auto address = asio::ip::make_address(host, error);
  const std::string digits = colon == std::string::npos ? "" : text.substr(colon + 1);
  const bool number =
      !digits.empty() && digits.size() <= 5 && digits.find_first_not_of("0123456789") == std::string::npos;
  const unsigned long port = number ? std::stoul(digits) : 65536;
  if (error || port > 65535)
    throw std::runtime_error("\"" + text + "\" is no address and port; write for example 127.0.0.1:9090");
  return {address, static_cast<uint16_t>(port)};
}

}  // namespace

std::unique_ptr<HttpServer> HttpServer::on_unix(asio::io_context& io, const std::string& path,
                                                ApiHandler handler) {
  try {
    if (path.size() >= sizeof(sockaddr_un::sun_path))
      throw std::runtime_error("the path is longer than a Unix socket's may be; use a shorter --run-dir");
    unlink(path.c_str());
    // Nobody may connect between bind and chmod.
    const mode_t before = umask(0117);
    std::unique_ptr<Server<unix_stream>> server;
    try {
      server = std::make_unique<Server<unix_stream>>(io, unix_stream::endpoint(path), std::move(handler));
    } catch (...) {
      umask(before);
      throw;
    }
    umask(before);
    server->start(path);
    return server;
  } catch (const std::exception& e) {
    throw std::runtime_error("cannot listen on " + path + ": " + e.what());
  }
}

std::unique_ptr<HttpServer> HttpServer::on_tcp(asio::io_context& io, const std::string& text,
                                               ApiHandler handler) {
  const tcp::endpoint endpoint = parse_endpoint(text);
  try {
    auto server = std::make_unique<Server<tcp>>(io, endpoint, std::move(handler));
    server->start("");
    return server;
  } catch (const std::exception& e) {
    throw std::runtime_error("cannot listen on " + text + ": " + e.what());
  }
}

bool is_loopback(const std::string& endpoint) {
  return parse_endpoint(endpoint).address().is_loopback();
}

std::optional<std::string> percent_decode(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = digit(text[i + 1]), low = digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

std::optional<std::string> query_value(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    if (pair.substr(0, equals) != key) continue;
    return equals == std::string_view::npos ? "" : percent_decode(pair.substr(equals + 1));
  }
  return std::nullopt;
}

}  // namespace portico
