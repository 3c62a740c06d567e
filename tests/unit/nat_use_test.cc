// SPDX-License-Identifier: Apache-2.0
#include "control/nat_use.h"

#include <gtest/gtest.h>

#include <memory>

namespace portico {
namespace {

class NatUseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.nat.addresses = {*Address::parse("198.18.0.20"), *Address::parse("198.18.0.21"),
                             *Address::parse("2001:db8::20")};
    config_.nat.first_port = 1001;
    config_.nat.last_port = 2000;
    PoolConfig pool{.name = "portals"};
    for (int i = 1; i <= 2; ++i) {
      BackendConfig backend;
      backend.name = "portal-" + std::to_string(i);
      backend.v4 = Address::parse("198.18.1." + std::to_string(i));
      backend.v6 = Address::parse("2001:db8:1::" + std::to_string(i));
      pool.backends.push_back(backend);
    }
    config_.pools.push_back(pool);
    config_.services.push_back(
        {.name = "web", .listen = {{*Address::parse("198.18.0.10"), 80}}, .pool = "portals"});
  }
  NatUse use(uint64_t first, uint64_t second) {
    EXPECT_EQ(ids_.sync(config_), std::nullopt);
    feedback_->backends[ids_.backend("portals", config_.pools[0].backends[0])].flows = first;
    feedback_->backends[ids_.backend("portals", config_.pools[0].backends[1])].flows = second;
    return nat_use(config_, ids_, *feedback_);
  }

  Config config_;
  Ids ids_;
  std::unique_ptr<Feedback> feedback_ = std::make_unique<Feedback>();
};

TEST_F(NatUseTest, IsThatOfTheFullestBackendNotTheirSum) {
  const NatUse result = use(500, 510);
  EXPECT_EQ(result.used, 510u);
  EXPECT_EQ(result.total, 2000u) << "two IPv4 addresses; the IPv6 one is of no use here";
  EXPECT_EQ(result.backend, "portals/portal-2");
}

TEST_F(NatUseTest, NeverExceedsAll) {
  const NatUse result = use(9000, 10);
  EXPECT_EQ(result.used, 2000u);
  EXPECT_EQ(result.backend, "portals/portal-1");
}

TEST_F(NatUseTest, MeasuresByTheScarcerFamily) {
  config_.services[0].listen.push_back({*Address::parse("2001:db8::10"), 80});
  EXPECT_EQ(use(10, 20).total, 1000u);
}

TEST_F(NatUseTest, LeavesOutServicesWithoutNat) {
  config_.services[0].mode = Mode::dsr_l2;
  EXPECT_EQ(use(10, 20).total, 0u);
}

}  // namespace
}  // namespace portico
