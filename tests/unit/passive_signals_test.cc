// SPDX-License-Identifier: Apache-2.0
#include "control/passive_signals.h"

#include <gtest/gtest.h>

#include <memory>

namespace portico {
namespace {

constexpr uint64_t kMs = 1'000'000, kSecond = 1000 * kMs;

class Passive : public testing::Test {
 protected:
  explicit Passive(size_t backends = 2) {
    config_.pools = {{.name = "p"}};
    for (size_t i = 0; i < backends; ++i)
      config_.pools[0].backends.push_back(
          {.name = "b" + std::to_string(i), .v4 = Address::parse("192.0.2.1")});
    config_.pools[0].checks = {{.name = "c", .port = 80}};
    follow();
    feedback_->header.epoch = 7;
    EXPECT_EQ(look(), "");
  }
  void follow() {
    ASSERT_FALSE(ids_.sync(config_));
    signals_.follow(config_, ids_);
  }
  BackendFeedback& of(size_t i) { return feedback_->backends[id(i)]; }
  uint16_t id(size_t i) const { return ids_.backend("p", config_.pools[0].backends[i]); }
  // Who is probed, as "b0 (why) ".
  std::string look(uint64_t later_ns = kSecond) {
    now_ns_ += later_ns;
    std::string who;
    signals_.look(*feedback_, now_ns_, [&](const PassiveSignal& signal) {
      who += signal.backend + " (" + signal.text() + ")" + (signal.is_news ? "! " : " ");
      return checks_;
    });
    return who;
  }
  size_t count(uint64_t later_ns) {
    now_ns_ += later_ns;
    size_t n = 0;
    signals_.look(*feedback_, now_ns_, [&](const PassiveSignal&) { return ++n, 1; });
    return n;
  }

  Config config_;
  Ids ids_;
  std::unique_ptr<Feedback> feedback_ = std::make_unique<Feedback>();
  PassiveSignals signals_;
  uint64_t now_ns_ = 1000 * kSecond;
  uint32_t checks_ = 1;
};

TEST_F(Passive, EachKindOfSignalHasItsBackendProbedOnce) {
  of(1).syns_unanswered = 2;
  EXPECT_EQ(look(), "b1 (2 SYNs without answer)! ");
  EXPECT_EQ(look(), "");
  of(0).syn_repeats = 1;
  EXPECT_EQ(look(), "b0 (1 SYN sent again)! ");
  of(0).syns_refused = 1;
  of(0).syns_unanswered = 1;
  EXPECT_EQ(look(), "b0 (1 SYN without answer, 1 SYN refused) ") << "it was told of a moment ago";
  EXPECT_EQ(signals_.probes(id(0)), 2u);
  EXPECT_EQ(signals_.probes(id(1)), 1u);
  of(0).new_flows = of(0).resets_received = 9;
  EXPECT_EQ(look(PassiveSignals::kTellAgainNs), "");
  ++of(0).syns_refused;
  EXPECT_EQ(look(), "b0 (1 SYN refused)! ");
}

TEST_F(Passive, AFloodOfSynsMakesNoStormOfProbes) {
  size_t probes = 0;
  for (int i = 0; i < 1000; ++i) {
    of(0).syn_repeats += 1000;
    probes += count(10 * kMs);
  }
  EXPECT_EQ(probes, 50u) << "ten seconds, one in 200 ms";
  of(0).syn_repeats += 1;
  EXPECT_EQ(count(0), 0u);
  EXPECT_EQ(count(PassiveSignals::kPauseNs), 1u) << "what came in the pause is not forgotten";
}

TEST_F(Passive, NoFasterThanTheFastIntervalOfItsChecks) {
  config_.pools[0].checks[0].fast_interval = Milliseconds{1500};
  follow();
  size_t probes = 0;
  for (int i = 0; i < 100; ++i) {
    ++of(0).syn_repeats;
    probes += count(30 * kMs);
  }
  EXPECT_EQ(probes, 2u);
}

TEST_F(Passive, WhatIsDownCostsNothing) {
  checks_ = 0;
  of(0).syns_unanswered = 5;
  EXPECT_EQ(look(), "b0 (5 SYNs without answer)! ");
  EXPECT_EQ(signals_.probes(id(0)), 0u);
  checks_ = 1;
  of(0).syns_unanswered = 6;
  EXPECT_EQ(look(kMs), "b0 (1 SYN without answer)! ") << "there is no pause after nothing";
}

TEST_F(Passive, OffIsOff) {
  config_.pools[0].passive_probe = false;
  follow();
  of(0).syns_unanswered = 5;
  EXPECT_EQ(look(), "");
}

TEST_F(Passive, ARestartedDataplaneCountsFromNothing) {
  of(0).syns_unanswered = 5;
  EXPECT_NE(look(), "");
  feedback_->header.epoch = 8;
  of(0).syns_unanswered = 0;
  EXPECT_EQ(look(), "");
  of(0).syns_unanswered = 2;
  EXPECT_EQ(look(), "b0 (2 SYNs without answer) ");
  of(0).syns_unanswered = 1;
  EXPECT_EQ(look(), "") << "counters do not go back; who writes that, triggers nothing";
}

TEST_F(Passive, OfTheFirstReadingNothingIsNew) {
  PassiveSignals later;
  later.follow(config_, ids_);
  of(0).syns_unanswered = 5;
  size_t n = 0;
  const auto probe = [&](const PassiveSignal&) { return ++n, 1; };
  later.look(*feedback_, now_ns_, probe);
  EXPECT_EQ(n, 0u);
  ++of(0).syns_unanswered;
  later.look(*feedback_, now_ns_, probe);
  EXPECT_EQ(n, 1u);
}

class ManyPassive : public Passive {
 protected:
  ManyPassive() : Passive(1000) {}
};

// SYNs for a thousand backends, from addresses that nobody has.
TEST_F(ManyPassive, AllTogetherAreBoundedAndAllHaveTheirTurn) {
  for (size_t i = 0; i < 1000; ++i) of(i).syn_repeats = 1;
  EXPECT_EQ(count(kSecond), PassiveSignals::kBurst);
  size_t probed = PassiveSignals::kBurst;
  for (int i = 0; i < 200; ++i) {
    // The first of them never rest.
    for (size_t k = 0; k < 100; ++k) ++of(k).syn_repeats;
    probed += count(20 * kMs);
  }
  EXPECT_LE(probed, PassiveSignals::kBurst + 4 * PassiveSignals::kPerSecond + 1);
  for (size_t i = 0; i < 1000; ++i) EXPECT_GE(signals_.probes(id(i)), 1u) << i;
}

}  // namespace
}  // namespace portico
