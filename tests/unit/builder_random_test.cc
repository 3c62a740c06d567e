// SPDX-License-Identifier: Apache-2.0
// What the builder makes of any configuration, health and operator state is a table that keeps the contract's
// rules.
#include "control/builder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "tests/support/builder_rig.h"

namespace portico::test {
namespace {

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

}  // namespace
}  // namespace portico::test
