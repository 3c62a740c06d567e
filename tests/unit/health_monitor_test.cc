// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "control/checks/health.h"
#include "tests/support/fake_server.h"

namespace portico {
namespace {

using namespace std::chrono_literals;

// A monitor that watches one backend on loopback, with a TCP check of each of two fake servers.
class Monitor : public testing::Test {
 protected:
  Monitor() {
    http_ = serve("127.0.0.1");
    https_ = serve("127.0.0.1");
    config_.pools = {{.name = "portals"}};
    config_.pools[0].backends = {{.name = "portal-1", .v4 = Address::parse("127.0.0.1")}};
    config_.pools[0].checks = {check("http", http_), check("https", https_)};
  }
  ~Monitor() override {
    monitor_.stop();
    http_.reset();
    https_.reset();
    io_.restart();
    io_.run_for(500ms);
  }

  std::unique_ptr<fake::Server> serve(const std::string& address, uint16_t port = 0) {
    const auto wait_for_end = [](std::shared_ptr<fake::Peer> peer) -> fake::asio::awaitable<void> {
      co_await peer->wait_for_end();
    };
    return std::make_unique<fake::Server>(io_, wait_for_end, address, port);
  }
  static CheckConfig check(const std::string& name, const std::unique_ptr<fake::Server>& server) {
    return {.name = name, .port = server->endpoint().port, .interval = 20ms, .fast_interval = 5ms};
  }
  // Closes a server's port; returns it.
  static uint16_t close(std::unique_ptr<fake::Server>& server) {
    const uint16_t port = server->endpoint().port;
    server.reset();
    return port;
  }
  BackendHealth health() const { return monitor_.status("portals", "portal-1").value_or(BackendHealth{}); }
  bool run_until(const std::function<bool()>& condition) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!condition() && std::chrono::steady_clock::now() < limit) {
      io_.restart();
      io_.run_one_for(100ms);
    }
    return condition();
  }
  void expect_eventually(HealthState state) {
    run_until([&] { return health().state == state; });
    ASSERT_EQ(to_string(health().state), to_string(state));
  }
  void run(std::chrono::milliseconds time) {
    io_.restart();
    io_.run_for(time);
  }

  fake::asio::io_context io_;
  std::unique_ptr<fake::Server> http_, https_;
  std::vector<std::string> changes_;
  HealthMonitor monitor_{io_, [this](const std::string& pool, const std::string& backend) {
                           const auto state = monitor_.status(pool, backend)->state;
                           changes_.push_back(pool + "/" + backend + " " + std::string(to_string(state)));
                         }};
  Config config_;
};

TEST_F(Monitor, KnowsNothingBeforeTheFirstResults) {
  monitor_.apply(config_);
  EXPECT_EQ(health().state, HealthState::unknown);
  EXPECT_FALSE(health().healthy);
  EXPECT_EQ(health().checks_total, 2u);
  EXPECT_NE(health().since_realtime_ns, 0);
  EXPECT_FALSE(monitor_.status("portals", "portal-9"));
  EXPECT_FALSE(monitor_.status("nobody", "portal-1"));
  EXPECT_TRUE(changes_.empty());
}

TEST_F(Monitor, FollowsAServerDownAndUp) {
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  EXPECT_TRUE(health().healthy);
  EXPECT_EQ(health().checks_passed, 2u);
  EXPECT_EQ(health().reason, "");

  const uint16_t port = close(https_);
  expect_eventually(HealthState::down);
  EXPECT_EQ(health().reason, "https: connection refused");
  EXPECT_EQ(health().refused_ports, std::vector<uint16_t>{port});
  EXPECT_FALSE(health().unreachable);
  EXPECT_EQ(health().checks_passed, 1u);
  EXPECT_TRUE(health().checks[1].refused);
  EXPECT_EQ(health().checks[1].last_reason, "connection refused");
  const int64_t since = health().since_monotonic_ns;
  run(60ms);
  EXPECT_EQ(health().since_monotonic_ns, since);

  https_ = serve("127.0.0.1", port);
  expect_eventually(HealthState::up);
  EXPECT_TRUE(health().refused_ports.empty());
  EXPECT_GT(health().since_monotonic_ns, since);
  EXPECT_EQ(changes_.front(), "portals/portal-1 up");
  EXPECT_EQ(changes_.back(), "portals/portal-1 up");
  EXPECT_GE(changes_.size(), 3u);
}

TEST_F(Monitor, OneFailureIsNotEnough) {
  config_.pools[0].checks[0].fall = 1000000;
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  close(http_);
  while (health().checks[0].state != CheckState::failing) run(5ms);
  EXPECT_TRUE(health().healthy);
  EXPECT_EQ(health().checks_passed, 2u);
}

