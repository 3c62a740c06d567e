// SPDX-License-Identifier: Apache-2.0
// Zones and backups: who takes new flows, and for how long others help.
#include "control/pool_tiers.h"

#include <gtest/gtest.h>

#include <random>

#include "control/pool_rules.h"

namespace portico {
namespace {

using namespace std::chrono_literals;
using Ids = std::set<uint16_t>;
constexpr uint64_t kSecond = 1'000'000'000;

Candidate here(uint16_t id, bool healthy = true) {
  return {.id = id, .weight = 100, .health = {.healthy = healthy, .known = true}};
}
Candidate away(uint16_t id, bool healthy = true) {
  Candidate candidate = here(id, healthy);
  candidate.is_local = false;
  return candidate;
}
Candidate backup(Candidate candidate) {
  candidate.is_backup = true;
  return candidate;
}
Candidate with(Candidate candidate, Admin admin) {
  candidate.admin = admin;
  return candidate;
}

class PoolTiers : public testing::Test {
 protected:
  TierChoice choose(uint64_t second, const std::vector<Candidate>& backends) {
    return choose_tiers(pool_, backends, second * kSecond, memory_);
  }

  PoolConfig pool_{.name = "portals"};
  TierMemory memory_;
};

TEST_F(PoolTiers, TheOwnZoneFirstAndTheOthersWait) {
  const TierChoice choice = choose(1, {here(1), here(2), away(3), away(4, false)});
  EXPECT_EQ(choice.chosen, (Ids{1, 2}));
  EXPECT_EQ(choice.standby, Ids{3});
  EXPECT_FALSE(choice.spills || choice.uses_backups);
  EXPECT_EQ(choice.local_percent, 100u);
}

TEST_F(PoolTiers, AllAreUsedWhereTheOwnZoneHasNone) {
  EXPECT_EQ(choose(1, {away(3), away(4)}).chosen, (Ids{3, 4}));
  EXPECT_EQ(choose(1, {away(3), away(4)}).spills, false) << "nothing is missing";
  EXPECT_EQ(choose(1, {here(1, false), here(2, false), here(5)}).spills, false) << "there is no other zone";
  Candidate weightless = here(1);
  weightless.weight = 0;
  EXPECT_EQ(choose(1, {weightless, away(3)}).chosen, Ids{3});
}

TEST_F(PoolTiers, OthersHelpBelowTheThresholdByWeight) {
  Candidate large = here(1, false);
  large.weight = 300;
  const TierChoice spilled = choose(1, {large, here(2), here(3), away(4)});
  EXPECT_EQ(spilled.chosen, (Ids{2, 3, 4})) << "200 of 500 are left";
  EXPECT_TRUE(spilled.spills);
  EXPECT_EQ(spilled.local_percent, 40u);
  memory_ = {};
  large.weight = 200;
  EXPECT_EQ(choose(1, {large, here(2), here(3), away(4)}).chosen, (Ids{2, 3})) << "50% is not less than 50%";
  pool_.spill_below_percent = 0;
  EXPECT_EQ(choose(1, {large, here(2, false), here(3), away(4)}).chosen, Ids{3});
  EXPECT_EQ(choose(1, {large, here(2, false), here(3, false), away(4)}).chosen, Ids{4}) << "none is left";
}

TEST_F(PoolTiers, WhoIsDrainedHeldOrRestlessIsMissingInHisZone) {
  for (const Admin admin : {Admin::drained, Admin::held}) {
    memory_ = {};
    EXPECT_EQ(choose(1, {with(here(1), admin), with(here(2), admin), here(3), away(4)}).chosen, (Ids{3, 4}));
  }
  memory_ = {};
  Candidate restless = here(1);
  restless.damped = true;
  EXPECT_EQ(choose(1, {restless, away(4)}).chosen, Ids{4});
  Candidate unknown = here(2, false);
  unknown.health.known = false;
  memory_ = {};
  EXPECT_EQ(choose(1, {here(1), unknown, unknown, away(4)}).chosen, Ids{1}) << "new ones are not missing yet";
}

TEST_F(PoolTiers, ComesBackOnceTheZoneHasBeenWellForTheHold) {
  const std::vector<Candidate> well = {here(1), here(2), away(3)};
  const std::vector<Candidate> low = {here(1, false), here(2, false), away(3)};
  EXPECT_EQ(choose(10, low).chosen, Ids{3});
  const TierChoice held = choose(20, well);
  EXPECT_EQ(held.chosen, (Ids{1, 2, 3}));
  EXPECT_TRUE(held.spills);
  EXPECT_EQ(held.next_change_ns, 50 * kSecond);
  EXPECT_EQ(choose(40, low).next_change_ns, std::nullopt);
  EXPECT_EQ(choose(41, well).next_change_ns, 71 * kSecond) << "it begins anew: no flapping";
  EXPECT_EQ(choose(70, well).chosen, (Ids{1, 2, 3}));
  const TierChoice back = choose(71, well);
  EXPECT_EQ(back.chosen, (Ids{1, 2}));
  EXPECT_FALSE(back.spills);
  pool_.spill_hold = 0s;
  choose(80, low);
  EXPECT_EQ(choose(81, well).chosen, (Ids{1, 2}));
}

TEST_F(PoolTiers, BackupsWaitUntilNoPrimaryIsUsableAnywhere) {
  const TierChoice choice = choose(1, {here(1), backup(here(2))});
  EXPECT_EQ(choice.chosen, Ids{1});
  EXPECT_EQ(choice.standby, Ids{2});
  EXPECT_EQ(choose(1, {here(1, false), away(3), backup(here(2))}).chosen, Ids{3})
      << "another zone goes before";
  const TierChoice backups = choose(1, {here(1, false), away(3, false), backup(here(2)), backup(away(4))});
  EXPECT_EQ(backups.chosen, Ids{2}) << "of backups, too, the own zone's first";
  EXPECT_EQ(backups.standby, Ids{4});
  EXPECT_TRUE(backups.uses_backups);
  EXPECT_EQ(choose(2, {here(1), away(3), backup(here(2))}).standby.contains(2), true) << "at once";
}

TEST_F(PoolTiers, BackupsHelpBelowTheirThreshold) {
  pool_.backup_below_percent = 60;
  EXPECT_EQ(choose(1, {here(1), here(2, false), backup(here(3))}).chosen, (Ids{1, 3}));
  EXPECT_EQ(choose(1, {here(1), here(2), here(4, false), backup(here(3))}).chosen, (Ids{1, 2}));
  EXPECT_FALSE(choose(1, {here(1), here(2, false), backup(here(3, false))}).uses_backups) << "there is none";
}

TEST_F(PoolTiers, ARestartedControlGoesOnHelpingUntilTheHoldIsOver) {
  const std::vector<Candidate> well = {here(1), here(2), away(3), backup(away(4))};
  memory_ = recover_tiers(well, {1, 2, 3});
  EXPECT_EQ(choose(100, well).chosen, (Ids{1, 2, 3}));
  EXPECT_EQ(choose(130, well).chosen, (Ids{1, 2}));
  memory_ = recover_tiers(well, {1, 2});
  EXPECT_EQ(choose(100, well).chosen, (Ids{1, 2}));
}

// Whatever happens: nobody who can serve is forgotten, nobody who cannot is chosen, and flows go somewhere if
// they can.
TEST_F(PoolTiers, ChoosesAmongTheUsableAndNeverNoneOfThem) {
  std::mt19937 random(7);
  const auto any = [&](uint32_t bound) { return static_cast<uint32_t>(random() % bound); };
  for (int round = 0; round < 20'000; ++round) {
    pool_.spill_below_percent = any(101);
    pool_.backup_below_percent = any(101);
    std::vector<Candidate> backends;
    Ids usable;
    const auto count = static_cast<uint16_t>(1 + any(6));
    for (uint16_t id = 0; id < count; ++id) {
      Candidate c = here(id, any(2) == 0);
      c.is_local = any(2) == 0;
      c.is_backup = any(3) == 0;
      c.weight = any(3) * 50;
      c.admin = any(5) == 0 ? Admin::drained : Admin::active;
      c.health.known = c.health.healthy || any(4) != 0;
      if (is_usable(c)) usable.insert(id);
      backends.push_back(c);
    }
    const TierChoice choice = choose(static_cast<uint64_t>(round), backends);
    Ids both = choice.chosen;
    both.insert(choice.standby.begin(), choice.standby.end());
    ASSERT_EQ(both, usable) << round;
    ASSERT_EQ(both.size(), choice.chosen.size() + choice.standby.size()) << round;
    ASSERT_EQ(choice.chosen.empty(), usable.empty()) << round;
  }
}

TEST_F(PoolTiers, PanicIsOfThePrimaryOnesOfAllZonesAndGivesWayToBackups) {
  pool_.min_healthy_percent = 50;
  const auto decide = [&](const std::vector<Candidate>& backends) {
    memory_ = {};
    return decide_pool(pool_, backends, {}, choose_tiers(pool_, backends, 0, memory_));
  };
  EXPECT_EQ(decide({here(1, false), away(2), away(3)}).state, PoolState::normal) << "a zone is no panic";
  const PoolDecision panic = decide({here(1, false), away(2, false), away(3), backup(here(4))});
  EXPECT_EQ(panic.state, PoolState::panic);
  EXPECT_EQ(panic.usable, (Ids{1, 2, 3}));
  const PoolDecision backups = decide({here(1, false), away(2, false), backup(here(4))});
  EXPECT_EQ(backups.state, PoolState::normal);
  EXPECT_EQ(backups.usable, Ids{4});
  EXPECT_EQ(decide({here(1, false), backup(here(4, false))}).usable, Ids{1});
  pool_.min_healthy_percent = 0;
  EXPECT_EQ(decide({here(1, false), away(2, false), backup(here(4, false))}).usable, (Ids{1, 2}));
}

}  // namespace
}  // namespace portico
