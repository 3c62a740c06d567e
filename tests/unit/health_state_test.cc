// SPDX-License-Identifier: Apache-2.0
#include "control/checks/check_state.h"
#include "control/checks/flap_damping.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "control/checks/check_plan.h"
#include "control/checks/health.h"

namespace portico {
namespace {

using enum CheckState;

// One row: state and results in a row so far, a result, what comes of it, with fall 3 and rise 2.
struct Step {
  CheckState before;
  uint32_t so_far;
  ProbeOutcome outcome;
  CheckState after;
  uint32_t consecutive;
};

constexpr ProbeOutcome kGood = ProbeOutcome::success, kBad = ProbeOutcome::failure;

TEST(CheckMachine, FollowsItsTable) {
  const Step steps[] = {
      {unknown, 0, kGood, up, 1},    {unknown, 0, kBad, down, 1},    {up, 1, kGood, up, 2},
      {up, 7, kBad, failing, 1},     {failing, 1, kBad, failing, 2}, {failing, 2, kBad, down, 3},
      {failing, 2, kGood, up, 1},    {down, 3, kBad, down, 4},       {down, 9, kGood, recovering, 1},
      {recovering, 1, kGood, up, 2}, {recovering, 1, kBad, down, 1},
  };
  for (const Step& step : steps) {
    const CheckProgress after = advance({step.before, step.so_far}, step.outcome, {.fall = 3, .rise = 2});
    EXPECT_EQ(after.state, step.after) << to_string(step.before);
    EXPECT_EQ(after.consecutive, step.consecutive) << to_string(step.before);
  }
}

TEST(CheckMachine, ThresholdsOfOneSkipTheStatesBetween) {
  const CheckThresholds at_once{.fall = 1, .rise = 1};
  EXPECT_EQ(advance({up, 5}, kBad, at_once), (CheckProgress{down, 1}));
  EXPECT_EQ(advance({down, 5}, kGood, at_once), (CheckProgress{up, 1}));
}

TEST(CheckMachine, EveryKindOfFailureCountsAsOne) {
  for (const ProbeOutcome outcome :
       {ProbeOutcome::failure, ProbeOutcome::refused, ProbeOutcome::unreachable, ProbeOutcome::timeout}) {
    EXPECT_EQ(advance({up, 5}, outcome, {}), (CheckProgress{failing, 1}));
    EXPECT_EQ(advance({failing, 1}, outcome, {}), (CheckProgress{down, 2}));
  }
}

TEST(CheckMachine, InconclusiveChangesNothing) {
  for (const CheckState state : {unknown, up, failing, down, recovering})
    EXPECT_EQ(advance({state, 1}, ProbeOutcome::inconclusive, {}), (CheckProgress{state, 1}));
}

TEST(CheckMachine, ALoweredThresholdHoldsForResultsAlreadyCounted) {
  EXPECT_EQ(advance({failing, 4}, kBad, {.fall = 2, .rise = 2}).state, down);
}

TEST(CheckMachine, CountsWithoutWrappingAround) {
  constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();
  EXPECT_EQ(advance({up, kMost}, kGood, {}).consecutive, kMost);
  EXPECT_EQ(advance({down, kMost}, kBad, {}).consecutive, kMost);
}

TEST(CheckMachine, OnlyUpAndFailingPass) {
  EXPECT_TRUE(passes(up) && passes(failing));
  EXPECT_FALSE(passes(unknown) || passes(down) || passes(recovering));
}

TEST(Hearing, RemembersARowOfAnswersAndTheSilenceThatTookACheckDown) {
  struct Probed {
    ProbeOutcome outcome;
    CheckState before, after;
    Hearing heard;  // of the probe that began at 10, 20, ...
    bool unanswered = is_silence(outcome);
  };
  const Probed probes[] = {
      {kGood, up, up, {10, 10, 0}},
      {kGood, up, up, {10, 20, 0}},
      {ProbeOutcome::inconclusive, up, up, {10, 20, 0}},
      {ProbeOutcome::timeout, up, failing, {0, 0, 40}},
      {ProbeOutcome::unreachable, failing, down, {0, 0, 50}},
      {ProbeOutcome::timeout, down, down, {0, 0, 50}},         // it was down already
      {kGood, down, recovering, {70, 70, 50}},                 // not up yet
      {ProbeOutcome::refused, recovering, down, {70, 80, 0}},  // now the target itself says so
      {ProbeOutcome::timeout, down, down, {0, 0, 90}},
      {ProbeOutcome::failure, down, down, {100, 100, 0}},
      {ProbeOutcome::failure, down, down, {0, 0, 110}, /*unanswered=*/true},  // connected, and then nothing
      {kGood, recovering, up, {120, 120, 0}},
  };
  Hearing hearing;
  int64_t began_ns = 0;
  for (const Probed& step : probes) {
    hearing.note(step.outcome, step.unanswered, step.before, step.after, began_ns += 10);
    EXPECT_EQ(hearing, step.heard) << "at " << began_ns;
  }
}

Address ip(const char* text) {
  return *Address::parse(text);
}

// A dual-stack backend whose pool serves HTTPS over both families and MySQL over IPv4 alone.
Config dual_stack_config() {
  Config config;
  ServiceConfig https{.name = "https", .pool = "portals"};
  https.listen = {{ip("198.18.0.10"), 443}, {ip("2001:db8::10"), 443}};
  ServiceConfig mysql{.name = "mysql", .pool = "portals", .backend_port = 3307};
  mysql.listen = {{ip("198.18.0.10"), 3306}};
  config.services = {https, mysql};
  PoolConfig pool{.name = "portals"};
  pool.backends = {{.name = "portal-1", .v4 = ip("198.18.1.1"), .v6 = ip("2001:db8:1::1")}};
  pool.checks = {{.name = "https", .port = 443},
                 {.name = "mysql", .kind = CheckKind::mysql, .port = 3307},
                 {.name = "files", .port = 2049}};
  config.pools = {pool};
  return config;
}

std::string plan_text(const Config& config) {
  std::string text;
  for (const PlannedCheck& plan : plan_checks(config, config.pools[0], config.pools[0].backends[0]))
    text += plan.check->name + " " + to_string(plan.target.address) + " " + std::to_string(plan.target.port) +
            (plan.own_address ? "\n" : " elsewhere\n");
  return text;
}

TEST(CheckPlan, ChecksTheFamiliesInWhichAPortServes) {
  EXPECT_EQ(plan_text(dual_stack_config()),
            "https 198.18.1.1 443\nhttps 2001:db8:1::1 443\n"
            "mysql 198.18.1.1 3307\n"
            "files 198.18.1.1 2049\nfiles 2001:db8:1::1 2049\n");
}

TEST(CheckPlan, ChecksWhatAddressTheBackendHas) {
  Config config = dual_stack_config();
  config.pools[0].backends[0].v4.reset();
  EXPECT_EQ(plan_text(config),
            "https 2001:db8:1::1 443\nmysql 2001:db8:1::1 3307\nfiles 2001:db8:1::1 2049\n");
}

TEST(CheckPlan, GoesWhereTheBackendSays) {
  Config config = dual_stack_config();
  BackendConfig& backend = config.pools[0].backends[0];
  backend.check_address = ip("198.18.9.1");
  backend.check_addresses = {{"mysql", {ip("198.18.9.2"), 3306}}, {"files", {ip("198.18.9.3"), 0}}};
  EXPECT_EQ(plan_text(config),
            "https 198.18.9.1 443 elsewhere\nmysql 198.18.9.2 3306 elsewhere\nfiles 198.18.9.3 2049 "
            "elsewhere\n");
}

TEST(HealthSnapshotText, ReadsWhatItWrote) {
  HealthSnapshot snapshot;
  snapshot.checks.push_back({"portals",
                             "portal-1",
                             "mysql",
                             {ip("2001:db8::1"), 3306},
                             {recovering, 1},
                             ProbeOutcome::refused,
                             "\"Too many\xff connections\""});
  snapshot.backends.push_back({"portals", "portal-1", HealthState::down, 1234567890123456789});
  const auto read = parse_health_snapshot(to_json_text(snapshot));
  ASSERT_TRUE(read);
  ASSERT_EQ(read->checks.size(), 1u);
  EXPECT_EQ(read->checks[0].name, "mysql");
  EXPECT_EQ(read->checks[0].target, snapshot.checks[0].target);
  EXPECT_EQ(read->checks[0].progress, snapshot.checks[0].progress);
  EXPECT_EQ(read->checks[0].last_outcome, ProbeOutcome::refused);
  ASSERT_EQ(read->backends.size(), 1u);
  EXPECT_EQ(read->backends[0].state, HealthState::down);
  EXPECT_EQ(read->backends[0].since_realtime_ns, 1234567890123456789);
}

TEST(HealthSnapshotText, RefusesWhatIsNone) {
  const std::string good = to_json_text(HealthSnapshot{});
  EXPECT_TRUE(parse_health_snapshot(good));
  for (const char* text : {"", "{}", "[]", "nonsense", R"({"format":2,"checks":[],"backends":[]})",
                           R"({"format":1,"checks":[{}],"backends":[]})", R"({"format":1,"checks":3})",
                           (R"({"format":1,"checks":[],"backends":[{"pool":"p","backend":"b","state":9,)"
                            R"("since_realtime_ns":0}]})")})
    EXPECT_FALSE(parse_health_snapshot(text)) << text;
}

TEST(FlapDamping, EachFallAddsOneAndTimeHalves) {
  const FlapRule rule{.limit = 0, .half_life_ns = 1000};
  FlapState state = after_fall({}, rule, 0);
  EXPECT_DOUBLE_EQ(penalty_at(state, rule, 0), 1);
  EXPECT_DOUBLE_EQ(penalty_at(state, rule, 2000), 0.25);
  state = after_fall(state, rule, 1000);
  EXPECT_DOUBLE_EQ(state.penalty, 1.5);
  for (int i = 0; i < 1000; ++i) state = after_fall(state, rule, 1000);
  EXPECT_DOUBLE_EQ(state.penalty, 100);
  EXPECT_EQ(state.damped_until_ns, 0) << "nobody asked for it";
}

TEST(FlapDamping, LastsUntilHalfTheLimitAndNoLongerThanTwoHalfLives) {
  const FlapRule rule{.limit = 4, .half_life_ns = 1000};
  FlapState state;
  for (int i = 0; i < 3; ++i) state = after_fall(state, rule, 0);
  EXPECT_EQ(state.damped_until_ns, 0);
  state = after_fall(state, rule, 0);
  EXPECT_EQ(state.damped_until_ns, 1000);
  EXPECT_DOUBLE_EQ(penalty_at(state, rule, state.damped_until_ns), 2);
  for (int i = 0; i < 100; ++i) state = after_fall(state, rule, 500);
  EXPECT_EQ(state.damped_until_ns, 500 + 2000);
  const FlapState calm = after_fall({.penalty = 1, .at_ns = 0, .damped_until_ns = 900}, rule, 500);
  EXPECT_EQ(calm.damped_until_ns, 900) << "a fall does not end it";
}

}  // namespace
}  // namespace portico
