// SPDX-License-Identifier: Apache-2.0
#include "control/pool_rules.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

using Ids = std::set<uint16_t>;
constexpr uint64_t kSecond = 1'000'000'000;

Candidate up(uint16_t id) {
  return {.id = id, .weight = 100, .health = {.healthy = true, .known = true}};
}
Candidate down(uint16_t id) {
  return {.id = id, .weight = 100, .health = {.known = true, .down_since_ns = 100 * kSecond}};
}
Candidate with(Candidate candidate, Admin admin) {
  candidate.admin = admin;
  return candidate;
}

// Without zones and backups.
PoolDecision decide(const PoolConfig& pool, const std::vector<Candidate>& backends,
                    const std::set<uint16_t>& last_usable) {
  TierMemory memory;
  return decide_pool(pool, backends, last_usable, choose_tiers(pool, backends, 0, memory));
}

TEST(DecidePool, UsesHealthyActiveBackendsOfWeight) {
  auto weightless = up(5);
  weightless.weight = 0;
  const auto decision = decide(
      {}, {up(1), down(2), with(up(3), Admin::drained), with(up(4), Admin::held), weightless, up(6)}, {});
  EXPECT_EQ(decision.state, PoolState::normal);
  EXPECT_EQ(decision.usable, (Ids{1, 6}));
  EXPECT_EQ(decision.disposition(), PoolDisposition::serve);
}

TEST(DecidePool, KeepsTheLastUsableOnesWhenAllAreDown) {
  const auto decision = decide({}, {down(1), down(2), down(3)}, {2, 3, 9});
  EXPECT_EQ(decision.state, PoolState::kept_last);
  EXPECT_EQ(decision.usable, (Ids{2, 3}));
}

TEST(DecidePool, FallsBackToAllActiveOnesThenToDrainedOnesButNeverToHeldOnes) {
  EXPECT_EQ(decide({}, {down(1), down(2), with(down(3), Admin::drained)}, {}).usable, (Ids{1, 2}));
  EXPECT_EQ(decide({}, {with(up(3), Admin::drained), with(up(4), Admin::held)}, {4}).usable, (Ids{3}));
  const auto held = decide({}, {with(up(4), Admin::held)}, {4});
  EXPECT_EQ(held.state, PoolState::reset);
  EXPECT_TRUE(held.usable.empty());
}

TEST(DecidePool, RefusesOrDropsWhenToldTo) {
  PoolConfig pool;
  pool.all_down = AllDown::reset;
  EXPECT_EQ(decide(pool, {down(1)}, {1}).disposition(), PoolDisposition::reset);
  pool.all_down = AllDown::drop;
  EXPECT_EQ(decide(pool, {down(1)}, {1}).disposition(), PoolDisposition::drop);
}

TEST(DecidePool, PanicsBelowMinHealthyAndBeforeAllDown) {
  PoolConfig pool;
  pool.min_healthy_percent = 50;
  pool.all_down = AllDown::drop;
  EXPECT_EQ(decide(pool, {up(1), down(2)}, {}).state, PoolState::normal);
  const auto panic = decide(pool, {up(1), down(2), down(3), with(up(4), Admin::drained)}, {});
  EXPECT_EQ(panic.state, PoolState::normal) << "the drained one is healthy and counts";
  const auto few = decide(pool, {up(1), down(2), down(3), with(down(4), Admin::drained)}, {});
  EXPECT_EQ(few.state, PoolState::panic);
  EXPECT_EQ(few.usable, (Ids{1, 2, 3}));
  EXPECT_EQ(decide(pool, {down(1), down(2)}, {}).state, PoolState::panic);
}

Candidate unknown(uint16_t id) {
  return {.id = id, .weight = 100, .health = {}};
}

TEST(DecidePool, LeavesOutWhatHasNoResultYet) {
  PoolConfig pool;
  EXPECT_EQ(decide(pool, {up(1), unknown(2)}, {}).usable, Ids{1});
  EXPECT_EQ(decide(pool, {down(1), unknown(2)}, {1}).usable, Ids{1});
  pool.min_healthy_percent = 50;
  const auto added = decide(pool, {up(1), unknown(2), unknown(3)}, {});
  EXPECT_EQ(added.state, PoolState::normal);
  EXPECT_EQ(added.usable, Ids{1});
  const auto panic = decide(pool, {up(1), down(2), down(3), unknown(4)}, {});
  EXPECT_EQ(panic.state, PoolState::panic);
  EXPECT_EQ(panic.usable, (Ids{1, 2, 3}));
}

