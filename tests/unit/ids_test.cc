// SPDX-License-Identifier: Apache-2.0
#include "control/ids.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace portico {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

FlowReport report(uint64_t generation, uint64_t heartbeat_ns, std::set<uint16_t> busy = {}) {
  return {.dataplane_alive = true,
          .adopted_generation = generation,
          .heartbeat_ns = heartbeat_ns,
          .flows = [busy = std::move(busy)](uint16_t id) { return busy.contains(id) ? 1 : 0; }};
}
FlowReport dead() {
  return {.dataplane_alive = false, .flows = [](uint16_t) { return 1; }};
}

TEST(IdSpace, KeepsIdsByKeyAndRevivesRetiredOnes) {
  IdSpace space(8);
  const auto a = space.assign("a"), b = space.assign("b");
  EXPECT_NE(a, b);
  space.retire_all_but({"b"});
  EXPECT_EQ(space.find("a"), std::nullopt);
  EXPECT_EQ(space.find("b"), b);
  EXPECT_EQ(space.assign("a"), a);
  EXPECT_TRUE(space.retired().empty());
}

TEST(IdSpace, NeverGivesARetiredIdToAnotherKey) {
  IdSpace space(2);
  const auto a = space.assign("a");
  space.assign("b");
  space.retire_all_but({"b"});
  EXPECT_EQ(space.assign("c"), std::nullopt);
  space.published(5);
  EXPECT_TRUE(space.release(report(5, kSecond)).empty()) << "one report may be older than the last flow";
  EXPECT_EQ(space.release(report(5, 2 * kSecond)), std::vector<uint16_t>{*a});
  EXPECT_EQ(space.assign("c"), a);
}

TEST(IdSpace, WaitsForTheGenerationAndForTheLastFlow) {
  IdSpace space(2);
  const auto a = space.assign("a");
  space.retire_all_but({});
  EXPECT_TRUE(space.release(report(99, kSecond)).empty()) << "its removal is not published yet";
  space.published(5);
  EXPECT_TRUE(space.release(report(4, kSecond)).empty());
  EXPECT_TRUE(space.release(report(4, 9 * kSecond)).empty());
  EXPECT_TRUE(space.release(report(5, 10 * kSecond, {*a})).empty());
  EXPECT_TRUE(space.release(report(5, 11 * kSecond)).empty());
  EXPECT_TRUE(space.release(report(5, 11 * kSecond, {*a})).empty()) << "busy again: the count starts over";
  EXPECT_TRUE(space.release(report(5, 12 * kSecond)).empty());
  EXPECT_EQ(space.release(report(5, 13 * kSecond)).size(), 1u);
}

TEST(IdSpace, FreesAtOnceWhenNoDataplaneLives) {
  IdSpace space(2);
  space.assign("a");
  space.retire_all_but({});
  space.published(1);
  EXPECT_EQ(space.release(dead()).size(), 1u);
}

Config config_of(const std::vector<std::string>& backends, const char* v4_base = "198.18.0.") {
  Config config;
  PoolConfig pool;
  pool.name = "portals";
  for (size_t i = 0; i < backends.size(); ++i) {
    BackendConfig backend;
    backend.name = backends[i];
    backend.v4 = Address::parse(v4_base + backends[i].substr(1));
    pool.backends.push_back(backend);
  }
  config.pools.push_back(pool);
  ServiceConfig service;
  service.name = "web";
  service.pool = "portals";
  service.listen.push_back({*Address::parse("198.18.1.1"), 80});
  config.services.push_back(service);
  return config;
}

uint16_t backend_id(const Ids& ids, const Config& config, size_t i) {
  return ids.backend("portals", config.pools[0].backends[i]);
}

TEST(Ids, DoNotDependOnTheOrderOfTheFile) {
  Ids ids;
  const Config one = config_of({"b1", "b2"}), other = config_of({"b2", "b1", "b3"});
  ASSERT_EQ(ids.sync(one), std::nullopt);
  const auto b1 = backend_id(ids, one, 0), b2 = backend_id(ids, one, 1);
  ASSERT_EQ(ids.sync(other), std::nullopt);
  EXPECT_EQ(backend_id(ids, other, 1), b1);
  EXPECT_EQ(backend_id(ids, other, 0), b2);
  EXPECT_NE(backend_id(ids, other, 2), b1);
}

TEST(Ids, ABackendWithAnotherAddressIsAnotherBackend) {
  Ids ids;
  const Config before = config_of({"b1"}), after = config_of({"b1"}, "198.18.9.");
  ASSERT_EQ(ids.sync(before), std::nullopt);
  const auto id = backend_id(ids, before, 0);
  ASSERT_EQ(ids.sync(after), std::nullopt);
  EXPECT_NE(backend_id(ids, after, 0), id);
}

