// SPDX-License-Identifier: Apache-2.0
// Probes of servers that follow a script.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "control/checks/probe.h"
#include "tests/support/fake_server.h"

namespace portico {

using namespace std::chrono_literals;

// Runs the context until `done`, at most ten seconds.
template <typename Done>
void run_until(fake::asio::io_context& io, Done done) {
  const auto limit = std::chrono::steady_clock::now() + 10s;
  while (!done() && std::chrono::steady_clock::now() < limit) {
    io.restart();
    io.run_one_for(100ms);
  }
  ASSERT_TRUE(done()) << "nothing happened for ten seconds";
}

inline ProbeResult run_probe(fake::asio::io_context& io, Prober& prober, const ProbeRequest& request) {
  std::optional<ProbeResult> result;
  fake::asio::co_spawn(
      io, [&]() { return prober.probe(request); },
      [&](const std::exception_ptr&, ProbeResult found) { result = std::move(found); });
  run_until(io, [&] { return result.has_value(); });
  return result.value_or(ProbeResult{});
}

class Probe : public testing::Test {
 protected:
  ~Probe() override {
    // Lets closed sessions and servers end, as an owner of the context does.
    prober_.cancel();
    server_.reset();
    io_.restart();
    io_.run_for(500ms);
  }

  void serve(fake::Script script, const std::string& address = "127.0.0.1") {
    server_.emplace(io_, std::move(script), address);
    request_.target = server_->endpoint();
  }
  ProbeResult probe() { return run_probe(io_, prober_, request_); }
  ProbeResult probe_mysql(std::string user = {}, std::string password = {}) {
    request_.kind = CheckKind::mysql;
    request_.user = std::move(user);
    request_.password = std::move(password);
    return probe();
  }
  void expect_failure(const std::string& reason) {
    const ProbeResult result = probe_mysql();
    EXPECT_EQ(result.outcome, ProbeOutcome::failure);
    EXPECT_EQ(result.reason, reason);
  }

  fake::asio::io_context io_;
  Prober prober_{io_};
  std::optional<fake::Server> server_;
  ProbeRequest request_{.timeout = 5000ms};
  // What scripts write; they may still run when a test's body is over.
  std::vector<std::string> seen_;
  std::string answer_;
  bool awake_ = false;
};

}  // namespace portico
