// SPDX-License-Identifier: Apache-2.0
// Probes that signals of the dataplane trigger: HealthMonitor::probe_now().
#include <gtest/gtest.h>

#include "control/checks/health.h"
#include "tests/support/fake_server.h"

namespace portico {
namespace {

using namespace std::chrono_literals;

// A server that can leave SYNs unanswered: it stops accepting, and its backlog is full.
class Gate {
 public:
  explicit Gate(fake::asio::io_context& io)
      : io_(io), acceptor_(io, fake::tcp::endpoint(fake::asio::ip::make_address("127.0.0.1"), 0)) {
    acceptor_.listen(0);
    accept();
  }
  ~Gate() { close(); }
  uint16_t port() const { return port_; }
  int connections() const { return connections_; }
  // Takes in what was on its way first.
  void fall_silent() {
    is_open_ = false;
    acceptor_.cancel();
    for (int i = 0; i < 4; ++i) {
      waiting_.emplace_back(io_).open(fake::tcp::v4());
      waiting_.back().async_connect(acceptor_.local_endpoint(), [](const boost::system::error_code&) {});
    }
  }
  void recover() {
    is_open_ = true;
    accept();
  }
  void close() { acceptor_.close(); }

 private:
  void accept() {
    acceptor_.async_accept(
        [this, is_there = std::weak_ptr(alive_)](const boost::system::error_code& error, fake::tcp::socket) {
          if (error || is_there.expired()) return;
          ++connections_;
          if (is_open_) accept();
        });
  }

  fake::asio::io_context& io_;
  fake::tcp::acceptor acceptor_;
  uint16_t port_ = acceptor_.local_endpoint().port();
  std::vector<fake::tcp::socket> waiting_;
  bool is_open_ = true;
  int connections_ = 0;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

// One backend with one TCP check that is up, and next probed after an hour if nobody asks for it.
class Haste : public testing::Test {
 protected:
  Haste() {
    config_.pools = {{.name = "portals"}};
    config_.pools[0].backends = {{.name = "portal-1", .v4 = Address::parse("127.0.0.1")}};
    config_.pools[0].checks = {
        {.name = "http", .port = gate_.port(), .interval = 24h, .fast_interval = 5ms, .timeout = 24h}};
    monitor_.apply(config_);
    expect_eventually([&] { return health().state == HealthState::up; });
  }
  ~Haste() override {
    monitor_.stop();
    gate_.close();
    io_.restart();
    io_.run_for(100ms);
  }

  CheckConfig& check() { return config_.pools[0].checks[0]; }
  BackendHealth health() const { return monitor_.status("portals", "portal-1").value_or(BackendHealth{}); }
  uint32_t probe_now() { return monitor_.probe_now("portals", "portal-1"); }
  void run(std::chrono::milliseconds time) {
    io_.restart();
    io_.run_for(time);
  }
  template <typename Condition>
  void expect_eventually(const Condition& condition) {
    const auto limit = std::chrono::steady_clock::now() + 10s;
    while (!condition() && std::chrono::steady_clock::now() < limit) {
      io_.restart();
      io_.run_one_for(100ms);
    }
    ASSERT_TRUE(condition()) << to_string(health().state) << ": " << health().reason;
  }

  fake::asio::io_context io_;
  Gate gate_{io_};
  std::string unheard_;  // why nothing can be heard
  int silences_ = 0;     // probes without answer
  HealthMonitor monitor_{io_,
                         nullptr,
                         {.why_unheard =
                              [this](const std::string&, auto) {
                                ++silences_;
                                return unheard_;
                              },
                          .note_answer = {}}};
  Config config_;
};

TEST_F(Haste, ASilentBackendDoesNotGetItsWholeTimeout) {
  gate_.fall_silent();
  run(20ms);
  EXPECT_EQ(probe_now(), 1u);
  expect_eventually([&] { return health().state == HealthState::down; });
  EXPECT_EQ(silences_, 2) << "fall is 2";
  EXPECT_TRUE(health().unconfirmed) << "the probe that confirms it has all its time";
  EXPECT_TRUE(health().reason.starts_with("http: no answer within ")) << health().reason;
  EXPECT_EQ(probe_now(), 0u) << "what is down is probed anyhow";
}

TEST_F(Haste, AProbeThatHasAllItsTimeConfirmsIt) {
  check().timeout = 100ms;
  monitor_.apply(config_);
  gate_.fall_silent();
  run(20ms);
  probe_now();
  expect_eventually([&] { return health().state == HealthState::down && !health().unconfirmed; });
  EXPECT_EQ(health().reason, "http: no answer within 100 ms");
  EXPECT_EQ(silences_, 3);
}

TEST_F(Haste, TheProbeUnderWayIsHurried) {
  gate_.fall_silent();
  check().interval = 5ms;
  monitor_.apply(config_);
  run(50ms);
  EXPECT_EQ(health().state, HealthState::up) << "there is a day left";
  probe_now();
  expect_eventually([&] { return health().state == HealthState::down; });
  EXPECT_EQ(silences_, 2);
}

// Whoever sends SYNs that he never completes causes probes, and nothing else.
TEST_F(Haste, SignalsAloneChangeNothing) {
  for (int i = 0; i < 50; ++i) {
    const int before = gate_.connections();
    EXPECT_EQ(probe_now(), 1u);
    expect_eventually([&] { return gate_.connections() > before; });
  }
  EXPECT_EQ(health().state, HealthState::up);
  EXPECT_EQ(health().checks[0].state, CheckState::up);
  const int before = gate_.connections();
  run(100ms);
  EXPECT_LE(gate_.connections(), before + 1) << "an answer ends it";
}

TEST_F(Haste, ARefusalIsOneFailureAsEver) {
  check().fast_interval = 24h;
  monitor_.apply(config_);
  gate_.close();
  probe_now();
  expect_eventually([&] { return health().checks[0].state == CheckState::failing; });
  run(50ms);
  EXPECT_EQ(health().checks[0].consecutive, 1u) << "a server that is being started gets its fast interval";
  EXPECT_EQ(health().state, HealthState::up);
}

TEST_F(Haste, AHostThatHearsNothingIsNotInHaste) {
  unheard_ = "eth0 has no carrier";
  gate_.fall_silent();
  run(20ms);
  probe_now();
  expect_eventually([&] { return silences_ == 1; });
  run(100ms);
  EXPECT_EQ(silences_, 1) << "what nobody could hear is not asked again and again";
  EXPECT_EQ(health().state, HealthState::up);
}

TEST_F(Haste, WhoWasLateOnceReturnsAsSoonAsAnybody) {
  gate_.fall_silent();
  run(20ms);
  probe_now();
  expect_eventually([&] { return health().state == HealthState::down; });
  gate_.recover();
  expect_eventually([&] { return health().state == HealthState::up; });
  EXPECT_FALSE(health().unconfirmed);
}

TEST_F(Haste, NobodyElseIsProbed) {
  EXPECT_EQ(monitor_.probe_now("portals", "portal-2"), 0u);
  EXPECT_EQ(monitor_.probe_now("nobody", "portal-1"), 0u);
}

}  // namespace
}  // namespace portico
