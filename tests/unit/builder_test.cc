// SPDX-License-Identifier: Apache-2.0
// What the builder makes of any configuration, health and operator state is a table that keeps the contract's
// rules.
#include "control/builder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "contract/publisher.h"

namespace portico {
namespace {

Address v4(uint32_t n) {
  return *Address::parse("198.18." + std::to_string(n / 200) + "." + std::to_string(1 + n % 200));
}
Address v6(uint32_t n) {
  return *Address::parse("2001:db8::" + std::to_string(1 + n));
}

// A host whose every destination is a neighbour on the first port, or has none.
struct FakeKernel {
  std::set<Address> unreachable;
  std::vector<PortRoute> port_routes;
  std::set<uint16_t> vlans;

  KernelView view() {
    return {.next_hop = [this](const Address& to) -> std::optional<NextHop> {
              if (unreachable.contains(to)) return std::nullopt;
              return NextHop{.interface = "eth0",
                             .ifindex = 2,
                             .neighbour = to,
                             .on_link = true,
                             .resolved = true,
                             .mac = {2, 0, 0, 0, 0, 1},
                             .source_mac = {2, 0, 0, 0, 0, 2},
                             .mtu = 1500};
            },
            .routes = [this] { return port_routes; },
            .vlans = [this](const std::string&) { return vlans; }};
  }
};

class BuilderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-builder-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  const TableContent& build(const Config& config, const std::set<std::string>* changed_pools = nullptr) {
    return build(config, builder_, changed_pools);
  }
  const TableContent& build(const Config& config, Builder& builder,
                            const std::set<std::string>* changed_pools) {
    std::set<Address> addresses;
    for (const auto& pool : config.pools)
      for (const auto& backend : pool.backends)
        for (const auto& address : {backend.v4, backend.v6})
          if (address) addresses.insert(*address);
    for (const auto& record : ids_.retired_backends())
      for (const auto& address : {record.address_v4, record.address_v6})
        if (!address.is_none()) addresses.insert(address);
    routing_ = hops_.build(kernel_.view(), {"eth0"}, addresses);
    return builder.build({.config = config,
                          .ids = ids_,
                          .operators = operators_,
                          .routing = routing_,
                          .health =
                              [this](const std::string& pool, const std::string& backend) {
                                const auto it = health_.find({pool, backend});
                                return it == health_.end() ? BackendView{} : it->second;
                              },
                          .config_version = 1,
                          .now_ns = now_ns_,
                          .changed_pools = changed_pools});
  }

  std::filesystem::path dir_;
  FakeKernel kernel_;
  Ids ids_;
  OperatorState operators_{"/nonexistent/operator.json"};
  NextHopTable hops_;
  Routing routing_;
  Builder builder_;
  std::map<OperatorState::Key, BackendView> health_;
  uint64_t now_ns_ = 1;
};

Config two_portals() {
  Config config;
  config.instance = "edge-1";
  config.dataplane.ports.push_back({.name = "eth0"});
  config.nat.addresses.push_back(v4(900));
  PoolConfig pool{.name = "portals"};
  pool.table_size = 4099;
  for (uint32_t i = 1; i <= 2; ++i) {
    BackendConfig backend;
    backend.name = "portal-" + std::to_string(i);
    backend.v4 = v4(i);
    pool.backends.push_back(backend);
  }
  config.pools.push_back(pool);
  ServiceConfig service{.name = "web", .listen = {{v4(800), 80}}, .pool = "portals"};
  config.services.push_back(service);
  return config;
}

size_t slots(const TableContent& content, uint16_t id) {
  const auto& lookup = content.pools[0].lookup;
  return static_cast<size_t>(std::count(lookup.begin(), lookup.end(), id));
}

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

class RandomConfig {
 public:
  explicit RandomConfig(uint32_t seed) : random_(seed) {}
  uint32_t below(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(random_); }
  bool chance(uint32_t percent) { return below(100) < percent; }

  Config make() {
    Config config;
    config.instance = "random";
    config.dataplane.ports.push_back({.name = "eth0"});
    config.nat.addresses = {v4(3000), v6(3000)};
    const uint32_t pools = 1 + below(4);
    for (uint32_t i = 0; i < pools; ++i) config.pools.push_back(pool(i));
    const uint32_t services = below(6);
    for (uint32_t i = 0; i < services; ++i) config.services.push_back(service(i, config.pools));
    return config;
  }

  BackendView health() {
    BackendView view{.healthy = chance(50), .known = chance(90)};
    view.unreachable = !view.healthy && chance(30);
    const uint32_t refused = view.healthy ? 0 : below(12);
    for (uint32_t i = 0; i < refused; ++i)
      view.refused_ports.push_back(static_cast<uint16_t>(80 + below(12)));
    return view;
  }