TEST_F(Monitor, ARefusedCheckElsewhereSaysNothingOfTheBackendsPorts) {
  config_.pools[0].backends[0].check_address = Address::parse("127.0.0.2");
  monitor_.apply(config_);
  expect_eventually(HealthState::down);
  EXPECT_TRUE(health().refused_ports.empty());
  EXPECT_TRUE(health().reason.ends_with(": connection refused")) << health().reason;
}

// A listener whose backlog is full: it leaves SYNs unanswered.
struct SilentListener {
  explicit SilentListener(fake::asio::io_context& io)
      : acceptor(io, fake::tcp::endpoint(fake::asio::ip::make_address("127.0.0.1"), 0)) {
    acceptor.listen(0);
    for (int i = 0; i < 4; ++i) {
      waiting.emplace_back(io).open(fake::tcp::v4());
      waiting.back().async_connect(acceptor.local_endpoint(), [](const boost::system::error_code&) {});
    }
  }
  uint16_t port() const { return acceptor.local_endpoint().port(); }

  fake::tcp::acceptor acceptor;
  std::vector<fake::tcp::socket> waiting;
};

TEST_F(Monitor, ASilentBackendIsUnreachableAsAWhole) {
  const SilentListener listener(io_);
  run(50ms);
  CheckConfig& silent = config_.pools[0].checks[0];
  silent.port = listener.port();
  silent.timeout = 50ms;
  monitor_.apply(config_);
  expect_eventually(HealthState::down);
  EXPECT_EQ(health().reason, "http: no answer within 50 ms");
  EXPECT_TRUE(health().checks[0].unreachable);
  EXPECT_FALSE(health().unreachable) << "the other check is answered";
  EXPECT_GT(health().hearing.silent_ns, 0);
  EXPECT_GT(health().hearing.answered_ns, 0);
  config_.pools[0].checks.pop_back();
  monitor_.apply(config_);
  EXPECT_TRUE(health().unreachable);
  EXPECT_TRUE(health().silent) << "no timeout proves that a host is gone";
}

TEST_F(Monitor, AnswersOfAnotherMachineAreNotTheBackends) {
  const auto elsewhere = serve("127.0.0.2");
  const SilentListener listener(io_);
  run(50ms);
  config_.pools[0].checks[0].port = listener.port();
  config_.pools[0].checks[0].timeout = 50ms;
  config_.pools[0].checks[1].port = elsewhere->endpoint().port;
  config_.pools[0].backends[0].check_addresses["https"] = {*Address::parse("127.0.0.2"), 0};
  monitor_.apply(config_);
  expect_eventually(HealthState::down);
  EXPECT_TRUE(run_until([&] { return health().checks[1].state == CheckState::up; }));
  EXPECT_GT(health().hearing.silent_ns, 0);
  EXPECT_EQ(health().hearing.answered_ns, 0);

  int answers = 0;
  HealthMonitor successor(io_, nullptr,
                          {.why_unheard = {}, .note_answer = [&](const std::string&, auto) { ++answers; }});
  successor.apply(config_);
  successor.import_state(*parse_health_snapshot(to_json_text(monitor_.export_state())));
  const auto now = [&] { return *successor.status("portals", "portal-1"); };
  EXPECT_GT(now().hearing.silent_ns, health().hearing.silent_ns) << "as silent as it was, since now";
  EXPECT_TRUE(run_until([&] { return now().checks[1].consecutive > 3; }));
  EXPECT_EQ(answers, 0);
  successor.stop();
}

TEST_F(Monitor, SilenceSaysNothingToADeafHostAndARefusalDoes) {
  const SilentListener listener(io_);
  run(50ms);
  std::string why = "eth0 has no carrier";
  std::vector<std::string> asked;
  int answers = 0;
  HealthMonitor deaf(io_, nullptr,
                     {.why_unheard =
                          [&](const std::string& pool, auto) {
                            asked.push_back(pool);
                            return why;
                          },
                      .note_answer = [&](const std::string&, auto) { ++answers; }});
  config_.pools[0].checks.pop_back();
  config_.pools[0].checks[0].port = listener.port();
  config_.pools[0].checks[0].timeout = 20ms;
  deaf.apply(config_);
  const auto now = [&] { return *deaf.status("portals", "portal-1"); };
  ASSERT_TRUE(run_until([&] { return asked.size() >= 3; }));
  EXPECT_EQ(asked.front(), "portals");
  EXPECT_EQ(now().state, HealthState::unknown);
  EXPECT_EQ(now().hearing.silent_ns, 0);
  EXPECT_EQ(now().checks[0].last_reason, "cannot probe: eth0 has no carrier");
  why.clear();
  EXPECT_TRUE(run_until([&] { return now().state == HealthState::down; }));
  EXPECT_EQ(now().reason, "http: no answer within 20 ms");

  EXPECT_EQ(answers, 0);

  why = "eth0 has no carrier";
  config_.pools[0].checks[0].port = close(http_);
  deaf.apply(config_);
  asked.clear();
  EXPECT_TRUE(run_until([&] { return now().reason == "http: connection refused"; }));
  EXPECT_TRUE(asked.empty());
  EXPECT_GT(answers, 0);
  deaf.stop();
}

