// SPDX-License-Identifier: Apache-2.0
// One probe of one target: a connection, for MySQL a login, and a verdict.
#pragma once

#include "control/checks/coroutines.h"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "control/checks/check_state.h"
#include "control/config.h"

namespace re2 {
class RE2;
}

namespace portico {

struct ProbeRequest {
  CheckKind kind = CheckKind::tcp;
  Endpoint target;
  Milliseconds timeout{1000};
  std::optional<Milliseconds> connect_limit;  // of `timeout`, until the target answers; absent: all of it
  ProxyProtocol proxy_protocol = ProxyProtocol::none;  // v2: begin with a header that says LOCAL
  std::string user, password;                          // mysql; no user: a refused login is a success
  DialogueConfig dialogue;
  std::shared_ptr<const re2::RE2> pattern;  // dialogue.pattern; null: none
  bool verify = false;                      // https, tls: as TlsConfig
  std::string sni;
  std::shared_ptr<boost::asio::ssl::context> tls;  // https, tls; null: `problem` says why
  std::string problem;                             // why this host cannot probe; empty: it can
  std::optional<Address> source_v4, source_v6;  // where the connection comes from; absent: the kernel chooses
};

// What every probe of a check asks. Compiles its pattern and loads its authorities: once for many probes.
ProbeRequest make_request(const CheckConfig& check, const Endpoint& target);

struct ProbeResult {
  ProbeOutcome outcome = ProbeOutcome::inconclusive;
  std::string reason;                 // why it is no success
  uint32_t latency_us = 0;            // until the verdict
  int64_t certificate_expires_s = 0;  // Unix time; of the first of the server's chain; 0: none was seen
  bool unanswered = false;            // time or the network ended it, at whatever stage, and not the target
  uint32_t connect_us = 0;            // until the target took the connection; 0: it did not
};

class ProbeSession;

// Probes for one check, one at a time.
class Prober {
 public:
  explicit Prober(boost::asio::io_context& io) : io_(io) {}
  ~Prober() { cancel(); }
  Prober(const Prober&) = delete;
  Prober& operator=(const Prober&) = delete;

  // The verdict comes within the timeout. A MySQL login that is slower is not broken off, since the server
  // counts such connections and in the end blocks this host: it goes on in the background for at most
  // kLateLoginLimit. The next probe waits for it, then connects anew: at most two timeouts together.
  boost::asio::awaitable<ProbeResult> probe(ProbeRequest request);

  // Gives the target of the probe under way no more than so much time from the probe's begin to answer the
  // connection attempt. Without one, nothing happens.
  void hurry(Milliseconds connect_limit);

  // Ends the probe under way, which then answers `inconclusive`, and closes connections.
  void cancel();

 private:
  boost::asio::io_context& io_;
  std::shared_ptr<ProbeSession> session_;  // the last one
};

inline constexpr std::chrono::seconds kLateLoginLimit{30};

}  // namespace portico
