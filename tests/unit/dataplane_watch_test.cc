// SPDX-License-Identifier: Apache-2.0
#include "control/dataplane_watch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "contract/run_dir.h"

namespace portico {
namespace {

// A dataplane's feedback file, written by the test.
class Watch : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-watch-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
    writer_ = std::make_unique<FeedbackWriter>(dir_, "test");
    watch_ =
        std::make_unique<DataplaneWatch>(dir_, [this](DataplaneWatch::Level level, const std::string& text) {
          if (level == DataplaneWatch::Level::error) errors_.push_back(text);
        });
  }
  void TearDown() override {
    writer_.reset();
    std::filesystem::remove_all(dir_);
  }
  template <typename Change>
  void report(Change change) {
    Feedback& feedback = writer_->begin();
    feedback.header.table_epoch = kEpoch;
    feedback.header.state = static_cast<uint32_t>(DataplaneState::running);
    change(feedback);
    writer_->end();
    watch_->poll(kEpoch, 9, monotonic_ns());
  }
  // Half a minute of reports, 100 ms apart, that grow by 1,000 drops and 1 MB of service 3 per second; every
  // seventh reading is of a file in which somebody else has just written `garbage` to both counters.
  void report_over_time(std::optional<uint64_t> garbage) {
    uint64_t now = 1'000'000'000;
    for (int i = 1; i <= 300; ++i) {
      Feedback& feedback = writer_->begin();
      const bool is_spoiled = garbage && i % 7 == 0;
      feedback.drops[2] = is_spoiled ? *garbage : uint64_t{100} * i;
      feedback.services[3].bytes_in = is_spoiled ? *garbage : uint64_t{100'000} * i;
      writer_->end();
      watch_->poll(kEpoch, 9, now += 100'000'000);
      EXPECT_LT(watch_->drop_rate(2).per_second(), 1500) << "reading " << i;
      EXPECT_LT(watch_->service_rates(3).bytes_in.per_second(), 1'500'000) << "reading " << i;
    }
  }

  static constexpr uint64_t kEpoch = 77;
  std::filesystem::path dir_;
  std::unique_ptr<FeedbackWriter> writer_;
  std::unique_ptr<DataplaneWatch> watch_;
  std::vector<std::string> errors_;
};

// Control's first table may wait for its checks until the dataplane serves, not then.
TEST_F(Watch, ADataplaneServesOnceItIsPastItsWaitForATable) {
  EXPECT_FALSE(watch_->serves());
  for (const DataplaneState state :
       {DataplaneState::starting, DataplaneState::waiting_for_table, DataplaneState::stopping}) {
    report([state](Feedback& f) { f.header.state = static_cast<uint32_t>(state); });
    EXPECT_FALSE(watch_->serves()) << to_string(state);
  }
  report([](Feedback& f) { f.header.table_epoch = kEpoch - 1; });
  EXPECT_TRUE(watch_->serves()) << "by the table of a control before";
  writer_.reset();
  watch_->poll(kEpoch, 9, monotonic_ns());
  EXPECT_FALSE(watch_->serves());
}

TEST_F(Watch, ATableRefusedForItsPortsIsRefused) {
  report([](Feedback& f) {
    f.header.adopted_generation = 8;
    f.header.refused_generation = 9;
    f.header.refused_count = 1;
    f.header.refused_reason = static_cast<uint32_t>(RefusalReason::needs_restart);
    set_text(f.header.refused_text, "ports: restart");
  });
  EXPECT_EQ(watch_->refused(), 9u);
  ASSERT_EQ(watch_->warnings().size(), 1u);
  EXPECT_NE(watch_->warnings()[0].find("refuses table 9"), std::string::npos) << watch_->warnings()[0];
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_NE(errors_[0].find("refuses table 9"), std::string::npos) << errors_[0];
}

TEST_F(Watch, AnAdoptedTableMayStillNeedARestart) {
  report([](Feedback& f) {
    f.header.adopted_generation = 9;
    f.header.refused_reason = static_cast<uint32_t>(RefusalReason::needs_restart);
    set_text(f.header.refused_text, "restart portico-dataplane to apply: flows");
  });
  EXPECT_EQ(watch_->refused(), 0u);
  ASSERT_EQ(watch_->warnings().size(), 1u);
  EXPECT_NE(watch_->warnings()[0].find("need a restart"), std::string::npos);
  EXPECT_TRUE(errors_.empty());
}

TEST_F(Watch, RatesAreThoseOfTheCounters) {
  report_over_time(std::nullopt);
  EXPECT_EQ(watch_->contradictions(), 0u);
  EXPECT_GT(watch_->drop_rate(2).per_second(), 900);
  EXPECT_GT(watch_->service_rates(3).bytes_in.per_second(), 900'000);
}

TEST_F(Watch, NoRateIsOfWhatOthersWrote) {
  for (const uint64_t garbage : {uint64_t{1}, uint64_t{1} << 22, uint64_t{1} << 35, ~uint64_t{0}}) {
    TearDown();
    SetUp();
    errors_.clear();
    report_over_time(garbage);
    EXPECT_GT(watch_->contradictions(), 0u);
    ASSERT_EQ(errors_.size(), 1u) << "said once";
    EXPECT_NE(errors_[0].find("feedback"), std::string::npos) << errors_[0];
    const auto is_told = [this] {
      return std::ranges::any_of(watch_->warnings(), [](const std::string& text) {
        return text.find("contradicted") != std::string::npos;
      });
    };
    EXPECT_TRUE(is_told());
    EXPECT_GT(watch_->drop_rate(2).per_second(), 900);
    uint64_t now = 31'000'000'000;
    for (int i = 301; i < 450; ++i) {
      Feedback& feedback = writer_->begin();
      feedback.drops[2] = uint64_t{100} * i;
      feedback.services[3].bytes_in = uint64_t{100'000} * i;
      writer_->end();
      watch_->poll(kEpoch, 9, now += 100'000'000);
    }
    EXPECT_FALSE(is_told()) << "all agrees again";
  }
}

TEST_F(Watch, RatesBeginAnewWithTheDataplane) {
  report_over_time(std::nullopt);
  writer_.reset();
  writer_ = std::make_unique<FeedbackWriter>(dir_, "test");
  watch_->poll(kEpoch, 9, monotonic_ns());
  EXPECT_EQ(watch_->drop_rate(2).per_second(), 0);
  EXPECT_EQ(watch_->contradictions(), 0u) << "a restart contradicts nothing";
}

TEST_F(Watch, TextsOfTheFileDoNotCommandTheTerminal) {
  report([](Feedback& f) {
    f.header.adopted_generation = 8;
    f.header.refused_generation = 9;
    f.header.refused_count = 1;
    set_text(f.header.refused_text, "\x1b[2J\u202e");
  });
  ASSERT_EQ(errors_.size(), 1u);
  EXPECT_NE(errors_[0].find("\\x1b[2J\\u202e"), std::string::npos) << errors_[0];
}

TEST_F(Watch, KnowsWhichBackendsSend) {
  const auto count = [this](uint64_t packets) {
    report([=](Feedback& f) { f.backends[3].packets_out = packets; });
  };
  for (int i = 0; i < 3; ++i) count(5);
  EXPECT_FALSE(watch_->has_sent(3, monotonic_ns())) << "nobody knows when";
  for (const uint64_t spoiled : {~uint64_t{0}, uint64_t{7}, uint64_t{0}}) {
    for (const uint64_t packets : {spoiled, uint64_t{5}, uint64_t{5}}) {
      count(packets);
      EXPECT_FALSE(watch_->has_sent(3, monotonic_ns())) << spoiled << " is no dataplane's";
    }
  }
  count(6);
  count(6);
  const uint64_t now = monotonic_ns();
  EXPECT_TRUE(watch_->has_sent(3, now));
  EXPECT_FALSE(watch_->has_sent(4, now));
  EXPECT_FALSE(watch_->has_sent(3, now + 1'000'000'001)) << "not any more";
}

// An id that is given away too early has its flows go to another backend.
TEST_F(Watch, OneReadingSaysOfNoFlowThatItIsGone) {
  const auto gauges = [this](uint64_t flows, uint64_t used) {
    report([=](Feedback& f) {
      f.header.worker_count = 1;
      f.services[2].flows = f.backends[3].flows = flows;
      f.workers[0].nat_fullest_used = used;
    });
  };
  gauges(0, 1);
  EXPECT_NE(watch_->service_flows().flows(2), 0u) << "one reading alone";
  for (int i = 0; i < 2; ++i) gauges(8, 100);
  for (int i = 0; i < 3; ++i) {
    gauges(i == 0 ? 0 : 8, i == 0 ? ~uint64_t{0} : 100);
    EXPECT_NE(watch_->service_flows().flows(2), 0u);
    EXPECT_NE(watch_->backend_flows().flows(3), 0u);
    EXPECT_EQ(watch_->settled().workers[0].nat_fullest_used, 100u) << "after reading " << i;
  }
  gauges(0, 100);
  EXPECT_NE(watch_->backend_flows().flows(3), 0u);
  gauges(0, 100);
  EXPECT_EQ(watch_->backend_flows().flows(3), 0u);
  EXPECT_EQ(watch_->service_flows().flows(2), 0u);
}

// Which of two backends is the fullest changes from reading to reading.
TEST_F(Watch, TellsOfTheFullestEndpointByOneReading) {
  struct Fullest {
    uint32_t backend;
    uint64_t used, ports;
  };
  for (const Fullest& now : {Fullest{7, 900, 1000}, {3, 95, 100}, {5, 4000, 5000}}) {
    report([&](Feedback& f) {
      f.header.worker_count = 1;
      f.workers[0].nat_fullest_backend = now.backend;
      f.workers[0].nat_fullest_used = now.used;
      f.workers[0].nat_fullest_ports = now.ports;
    });
  }
  const WorkerFeedback& worker = watch_->settled().workers[0];
  EXPECT_EQ(worker.nat_fullest_backend, 7u);
  EXPECT_EQ(worker.nat_fullest_used, 900u);
  EXPECT_EQ(worker.nat_fullest_ports, 1000u);
}

TEST_F(Watch, NamesThePortsThatRun) {
  report([](Feedback& f) {
    f.header.port_count = 2;
    set_text(f.ports[0].name, "wan");
    set_text(f.ports[1].name, "lan");
  });
  EXPECT_EQ(watch_->ports(), (std::vector<std::string>{"wan", "lan"}));
  writer_.reset();
  watch_->poll(kEpoch, 9, monotonic_ns());
  EXPECT_TRUE(watch_->ports().empty()) << "nobody holds them any more";
}

}  // namespace
}  // namespace portico