TEST(Ids, ABackendThatGainsAFamilyStaysTheSame) {
  Ids ids;
  Config config = config_of({"b1"});
  ASSERT_EQ(ids.sync(config), std::nullopt);
  const auto id = backend_id(ids, config, 0);
  config.pools[0].backends[0].v6 = Address::parse("2001:db8::1");
  ASSERT_EQ(ids.sync(config), std::nullopt);
  EXPECT_EQ(backend_id(ids, config, 0), id);
}

TEST(Ids, ABackendThatLosesAFamilyStaysTheSame) {
  for (const bool loses_v4 : {false, true}) {
    Ids ids;
    Config config = config_of({"b1", "b2"});
    BackendConfig& backend = config.pools[0].backends[1];
    backend.v6 = Address::parse("2001:db8::1");
    ASSERT_EQ(ids.sync(config), std::nullopt);
    const auto id = backend_id(ids, config, 1);
    (loses_v4 ? backend.v4 : backend.v6).reset();
    ASSERT_EQ(ids.sync(config), std::nullopt);
    EXPECT_EQ(backend_id(ids, config, 1), id);
    EXPECT_TRUE(ids.retired_backends().empty());
  }
}

TEST(Ids, OfFlowsThatNobodyKnowsAreGivenToNobodyUntilTheyAreGone) {
  Ids ids;
  ids.take_out([](uint16_t id) { return id == 0; }, [](uint16_t id) { return id == 0 || id == 2; });
  const Config config = config_of({"b1", "b2"});
  ASSERT_EQ(ids.sync(config), std::nullopt);
  EXPECT_EQ(backend_id(ids, config, 0), 1);
  EXPECT_EQ(backend_id(ids, config, 1), 3);
  EXPECT_EQ(ids.service(config.services[0]), 1);
  EXPECT_TRUE(ids.retired_backends().empty())
      << "there is no record: the dataplane treats their flows as gone";
  ids.published(1, {});
  EXPECT_FALSE(ids.release(report(1, kSecond, {0}), report(1, kSecond, {0, 2})));
  EXPECT_FALSE(ids.release(report(1, 2 * kSecond), report(1, 2 * kSecond)));
  EXPECT_TRUE(ids.release(report(1, 4 * kSecond), report(1, 4 * kSecond)));
  EXPECT_EQ(ids.to_text().find("flows under"), std::string::npos);
}

TEST(Ids, SurviveTheLossOfTheTable) {
  Ids ids;
  Config config = config_of({"b1", "b2", "b3"});
  ASSERT_EQ(ids.sync(config), std::nullopt);
  config.pools[0].backends.erase(config.pools[0].backends.begin());
  ASSERT_EQ(ids.sync(config), std::nullopt);
  Ids next;
  next.recover_text(ids.to_text() + "backend 70000 x\nbackend x y\nnonsense\nbackend 1 twice\n");
  next.take_out([](uint16_t id) { return id == 0; }, [](uint16_t id) { return id < 3; });
  ASSERT_EQ(next.sync(config), std::nullopt);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(backend_id(next, config, i), backend_id(ids, config, i));
  EXPECT_EQ(next.service(config.services[0]), ids.service(config.services[0]));
  EXPECT_EQ(next.to_text(), ids.to_text());
}

TEST(Ids, AServiceWithAnotherModeIsAnotherService) {
  Ids ids;
  Config config = config_of({"b1"});
  ASSERT_EQ(ids.sync(config), std::nullopt);
  const auto id = ids.service(config.services[0]);
  config.services[0].mode = Mode::dsr_l2;
  ASSERT_EQ(ids.sync(config), std::nullopt);
  EXPECT_NE(ids.service(config.services[0]), id);
}

TEST(Ids, TooManyBackendsChangeNothing) {
  Ids ids;
  Config config = config_of({"b1"});
  ASSERT_EQ(ids.sync(config), std::nullopt);
  const auto id = backend_id(ids, config, 0);
  Config large = config;
  for (uint32_t i = 0; i < kMaxBackends; ++i) {
    BackendConfig backend;
    backend.name = "x" + std::to_string(i);
    backend.v4 = Address::parse("198.19." + std::to_string(i / 250) + "." + std::to_string(i % 250));
    large.pools[0].backends.push_back(backend);
  }
  const auto error = ids.sync(large);
  ASSERT_TRUE(error.has_value());
  EXPECT_NE(error->find("backend"), std::string::npos);
  EXPECT_EQ(backend_id(ids, config, 0), id);
}

}  // namespace
}  // namespace portico
