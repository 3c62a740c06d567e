// SPDX-License-Identifier: Apache-2.0
// The connection of one probe. Runs by itself once started, so that its verdict may be waited for with a
// time limit while it goes on.
#pragma once

#include "control/checks/coroutines.h"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "control/checks/mysql_protocol.h"
#include "control/checks/probe.h"

namespace portico {

class ProbeSession : public std::enable_shared_from_this<ProbeSession> {
 public:
  using Clock = std::chrono::steady_clock;

  ProbeSession(boost::asio::io_context& io, ProbeRequest request);

  void start();
  // Waits for the verdict; false if it has not come by `until`. One waiter at a time.
  boost::asio::awaitable<bool> wait_for_verdict(Clock::time_point until);
  // The same until the probe's own limits are over.
  boost::asio::awaitable<bool> wait_for_verdict();
  // As Prober says.
  void hurry(Milliseconds connect_limit);
  bool has_verdict() const { return has_verdict_; }
  const ProbeResult& verdict() const { return verdict_; }
  // What it had to say for itself if the verdict is late: the probe's result by now.
  ProbeResult late_verdict() const;
  // True while a login is under way that should not be broken off.
  bool in_login() const { return stage_ == Stage::greeting || stage_ == Stage::login; }
  // Closes at once; a verdict not yet given becomes `inconclusive`.
  void close();

 private:
  enum class Stage { connecting, handshake, answer, greeting, login, over };

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> run_dialogue();
  // probe_dialogue.cc: what is sent and expected, over TCP or TLS.
  boost::asio::awaitable<void> run_exchange();
  boost::asio::awaitable<void> run_tls();
  template <typename Stream>
  boost::asio::awaitable<void> run_http(Stream& stream);
  std::string http_request() const;
  void judge_status(unsigned status, std::string_view reason);
  boost::asio::awaitable<void> run_mysql();
  boost::asio::awaitable<void> answer_login_dialogue(MysqlGreeting greeting);
  // Reads one packet's payload into payload_; false after giving the verdict for what went wrong.
  boost::asio::awaitable<bool> read_packet();
  boost::asio::awaitable<bool> write(std::string packet, const char* while_doing);
  // What comes before all else on a connection to a server that expects the PROXY protocol.
  boost::asio::awaitable<bool> introduce();
  boost::asio::awaitable<void> quit();
  boost::asio::awaitable<void> wait_for_end();

  bool open(boost::system::error_code& error);
  bool is_waiting_for_target();
  Clock::time_point deadline();
  uint32_t microseconds_since_start() const;
  void close_after(Clock::duration delay);
  void judge_error(const MysqlError& error, const std::string& unsupported_plugin);
  void decide(ProbeOutcome outcome, std::string reason = {});
  void decide_by(const boost::system::error_code& error, const char* while_doing);

  ProbeRequest request_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer verdict_timer_, close_timer_;
  Clock::time_point started_;
  Stage stage_ = Stage::connecting;
  bool has_verdict_ = false;
  ProbeResult verdict_;
  uint8_t sequence_ = 0;  // of the last packet read
  std::vector<uint8_t> payload_;
};

}  // namespace portico
