// SPDX-License-Identifier: Apache-2.0
// Servers on loopback that follow a script, for tests of the health checks.
#pragma once

#include "control/checks/coroutines.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control/config.h"

namespace portico::fake {

namespace asio = boost::asio;
using asio::ip::tcp;

// One accepted connection. An error or an end of the peer ends reads with what came.
class Peer {
 public:
  explicit Peer(tcp::socket socket) : socket_(std::move(socket)) {}

  asio::awaitable<void> send(std::string bytes) {
    boost::system::error_code ignored;
    co_await asio::async_write(socket_, asio::buffer(bytes),
                               asio::redirect_error(asio::use_awaitable, ignored));
  }

  // One MySQL packet without its header; empty also at the end of the stream.
  asio::awaitable<std::string> receive_packet() {
    std::string header(4, '\0');
    boost::system::error_code error;
    co_await asio::async_read(socket_, asio::buffer(header),
                              asio::redirect_error(asio::use_awaitable, error));
    if (error) {
      ended_ = true;
      co_return std::string();
    }
    std::string payload(static_cast<uint8_t>(header[0]) + 256u * static_cast<uint8_t>(header[1]), '\0');
    co_await asio::async_read(socket_, asio::buffer(payload),
                              asio::redirect_error(asio::use_awaitable, error));
    co_return payload;
  }

  // So many bytes, or what came before the end of the stream.
  asio::awaitable<std::string> receive(size_t size) {
    std::string bytes(size, '\0');
    boost::system::error_code error;
    const size_t got = co_await asio::async_read(socket_, asio::buffer(bytes),
                                                 asio::redirect_error(asio::use_awaitable, error));
    bytes.resize(got);
    ended_ = ended_ || error;
    co_return bytes;
  }

  // Until the peer closes.
  asio::awaitable<void> wait_for_end() {
    while (!ended_) co_await receive_packet();
  }

  asio::awaitable<void> sleep(std::chrono::milliseconds time) {
    asio::steady_timer timer(socket_.get_executor(), time);
    co_await timer.async_wait(asio::use_awaitable);
  }

  void reset() {
    boost::system::error_code ignored;
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
  }

  bool ended() const { return ended_; }

 private:
  tcp::socket socket_;
  bool ended_ = false;
};

using Script = std::function<asio::awaitable<void>(std::shared_ptr<Peer>)>;

// Listens on a free port and plays the script on every connection.
class Server {
 public:
  Server(asio::io_context& io, Script script, const std::string& address = "127.0.0.1", uint16_t port = 0)
      : acceptor_(io, tcp::endpoint(asio::ip::make_address(address), port)), script_(std::move(script)) {
    port_ = acceptor_.local_endpoint().port();
    address_ = *Address::parse(address);
    accept();
  }

  Endpoint endpoint() const { return {address_, port_}; }
  int connections() const { return *connections_; }
  void close() { acceptor_.close(); }

 private:
  void accept() {
    // A connection that was accepted already when the server went is told of later.
    const auto is_there = std::weak_ptr(connections_);
    acceptor_.async_accept([this, is_there](const boost::system::error_code& error, tcp::socket socket) {
      if (error || is_there.expired()) return;
      ++*connections_;
      auto peer = std::make_shared<Peer>(std::move(socket));
      asio::co_spawn(
          acceptor_.get_executor(), [script = script_, peer] { return script(peer); }, asio::detached);
      accept();
    });
  }

  tcp::acceptor acceptor_;
  Script script_;
  Address address_{};
  uint16_t port_ = 0;
  std::shared_ptr<int> connections_ = std::make_shared<int>(0);
};

inline std::string packet(uint8_t sequence, std::string_view payload) {
  std::string out;
  for (int shift : {0, 8, 16}) out.push_back(static_cast<char>(payload.size() >> shift));
  out.push_back(static_cast<char>(sequence));
  return out.append(payload);
}

inline const std::string kNonce = "abcdefghijklmnopqrst";  // 20 bytes

// A greeting of protocol 10 as MariaDB sends it.
inline std::string greeting_payload() {
  using namespace std::string_literals;
  return "\x0a"
         "5.5.5-10.11.6-MariaDB\0"s +
         "\x2a\0\0\0"s + kNonce.substr(0, 8) + "\0"s + "\xfe\xf7"s + "\x2d"s + "\x02\0"s + "\xff\x81"s +
         "\x15"s + std::string(10, '\0') + kNonce.substr(8) + "\0"s + "mysql_native_password\0"s;
}

inline std::string error_payload(uint16_t code, std::string_view text, bool with_state = true) {
  std::string out = "\xff";
  out.push_back(static_cast<char>(code));
  out.push_back(static_cast<char>(code >> 8));
  if (with_state) out += "#28000";
  return out.append(text);
}

inline std::string ok_payload() {
  return std::string("\0\0\0\x02\0\0\0", 7);
}

}  // namespace portico::fake