TEST(DecidePool, UsesAllWhereNothingIsKnown) {
  PoolConfig pool;
  pool.min_healthy_percent = 50;
  for (const AllDown all_down : {AllDown::keep_last, AllDown::reset, AllDown::drop}) {
    pool.all_down = all_down;
    const auto decision = decide(pool, {unknown(1), unknown(2), with(unknown(3), Admin::held)}, {});
    EXPECT_EQ(decision.state, PoolState::untested);
    EXPECT_EQ(decision.usable, (Ids{1, 2}));
    EXPECT_EQ(decision.disposition(), PoolDisposition::serve);
  }
  pool.all_down = AllDown::keep_last;
  const auto kept = decide(pool, {unknown(1), unknown(2)}, {2, 7});
  EXPECT_EQ(kept.state, PoolState::kept_last);
  EXPECT_EQ(kept.usable, Ids{2}) << "a restarted control knows who served";
  pool.all_down = AllDown::reset;
  pool.min_healthy_percent = 0;
  EXPECT_EQ(decide(pool, {down(1), unknown(2)}, {}).state, PoolState::reset);
}

TEST(DecidePool, DoesNotCountHeldBackendsForMinHealthy) {
  PoolConfig pool;
  pool.min_healthy_percent = 60;
  EXPECT_EQ(decide(pool, {up(1), with(down(2), Admin::held)}, {}).state, PoolState::normal);
}

