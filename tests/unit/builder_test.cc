// SPDX-License-Identifier: Apache-2.0
// What the builder makes of configurations, health and operator state.
#include "control/builder.h"

#include <gtest/gtest.h>

#include "tests/support/builder_rig.h"

namespace portico::test {
namespace {

TEST_F(BuilderTest, MovesSlotsWithHealthAndKeepsTheLastOnes) {
  const Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  health_[{"portals", "portal-1"}] = health_[{"portals", "portal-2"}] = {.healthy = true, .known = true};
  const auto first = ids_.backend("portals", config.pools[0].backends[0]);
  const auto second = ids_.backend("portals", config.pools[0].backends[1]);
  EXPECT_EQ(builder_.share(ids_.pool("portals"), first), 0) << "nothing was built yet";
  const auto half = static_cast<double>(slots(build(config), first));
  EXPECT_NEAR(half, 4099 / 2.0, 1);
  EXPECT_EQ(builder_.share(ids_.pool("portals"), first), half / 4099);
  EXPECT_EQ(builder_.share(kNone, first), 0) << "another pool";
  health_[{"portals", "portal-1"}] = {.known = true, .refused_ports = {80}, .down_since_ns = 1};
  const auto& content = build(config);
  EXPECT_EQ(slots(content, second), 4099u);
  EXPECT_EQ(builder_.share(ids_.pool("portals"), first), 0);
  EXPECT_EQ(builder_.share(ids_.pool("portals"), second), 1);
  const BackendRecord& record = content.pools[0].backends[first < second ? 0 : 1];
  EXPECT_EQ(record.id, first);
  EXPECT_EQ(BackendDisposition{record.disposition}, BackendDisposition::finish);
  EXPECT_EQ(record.reset_count, 1);
  EXPECT_EQ(record.reset_ports[0], 80);
  EXPECT_EQ(builder_.next_change_ns(), 1 + 300'000'000'000u);
  health_[{"portals", "portal-2"}] = {.known = true, .unreachable = true};
  now_ns_ += 60'000'000'000;
  EXPECT_EQ(slots(build(config), second), 4099u) << "the last one that was up keeps the flows";
  EXPECT_EQ(builder_.decision(ids_.pool("portals"))->state, PoolState::kept_last);
}

TEST_F(BuilderTest, KeepsAllThatFailTogether) {
  Config config = two_portals();
  config.pools[0].checks.push_back({.name = "tcp-80", .port = 80});
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const BackendView up{.healthy = true, .known = true}, down{.known = true, .unreachable = true};
  health_[{"portals", "portal-1"}] = health_[{"portals", "portal-2"}] = up;
  build(config);
  now_ns_ = 60'000'000'000;
  health_[{"portals", "portal-1"}] = down;
  build(config);
  now_ns_ += 3'000'000;
  health_[{"portals", "portal-2"}] = down;
  const auto first = ids_.backend("portals", config.pools[0].backends[0]);
  EXPECT_NEAR(static_cast<double>(slots(build(config), first)), 4099 / 2.0, 1);
  EXPECT_EQ(builder_.decision(ids_.pool("portals"))->state, PoolState::kept_last);
}

// Two backends that one cause takes away, seen one after the other, and gives back, seen one after the other.
TEST_F(BuilderTest, ResetsNoFlowsWhereItIsItselfThatHearsNothing) {
  constexpr int64_t kSecond = 1'000'000'000;
  Config config = two_portals();
  config.pools[0].checks.push_back({.name = "tcp-80", .port = 80});
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const auto up = [](int64_t first_s, int64_t last_s) {
    return BackendView{.healthy = true, .known = true, .hearing = {first_s * kSecond, last_s * kSecond, 0}};
  };
  const auto silent = [](int64_t since_s) {
    return BackendView{.known = true, .unreachable = true, .hearing = {0, 0, since_s * kSecond}};
  };
  BackendView& first = health_[{"portals", "portal-1"}];
  BackendView& second = health_[{"portals", "portal-2"}];
  const auto flows_at = [&](int64_t second_of_time) {
    now_ns_ = static_cast<uint64_t>(second_of_time * kSecond);
    const auto& backends = build(config).pools[0].backends;
    return std::pair(BackendDisposition{backends[0].disposition},
                     BackendDisposition{backends[1].disposition});
  };
  const auto forward = BackendDisposition::forward, reset = BackendDisposition::reset;
  const auto both = std::pair(forward, forward);
  first = up(1, 99), second = up(1, 99);
  EXPECT_EQ(flows_at(100), both);
  first = silent(100);
  EXPECT_EQ(flows_at(102), both) << "nothing was heard since";
  second = silent(101);
  EXPECT_EQ(flows_at(103), both) << "all are kept";
  EXPECT_EQ(flows_at(160), both);
  first = up(160, 160);
  EXPECT_EQ(flows_at(161), both) << "2 may be asked again soon";
  second = up(162, 162);
  EXPECT_EQ(flows_at(163), both);

  first = silent(200), second = up(162, 199);
  EXPECT_EQ(flows_at(202), both);
  second = up(162, 201);
  EXPECT_EQ(flows_at(203), std::pair(reset, forward)) << "2 was heard before and after: 1 is gone";
  first = up(204, 204);
  EXPECT_EQ(flows_at(205), both);
  first = silent(300), second = up(301, 301);
  EXPECT_EQ(flows_at(302), both);
  EXPECT_EQ(flows_at(312), std::pair(reset, forward)) << "no doubt lasts for ever";
}

// Both fall silent, one after the other, before it is known that the balancer is cut off.
TEST_F(BuilderTest, KeepsItsTableWhileItIsCutOff) {
  constexpr uint64_t kSecond = 1'000'000'000;
  Config config = two_portals();
  config.pools[0].all_down = AllDown::reset;
  config.pools[0].min_healthy_percent = 50;
  config.pools[0].checks.push_back({.name = "tcp-80", .port = 80});
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const BackendView up{.healthy = true, .known = true, .hearing = {1, 99 * kSecond, 0}};
  const BackendView silent{.known = true, .unreachable = true, .hearing = {1, 99 * kSecond, 100 * kSecond}};
  BackendView& first = health_[{"portals", "portal-1"}];
  BackendView& second = health_[{"portals", "portal-2"}];
  first = second = up;
  now_ns_ = 100 * kSecond;
  build(config);
  first = silent;
  now_ns_ = 102 * kSecond;
  build(config);
  const uint16_t id = ids_.pool("portals");
  const auto expect_kept = [&](uint64_t second_of_time, const char* when) {
    now_ns_ = second_of_time * kSecond;
    const auto& content = build(config);
    EXPECT_STREQ(to_string(builder_.decision(id)->state), "cut_off") << when;
    EXPECT_NEAR(builder_.share(id, content.pools[0].backends[0].id), 0.5, 0.01) << when;
    for (const auto& backend : content.pools[0].backends)
      EXPECT_EQ(BackendDisposition{backend.disposition}, BackendDisposition::forward) << when;
    EXPECT_EQ(builder_.next_change_ns(), std::nullopt) << when;
  };
  is_cut_off_ = true;
  expect_kept(103, "one has not even failed");
  second = silent;
  expect_kept(104, "both have");
  expect_kept(7204, "however long it takes");
  is_cut_off_ = false, is_returning_ = true;
  expect_kept(7205, "none has returned yet");
  second = up;
  now_ns_ = 7206 * kSecond;
  EXPECT_EQ(slots(build(config), builder_.content().pools[0].backends[1].id), 4099u) << "one has";
  is_returning_ = false;
  second = silent;
  now_ns_ = 7300 * kSecond;
  build(config);
  EXPECT_STREQ(to_string(builder_.decision(id)->state), "panic") << "connected: it is the backends";
  config.pools[0].min_healthy_percent = 0;
  build(config);
  EXPECT_STREQ(to_string(builder_.decision(id)->state), "reset");
}

// portal-1 and -2 here, -3 and -4 away, -5 a backup.
Config two_zones() {
  Config config = two_portals();
  config.zone = "a";
  config.services[0].mode = Mode::dsr_gue;
  PoolConfig& pool = config.pools[0];
  for (uint32_t i = 3; i <= 5; ++i)
    pool.backends.push_back({.name = "portal-" + std::to_string(i), .v4 = v4(i)});
  pool.backends[0].zone = pool.backends[1].zone = pool.backends[4].zone = "a";
  pool.backends[2].zone = pool.backends[3].zone = "b";
  pool.backends[4].backup = true;
  pool.spill_below_percent = 100;
  pool.spill_hold = std::chrono::seconds(30);
  return config;
}

TEST_F(BuilderTest, ZonesThatHelpAreWarmAndKeepTheirFlows) {
  constexpr uint64_t kSecond = 1'000'000'000;
  Config config = two_zones();
  config.pools[0].slow_start = std::chrono::seconds(10);
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const BackendView up{.healthy = true, .known = true}, down{.known = true, .unreachable = true};
  for (const auto& backend : config.pools[0].backends) health_[{"portals", backend.name}] = up;
  const auto share = [&](size_t i) {
    return builder_.share(ids_.pool("portals"), ids_.backend("portals", config.pools[0].backends[i]));
  };
  now_ns_ = 100 * kSecond;
  build(config);
  EXPECT_NEAR(share(0), 0.5, 0.01);
  EXPECT_EQ(share(2) + share(3) + share(4), 0);
  health_[{"portals", "portal-1"}] = down;
  now_ns_ += kSecond;
  build(config);
  for (const size_t i : {1U, 2U, 3U}) EXPECT_NEAR(share(i), 1.0 / 3, 0.01) << "no slow start for who waited";
  health_[{"portals", "portal-1"}] = up;
  now_ns_ += kSecond;
  build(config);
  EXPECT_NEAR(share(0), 1.0 / 31, 0.01) << "who returns starts slowly";
  EXPECT_EQ(builder_.next_change_ns(), now_ns_ + kSecond) << "the next step comes before the hold is over";
  now_ns_ += 30 * kSecond;
  const TableContent& back = build(config);
  EXPECT_NEAR(share(0), 0.5, 0.01);
  EXPECT_EQ(share(2), 0);
  for (const BackendRecord& record : back.pools[0].backends)
    EXPECT_EQ(BackendDisposition{record.disposition}, BackendDisposition::forward) << "their flows stay";
}

// Whoever of both zones a slot belonged to, a flow of then is found by the columns, on balancers of either
// zone.
TEST_F(BuilderTest, FallbacksNameWhatEachZoneHas) {
  Config config = two_zones();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  for (const auto& backend : config.pools[0].backends)
    health_[{"portals", backend.name}] = {.healthy = true, .known = true};
  const auto table_of = [&](const char* zone) {
    config.zone = zone;
    builder_ = {};
    return build(config).pools[0];
  };
  const TableContent::Pool here = table_of("a"), there = table_of("b"), alike = table_of("");
  EXPECT_NE(here.lookup, there.lookup);
  const uint8_t columns = here.record.fallback_columns;
  ASSERT_GE(columns, 2);
  const auto finds = [](const TableContent::Pool& pool, size_t slot, uint16_t id) {
    const auto row = pool.fallback.begin() + static_cast<ptrdiff_t>(slot * pool.record.fallback_columns);
    return pool.lookup[slot] == id ||
           std::find(row, row + pool.record.fallback_columns, id) != row + pool.record.fallback_columns;
  };
  for (size_t slot = 0; slot < here.lookup.size(); ++slot) {
    ASSERT_TRUE(finds(here, slot, there.lookup[slot]) && finds(here, slot, alike.lookup[slot])) << slot;
    ASSERT_TRUE(finds(there, slot, here.lookup[slot]) && finds(there, slot, alike.lookup[slot])) << slot;
  }
}

TEST_F(BuilderTest, KeepsARemovedBackendUntilItsFlowsAreGone) {
  Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const auto removed = ids_.backend("portals", config.pools[0].backends[1]);
  ids_.published(1, build(config));
  config.pools[0].backends.pop_back();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const auto& content = build(config);
  ids_.published(2, content);
  ASSERT_EQ(content.pools[0].backends.size(), 2u);
  for (const auto& record : content.pools[0].backends)
    if (record.id == removed) {
      EXPECT_EQ(BackendDisposition{record.disposition}, BackendDisposition::reset);
    }
  EXPECT_EQ(slots(content, removed), 0u);
  const FlowReport dead{.flows = [](uint16_t) { return uint64_t{0}; }};
  EXPECT_TRUE(ids_.release(dead, dead));
  EXPECT_EQ(build(config).pools[0].backends.size(), 1u);
}

TEST_F(BuilderTest, HashTellsChangesApart) {
  const Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  build(config);
  const uint64_t before = builder_.content_hash();
  build(config);
  EXPECT_EQ(builder_.content_hash(), before);
  health_[{"portals", "portal-1"}] = {.healthy = true, .known = true};
  build(config);
  EXPECT_NE(builder_.content_hash(), before);
}

TEST_F(BuilderTest, VlansOfThePortsFollowTheKernel) {
  const Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  EXPECT_TRUE(build(config).vlans.empty());
  const uint64_t before = builder_.content_hash();
  kernel_.vlans = {7, 100};
  const std::set<std::string> no_pool;
  const TableContent& content = build(config, &no_pool);
  ASSERT_EQ(content.vlans.size(), 2u);
  EXPECT_EQ(content.vlans[1].port, 0);
  EXPECT_EQ(content.vlans[1].vlan, 100);
  EXPECT_NE(builder_.content_hash(), before);
}

TEST_F(BuilderTest, TheHostsAddressesAreNamedWhereDnatNeedsThem) {
  Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  kernel_.own = {v4(99), v6(99)};
  EXPECT_TRUE(build(config).own.empty()) << "an address that comes or goes is no new table";
  config.services[0].mode = Mode::dnat;
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const uint64_t before = (build(config), builder_.content_hash());
  ASSERT_EQ(build(config).own.size(), 2u);
  EXPECT_EQ(build(config).own[0].address, v4(99));
  kernel_.own.insert(v4(100));
  const std::set<std::string> no_pool;
  EXPECT_EQ(build(config, &no_pool).own.size(), 3u);
  EXPECT_NE(builder_.content_hash(), before);
}

TEST_F(BuilderTest, AccessListsSayWhoIsLetIn) {
  using Texts = std::vector<std::string>;
  const auto list_of = [this](bool any, std::vector<const char*> allow, std::vector<const char*> deny) {
    Config config = two_portals();
    ServiceConfig& service = config.services[0];
    service.allow_any = any;
    for (const char* text : allow) service.allow.push_back(*Prefix::parse(text));
    for (const char* text : deny) service.deny.push_back(*Prefix::parse(text));
    EXPECT_EQ(ids_.sync(config), std::nullopt);
    const TableContent& content = build(config);
    Texts texts;
    for (const AccessRecord& r : content.access)
      texts.push_back((r.allow ? "+" : "-") + to_string(Prefix{r.prefix, r.length}));
    std::ranges::sort(texts);
    EXPECT_EQ(content.services[0].access_list == kNone, texts.empty());
    return texts;
  };
  EXPECT_EQ(list_of(true, {}, {}), Texts{});
  EXPECT_EQ(list_of(false, {"198.18.0.0/16"}, {}), Texts{"+198.18.0.0/16"});
  EXPECT_EQ(list_of(false, {}, {}), Texts{"-0.0.0.0/0"}) << "nobody";
  EXPECT_EQ(list_of(true, {}, {"198.18.7.0/24"}), (Texts{"+0.0.0.0/0", "+::/0", "-198.18.7.0/24"}));
  EXPECT_EQ(list_of(true, {}, {"0.0.0.0/0"}), (Texts{"+::/0", "-0.0.0.0/0"}));
  EXPECT_EQ(list_of(false, {"198.18.0.0/16", "::/0"}, {"198.18.7.0/24"}),
            (Texts{"+198.18.0.0/16", "+::/0", "-198.18.7.0/24"}));
}

// Of two backends, the further hop of each slot is the other one, whoever is drained or down.
TEST_F(BuilderTest, FurtherHopsComeWithGueAlone) {
  Config config = two_portals();
  const BackendView up{.healthy = true, .known = true}, down{.known = true, .unreachable = true};
  health_[{"portals", "portal-1"}] = health_[{"portals", "portal-2"}] = up;
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  EXPECT_EQ(build(config).pools[0].record.fallback_columns, 0);
  config.services[0].mode = Mode::dsr_gue;
  const auto first = ids_.backend("portals", config.pools[0].backends[0]);
  const auto second = ids_.backend("portals", config.pools[0].backends[1]);
  const TableContent::Pool both = build(config).pools[0];
  ASSERT_EQ(both.record.fallback_columns, 1);
  for (size_t slot = 0; slot < both.lookup.size(); ++slot)
    EXPECT_EQ(both.fallback[slot], both.lookup[slot] == first ? second : first);
  const uint64_t hash = builder_.content_hash();
  health_[{"portals", "portal-1"}] = down;
  const TableContent::Pool one = build(config).pools[0];
  ASSERT_EQ(one.record.fallback_columns, 1);
  for (size_t slot = 0; slot < one.lookup.size(); ++slot) {
    EXPECT_EQ(one.lookup[slot], second);
    EXPECT_EQ(one.fallback[slot], both.lookup[slot] == first ? first : kNone)
        << "where its flows went before";
  }
  health_[{"portals", "portal-1"}] = up;
  build(config);
  EXPECT_EQ(builder_.content_hash(), hash) << "and back";
  config.pools[0].second_chance = false;
  EXPECT_EQ(build(config).pools[0].record.fallback_columns, 0);
  EXPECT_TRUE(build(config).pools[0].fallback.empty());
}

TEST_F(BuilderTest, ARestartedControlBuildsTheSameTable) {
  const Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  health_[{"portals", "portal-2"}] = {.healthy = true, .known = true};
  uint64_t hash = 0;
  {
    Publisher publisher(dir_);
    publisher.publish(build(config));
    hash = builder_.content_hash();
  }
  Publisher publisher(dir_);
  ASSERT_NE(publisher.recovered(), nullptr);
  const Snapshot& snapshot = *publisher.recovered();
  ids_ = {};
  builder_ = {};
  hops_ = {};
  ids_.recover(snapshot);
  builder_.recover(snapshot, now_ns_);
  const auto records = snapshot.next_hops->records<NextHopRecord>();
  hops_.recover({records.begin(), records.end()});
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  build(config);
  EXPECT_EQ(builder_.content_hash(), hash);
  health_.clear();
  EXPECT_EQ(slots(build(config), ids_.backend("portals", config.pools[0].backends[1])), 4099u)
      << "without any health, the last usable backends go on";
}

TEST_F(BuilderTest, ARestartedControlGoesOnDoubting) {
  constexpr int64_t kSecond = 1'000'000'000;
  Config config = two_portals();
  config.pools[0].checks.push_back({.name = "tcp-80", .port = 80});
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  health_[{"portals", "portal-2"}] = {.healthy = true, .known = true, .hearing = {kSecond, 99 * kSecond, 0}};
  health_[{"portals", "portal-1"}] = health_[{"portals", "portal-2"}];
  now_ns_ = 100 * kSecond;
  build(config);
  health_[{"portals", "portal-1"}] = {.known = true, .unreachable = true, .hearing = {0, 0, 100 * kSecond}};
  const auto disposition_at = [&](int64_t second) {
    now_ns_ = static_cast<uint64_t>(second * kSecond);
    return BackendDisposition{build(config).pools[0].backends[0].disposition};
  };
  ASSERT_EQ(disposition_at(102), BackendDisposition::forward);
  Publisher(dir_).publish(builder_.content());
  Publisher publisher(dir_);
  ASSERT_NE(publisher.recovered(), nullptr);
  builder_ = {};
  builder_.recover(*publisher.recovered(), 103 * kSecond);
  // As health.json has it.
  health_[{"portals", "portal-1"}].hearing.silent_ns = 103 * kSecond;
  health_[{"portals", "portal-2"}].hearing = {};
  EXPECT_EQ(disposition_at(104), BackendDisposition::forward);
  EXPECT_EQ(disposition_at(113), BackendDisposition::reset);
}

TEST_F(BuilderTest, GivesABackendThatReturnsItsWeightInSteps) {
  Config config = two_portals();
  config.pools[0].slow_start = std::chrono::seconds(10);
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const auto pool = ids_.pool("portals"), first = ids_.backend("portals", config.pools[0].backends[0]);
  const BackendView good{.healthy = true, .known = true};
  health_[{"portals", "portal-1"}] = health_[{"portals", "portal-2"}] = good;
  build(config);
  EXPECT_NEAR(builder_.share(pool, first), 0.5, 0.001) << "a pool that begins has nobody to stand in";
  health_[{"portals", "portal-1"}] = {.known = true};
  build(config);
  health_[{"portals", "portal-1"}] = good;
  const uint64_t start_ns = now_ns_, second_ns = 1'000'000'000;
  for (uint32_t step = 1; step <= 9; ++step) {
    build(config);
    EXPECT_NEAR(builder_.share(pool, first), step / (step + 10.0), 0.001);
    EXPECT_DOUBLE_EQ(builder_.ramp(pool, first), step / 10.0);
    ASSERT_EQ(builder_.next_change_ns(), start_ns + step * second_ns);
    now_ns_ = *builder_.next_change_ns();
  }
  build(config);
  EXPECT_NEAR(builder_.share(pool, first), 0.5, 0.001);
  EXPECT_EQ(builder_.ramp(pool, first), 1);
  EXPECT_EQ(builder_.next_change_ns(), std::nullopt);
}

TEST_F(BuilderTest, ComesBackToADampedBackendByItself) {
  const Config config = two_portals();
  ASSERT_EQ(ids_.sync(config), std::nullopt);
  const auto pool = ids_.pool("portals"), first = ids_.backend("portals", config.pools[0].backends[0]);
  health_[{"portals", "portal-1"}] = {.healthy = true, .known = true, .damped_until_ns = 500};
  health_[{"portals", "portal-2"}] = {.healthy = true, .known = true};
  build(config);
  EXPECT_EQ(builder_.share(pool, first), 0);
  ASSERT_EQ(builder_.next_change_ns(), 500u);
  now_ns_ = 500;
  build(config);
  EXPECT_NEAR(builder_.share(pool, first), 0.5, 0.001);
}

}  // namespace
}  // namespace portico::test