TEST_F(Monitor, AHangingLoginSaysNothingToADeafHost) {
  std::string why = "eth0 has no carrier";
  HealthMonitor deaf(io_, nullptr,
                     {.why_unheard = [&](const std::string&, auto) { return why; }, .note_answer = {}});
  config_.pools[0].checks = {check("mysql", http_)};
  config_.pools[0].checks[0].kind = CheckKind::mysql;
  config_.pools[0].checks[0].timeout = 20ms;
  deaf.apply(config_);
  const auto now = [&] { return *deaf.status("portals", "portal-1"); };
  EXPECT_TRUE(run_until([&] { return http_->connections() >= 3; })) << "each begins anew";
  EXPECT_EQ(now().state, HealthState::unknown);
  EXPECT_EQ(now().checks[0].last_reason, "cannot probe: eth0 has no carrier");
  why.clear();
  EXPECT_TRUE(run_until([&] { return now().state == HealthState::down; }));
  EXPECT_EQ(now().reason, "mysql: connected, but no greeting within 20 ms");
  EXPECT_GT(now().hearing.silent_ns, 0);
  deaf.stop();
}

TEST_F(Monitor, AnUnchangedCheckKeepsItsStateOverAReload) {
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  const BackendHealth before = health();
  config_.pools[0].backends.push_back({.name = "portal-2", .v4 = Address::parse("127.0.0.2")});
  config_.pools[0].checks[0].fall = 5;
  config_.pools[0].backends[0].weight = 7;
  monitor_.apply(config_);
  EXPECT_EQ(health().state, HealthState::up);
  EXPECT_EQ(health().since_monotonic_ns, before.since_monotonic_ns);
  EXPECT_EQ(health().checks[0].consecutive, before.checks[0].consecutive);
  EXPECT_EQ(monitor_.status("portals", "portal-2")->state, HealthState::unknown);
}

TEST_F(Monitor, AnAddedCheckCountsFromItsFirstResultOn) {
  CheckConfig added = config_.pools[0].checks.back();
  config_.pools[0].checks.pop_back();
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  close(https_);
  config_.pools[0].checks.push_back(added);
  monitor_.apply(config_);
  EXPECT_EQ(health().state, HealthState::up);
  EXPECT_EQ(health().checks[1].state, CheckState::unknown);
  expect_eventually(HealthState::down);
}

TEST_F(Monitor, ABackendAtAnotherAddressStartsAnew) {
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  config_.pools[0].backends[0].v4 = Address::parse("127.0.0.2");
  monitor_.apply(config_);
  EXPECT_EQ(health().state, HealthState::unknown);
}

TEST_F(Monitor, ARemovedBackendIsNotProbedAnyMore) {
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  config_.pools[0].backends.clear();
  monitor_.apply(config_);
  EXPECT_FALSE(monitor_.status("portals", "portal-1"));
  run(30ms);
  const int connections = http_->connections();
  run(100ms);
  EXPECT_EQ(http_->connections(), connections);
}

TEST_F(Monitor, AShorterIntervalTakesEffectAtOnce) {
  for (CheckConfig& check : config_.pools[0].checks) check.interval = check.fast_interval = 1h;
  monitor_.apply(config_);
  run(20ms);
  for (CheckConfig& check : config_.pools[0].checks) check.interval = check.fast_interval = 5ms;
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
}

TEST_F(Monitor, ContinuesWhereAnEarlierProcessStopped) {
  monitor_.apply(config_);
  expect_eventually(HealthState::up);
  HealthSnapshot snapshot = monitor_.export_state();
  snapshot.backends[0].since_realtime_ns -= 3600'000'000'000;
  snapshot.checks.push_back(snapshot.checks[0]);
  snapshot.checks.back().backend = "gone";

  HealthMonitor successor(io_, nullptr);
  successor.apply(config_);
  successor.import_state(*parse_health_snapshot(to_json_text(snapshot)));
  const BackendHealth continued = *successor.status("portals", "portal-1");
  EXPECT_EQ(continued.state, HealthState::up);
  EXPECT_EQ(continued.checks_passed, 2u);
  EXPECT_NEAR(static_cast<double>(continued.since_realtime_ns),
              static_cast<double>(snapshot.backends[0].since_realtime_ns), 1e9);
  EXPECT_NEAR(static_cast<double>(health().since_monotonic_ns - continued.since_monotonic_ns), 3600e9, 60e9);
}

}  // namespace
}  // namespace portico