TEST(KeepLastWindow, IsTwiceWhatTheSlowestCheckTakes) {
  using std::chrono::milliseconds;
  PoolConfig pool;
  pool.checks = {{.interval = milliseconds(2000), .timeout = milliseconds(1000), .fall = 2},
                 {.interval = milliseconds(100), .timeout = milliseconds(5000), .fall = 1}};
  EXPECT_EQ(keep_last_window_ns(pool), 10'200'000'000u);
}

class KeptLast : public ::testing::Test {
 protected:
  static constexpr uint64_t kWindow = 10 * kSecond;
  void note(const Ids& usable, uint64_t now) { last_.note(usable, now, kWindow); }
  Ids kept(uint64_t now) { return last_.kept(now, kWindow); }
  LastUsable last_;
};

TEST_F(KeptLast, AreAllThatFailedTogetherForAsLongAsAllAreDown) {
  note({1, 2, 3}, kSecond);
  note({2, 3}, 100 * kSecond);
  note({3}, 200 * kSecond);
  note({}, 200 * kSecond + 5'000'000);
  EXPECT_EQ(kept(200 * kSecond + 5'000'000), (Ids{2, 3})) << "1 had failed long before";
  note({}, 900 * kSecond);
  EXPECT_EQ(kept(900 * kSecond), (Ids{2, 3}));
}

TEST_F(KeptLast, AreAskedForBeforeTheLossIsNoted) {
  note({1, 2}, kSecond);
  note({2}, 100 * kSecond);
  EXPECT_EQ(kept(100 * kSecond + kWindow), (Ids{1, 2}));
  EXPECT_EQ(kept(100 * kSecond + kWindow + 1), Ids{2});
}

TEST_F(KeptLast, OutliveAMomentOfRecovery) {
  note({1, 2}, kSecond);
  note({}, 100 * kSecond);
  note({2}, 200 * kSecond);
  note({}, 200 * kSecond + 1);
  EXPECT_EQ(kept(200 * kSecond + 1), (Ids{1, 2})) << "2 was up for a moment, 1 was not yet seen to be";
  note({2}, 300 * kSecond);
  note({}, 301 * kSecond + kWindow);
  EXPECT_EQ(kept(400 * kSecond), Ids{2});
}

TEST_F(KeptLast, ForgetOneThatIsLateAgainAndAgain) {
  note({1, 2}, kSecond);
  note({2}, 100 * kSecond);  // 1 dies for good
  for (uint64_t now = 105 * kSecond; now < 200 * kSecond; now += 8 * kSecond) {
    note({}, now);
    EXPECT_EQ(kept(now).contains(1), now < 120 * kSecond) << now / kSecond;
    note({2}, now + 3 * kSecond);
  }
  note({1, 2}, 300 * kSecond);
  note({2}, 400 * kSecond);
  note({}, 401 * kSecond);
  EXPECT_EQ(kept(401 * kSecond), (Ids{1, 2})) << "it was back since";
  note({2}, 420 * kSecond);
  note({}, 425 * kSecond);
  EXPECT_EQ(kept(425 * kSecond), (Ids{1, 2})) << "and late once only";
}

TEST_F(KeptLast, ContinueOverARestart) {
  last_.recover({1, 2}, {3}, kSecond);
  EXPECT_EQ(last_.left_ns(3), kSecond) << "its flows are still in doubt";
  EXPECT_EQ(kept(kSecond), (Ids{1, 2}));
  note({}, kSecond);
  EXPECT_EQ(kept(2 * kSecond), (Ids{1, 2}));
}

class DecideFlows : public ::testing::Test {
 protected:
  FlowDecision decide(const Candidate& backend, uint64_t now = 101 * kSecond) {
    return decide_flows(pool_, backend, decision_, {80, 443}, now);
  }
  PoolConfig pool_{.reset_after = std::chrono::seconds(30)};
  PoolDecision decision_{PoolState::normal, {7}};
};

TEST_F(DecideFlows, ResetsARefusedServicePortAndLetsTheRestFinish) {
  auto backend = down(1);
  backend.health.refused_ports = {8080, 443};
  const auto flows = decide(backend);
  EXPECT_EQ(flows.disposition, BackendDisposition::finish);
  EXPECT_EQ(flows.reset_ports, std::vector<uint16_t>{443}) << "no service sends flows to 8080";
  EXPECT_EQ(flows.next_change_ns, 130 * kSecond);
}

TEST_F(DecideFlows, ResetsAllOfAnUnreachableHost) {
  auto backend = down(1);
  backend.health.unreachable = true;
  EXPECT_EQ(decide(backend).disposition, BackendDisposition::reset);
}

TEST_F(DecideFlows, ResetsWhatHasNotFinishedAfterResetAfter) {
  EXPECT_EQ(decide(down(1), 130 * kSecond - 1).disposition, BackendDisposition::finish);
  EXPECT_EQ(decide(down(1), 130 * kSecond).disposition, BackendDisposition::reset);
}

TEST_F(DecideFlows, ForwardsWhatIsUpUnknownSetAsideOrStillUsed) {
  auto gone = down(1);
  gone.health.unreachable = true;
  auto weightless = gone;
  weightless.weight = 0;
  auto used = gone;
  used.id = 7;
  for (const Candidate& backend : {up(1), Candidate{.id = 1, .weight = 1}, with(gone, Admin::drained),
                                   with(gone, Admin::held), weightless, used})
    EXPECT_EQ(decide(backend).disposition, BackendDisposition::forward);
}

TEST_F(DecideFlows, ResetAndKeepArePlain) {
  pool_.on_backend_down = OnBackendDown::reset;
  EXPECT_EQ(decide(down(1)).disposition, BackendDisposition::reset);
  pool_.on_backend_down = OnBackendDown::keep;
  EXPECT_EQ(decide(down(1), 1000 * kSecond).disposition, BackendDisposition::forward);
}

TEST_F(DecideFlows, ResetsAllWhenMorePortsRefuseThanARecordHolds) {
  auto backend = down(1);
  std::set<uint16_t> ports;
  for (uint16_t port = 1; port <= kMaxResetPorts + 1; ++port) {
    ports.insert(port);
    backend.health.refused_ports.push_back(port);
  }
  EXPECT_EQ(decide_flows(pool_, backend, decision_, ports, 101 * kSecond).disposition,
            BackendDisposition::reset);
}

// Down because nothing answered the probe that began at `silent_s`.
Candidate silent(uint16_t id, int64_t silent_s) {
  Candidate backend = down(id);
  backend.health.unreachable = true;
  backend.health.hearing.silent_ns = silent_s * static_cast<int64_t>(kSecond);
  return backend;
}
// Answers to the probes from `first_s` to `last_s`, and in between.
Candidate answering(Candidate backend, int64_t first_s, int64_t last_s) {
  backend.health.hearing.answered_since_ns = first_s * static_cast<int64_t>(kSecond);
  backend.health.hearing.answered_ns = last_s * static_cast<int64_t>(kSecond);
  return backend;
}

bool doubt(const Candidate& backend, const std::vector<Candidate>& all) {
  return is_in_doubt(backend, Answers(all));
}

TEST(Doubt, LastsUntilAnotherIsHeardBeforeAndAfterTheSilence) {
  EXPECT_TRUE(doubt(silent(1, 100), {silent(1, 100), answering(up(2), 1, 99)}));
  EXPECT_FALSE(doubt(silent(1, 100), {silent(1, 100), answering(up(2), 1, 101)}));
  EXPECT_TRUE(doubt(silent(1, 100), {silent(1, 100), answering(up(2), 105, 109)}))
      << "2 may have been out of reach, too";
  EXPECT_TRUE(doubt(silent(1, 100), {silent(1, 100), silent(2, 101)}));
  EXPECT_TRUE(doubt(silent(1, 100), {silent(1, 100)}));
  EXPECT_FALSE(doubt(down(1), {down(1)})) << "the backend has said what is wrong with it";
  const Candidate half = answering(silent(1, 100), 1, 101);
  EXPECT_FALSE(doubt(half, {half})) << "another port of its own answers";
}

TEST(Doubt, FindsTheRowAmongMany) {
  std::vector<Candidate> all = {
      silent(1, 100),           answering(up(2), 90, 95),   answering(up(3), 50, 120),
      answering(up(4), 60, 70), answering(up(5), 100, 100), answering(up(6), 101, 200)};
  const Answers answers(all);
  const auto second = [](int64_t s) { return s * static_cast<int64_t>(kSecond); };
  for (const int64_t s : {50, 75, 95, 100, 120, 150, 200}) EXPECT_TRUE(answers.surround(second(s))) << s;
  for (const int64_t s : {1, 49, 201}) EXPECT_FALSE(answers.surround(second(s))) << s;
  all.erase(all.begin() + 2);
  EXPECT_FALSE(Answers(all).surround(second(98)));
  EXPECT_TRUE(Answers(all).surround(second(100)));
  EXPECT_FALSE(Answers({}).surround(second(1)));
}

TEST_F(DecideFlows, LeavesFlowsAloneWhileInDoubt) {
  const Candidate backend = silent(1, 100);
  const auto decide_in_doubt = [&](uint64_t now) {
    return decide_flows(pool_, backend, decision_, {80, 443}, now, 110 * kSecond);
  };
  EXPECT_EQ(decide_in_doubt(101 * kSecond).disposition, BackendDisposition::forward);
  EXPECT_EQ(decide_in_doubt(101 * kSecond).next_change_ns, 101 * kSecond + kSecond / 10);
  EXPECT_EQ(decide_in_doubt(110 * kSecond - 1).next_change_ns, 110 * kSecond);
  EXPECT_EQ(decide_in_doubt(110 * kSecond).disposition, BackendDisposition::reset);
  pool_.on_backend_down = OnBackendDown::reset;
  EXPECT_EQ(decide_in_doubt(101 * kSecond).disposition, BackendDisposition::forward);
}

TEST_F(KeptLast, KnowWhenTheyLastTookFlows) {
  EXPECT_EQ(last_.left_ns(1), std::nullopt);
  note({1, 2}, kSecond);
  EXPECT_EQ(last_.left_ns(1), std::nullopt);
  note({2}, 100 * kSecond);
  EXPECT_EQ(last_.left_ns(1), 100 * kSecond);
  note({}, 103 * kSecond);
  EXPECT_EQ(last_.left_ns(2), 103 * kSecond);
  note({}, 150 * kSecond);
  EXPECT_EQ(last_.left_ns(2), 103 * kSecond) << "not again while all are down";
  note({2}, 200 * kSecond);
  EXPECT_EQ(last_.left_ns(1), 200 * kSecond) << "it was kept until now";
  EXPECT_EQ(last_.left_ns(2), std::nullopt);
  note({2}, 211 * kSecond);
  EXPECT_EQ(last_.left_ns(1), std::nullopt) << "longer ago than the window";
}

TEST(DecidePool, UsesADampedBackendOnlyWhereNoOtherIsUp) {
  Candidate restless = up(1);
  restless.damped = true;
  EXPECT_EQ(decide({}, {restless, up(2)}, {}).usable, (Ids{2}));
  const auto alone = decide({}, {restless, down(2)}, {});
  EXPECT_EQ(alone.state, PoolState::normal);
  EXPECT_EQ(alone.usable, (Ids{1}));
}

TEST(DecideFlowsInHaste, ABackendKeepsItsFlows) {
  Candidate late = down(1);
  late.health.unreachable = late.health.unconfirmed = true;
  const PoolDecision others{PoolState::normal, {2}};
  for (const OnBackendDown rule : {OnBackendDown::automatic, OnBackendDown::reset}) {
    PoolConfig pool;
    pool.on_backend_down = rule;
    late.health.unconfirmed = true;
    EXPECT_EQ(decide_flows(pool, late, others, {80}, 200 * kSecond).disposition, BackendDisposition::forward);
    late.health.unconfirmed = false;
    EXPECT_EQ(decide_flows(pool, late, others, {80}, 200 * kSecond).disposition, BackendDisposition::reset);
  }
}

TEST(DecideFlowsAtDeadline, ADrainsDeadlineResetsWhatIsLeft) {
  Candidate drained = with(up(1), Admin::drained);
  drained.reset_at_ns = 200 * kSecond;
  const PoolDecision others{PoolState::normal, {2}}, last_resort{PoolState::kept_last, {1}};
  const FlowDecision before = decide_flows({}, drained, others, {80}, 199 * kSecond);
  EXPECT_EQ(before.disposition, BackendDisposition::forward);
  EXPECT_EQ(before.next_change_ns, 200 * kSecond);
  EXPECT_EQ(decide_flows({}, drained, others, {80}, 200 * kSecond).disposition, BackendDisposition::reset);
  EXPECT_EQ(decide_flows({}, drained, last_resort, {80}, 200 * kSecond).disposition,
            BackendDisposition::forward);
  drained.admin = Admin::active;
  EXPECT_EQ(decide_flows({}, drained, others, {80}, 200 * kSecond).disposition, BackendDisposition::forward);
}

}  // namespace
}  // namespace portico