 private:
  PoolConfig pool(uint32_t n) {
    constexpr uint32_t kSizes[] = {251, 1009, 4099};
    PoolConfig pool{.name = "pool-" + std::to_string(n)};
    pool.table_size = kSizes[below(3)];
    pool.all_down = AllDown{static_cast<uint8_t>(below(3))};
    pool.on_backend_down = OnBackendDown{static_cast<uint8_t>(below(3))};
    pool.min_healthy_percent = chance(30) ? below(101) : 0;
    const uint32_t backends = 1 + below(6);
    for (uint32_t i = 0; i < backends; ++i) {
      if (chance(20)) continue;
      BackendConfig backend;
      backend.name = "backend-" + std::to_string(i);
      if (chance(80)) backend.v4 = v4(n * 100 + i + (chance(10) ? 50 : 0));
      if (!backend.v4 || chance(50)) backend.v6 = v6(n * 100 + i);
      backend.weight = chance(10) ? 0 : 1 + below(1000);
      pool.backends.push_back(backend);
    }
    pool.second_chance = chance(80);
    for (uint32_t sets = below(3); sets > 0; --sets) {
      auto& names = pool.earlier_sets.emplace_back();
      for (const BackendConfig& backend : pool.backends)
        if (chance(50)) names.push_back(backend.name);
    }
    return pool;
  }
  ServiceConfig service(uint32_t n, const std::vector<PoolConfig>& pools) {
    ServiceConfig service{.name = "service-" + std::to_string(n),
                          .pool = pools[below(static_cast<uint32_t>(pools.size()))].name};
    for (uint32_t i = 0; i <= below(12); ++i)
      service.listen.push_back({chance(50) ? v4(2000 + n) : v6(2000 + n), static_cast<uint16_t>(80 + i)});
    service.mode = chance(40) ? Mode::nat : chance(50) ? Mode::dsr_l2 : Mode::dsr_gue;
    if (chance(30)) service.limits = {.new_per_second = below(3), .connections = below(3)};
    service.allow_any = chance(50);
    for (uint32_t i = 0; i < below(3); ++i)
      service.allow.push_back(*Prefix::parse(i == 0 ? "198.18.0.0/16" : "2001:db8::/32"));
    if (chance(30)) service.deny.push_back(*Prefix::parse("198.18.7.0/24"));
    return service;
  }
  std::mt19937 random_;
};

TEST_F(BuilderTest, WhateverItBuildsIsAValidTable) {
  Publisher publisher(dir_);
  RandomConfig random(20);
  uint64_t generation = 0;
  for (int round = 0; round < 300; ++round) {
    const Config config = random.make();
    ASSERT_EQ(ids_.sync(config), std::nullopt);
    for (const auto& pool : config.pools)
      for (const auto& backend : pool.backends) {
        health_[{pool.name, backend.name}] = random.health();
        if (backend.v4 && random.chance(10)) kernel_.unreachable.insert(*backend.v4);
      }
    kernel_.port_routes = {
        {.prefix = *Prefix::parse("198.18.0.0/15"), .on_link = true, .hop = std::nullopt},
        {.prefix = *Prefix::parse("198.18.0.9/32"), .on_link = true, .hop = kernel_.view().next_hop(v4(8))}};
    const TableContent& content = build(config);
    ASSERT_NO_THROW(generation = publisher.publish(content)) << "round " << round;
    ids_.published(generation, content);
    if (!random.chance(30)) continue;
    const std::set<uint16_t> busy = {static_cast<uint16_t>(random.below(20))};
    for (const uint64_t heartbeat : {1'000'000'000u, 2'000'000'000u}) {
      const FlowReport report{.dataplane_alive = true,
                              .adopted_generation = generation,
                              .heartbeat_ns = heartbeat,
                              .flows = [&](uint16_t id) { return uint64_t{busy.contains(id)}; }};
      ids_.release(report, report);
    }
  }
}

TEST_F(BuilderTest, BuildsAChangedPoolAsIfItHadBuiltAll) {
  RandomConfig random(7);
  for (int round = 0; round < 20; ++round) {
    const Config config = random.make();
    ASSERT_EQ(ids_.sync(config), std::nullopt);
    ids_.published(1, build(config));  // what is gone from the configuration is retired
    Builder all;
    builder_ = {};
    build(config);
    build(config, all, nullptr);
    for (int event = 0; event < 20; ++event) {
      now_ns_ += uint64_t{random.below(200)} * 1'000'000'000;  // deadlines pass, too
      std::set<std::string> changed;
      for (const auto& pool : config.pools)
        if (random.chance(30)) {
          changed.insert(pool.name);
          for (const auto& backend : pool.backends) health_[{pool.name, backend.name}] = random.health();
        }
      build(config, &changed);
      build(config, all, nullptr);
      ASSERT_EQ(builder_.content_hash(), all.content_hash()) << "round " << round << ", event " << event;
      ASSERT_EQ(builder_.next_change_ns(), all.next_change_ns());
    }
  }
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
}  // namespace portico
