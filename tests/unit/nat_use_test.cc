// SPDX-License-Identifier: Apache-2.0
#include "control/nat_use.h"

#include <gtest/gtest.h>

#include <memory>

namespace portico {
namespace {

class NatUseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.nat.addresses = {*Address::parse("198.18.0.20")};
    PoolConfig pool{.name = "portals"};
    for (int i = 1; i <= 2; ++i) {
      BackendConfig backend;
      backend.name = "portal-" + std::to_string(i);
      backend.v4 = Address::parse("198.18.1." + std::to_string(i));
      pool.backends.push_back(backend);
    }
    config_.pools.push_back(pool);
    EXPECT_EQ(ids_.sync(config_), std::nullopt);
    feedback_->header.worker_count = 2;
  }
  // What a worker says of portal-1 or portal-2; another number: of a backend that is not configured.
  void say(size_t worker, size_t backend, uint64_t used, uint64_t ports) {
    const auto& backends = config_.pools[0].backends;
    WorkerFeedback& out = feedback_->workers[worker];
    out.nat_fullest_backend =
        backend - 1 < backends.size() ? ids_.backend("portals", backends[backend - 1]) : 4000;
    out.nat_fullest_used = used;
    out.nat_fullest_ports = ports;
  }
  NatUse use() { return nat_use(config_, ids_, *feedback_); }

  Config config_;
  Ids ids_;
  std::unique_ptr<Feedback> feedback_ = std::make_unique<Feedback>();
};

TEST_F(NatUseTest, IsThatOfTheWorkerThatRefusesFirst) {
  say(0, 1, 500, 1000);
  say(1, 2, 400, 500);
  EXPECT_EQ(use().used, 400u);
  EXPECT_EQ(use().total, 500u);
  EXPECT_EQ(use().backend, "portals/portal-2");
}

TEST_F(NatUseTest, IsZeroOfThePortsThereAreWhileNobodyUsesAny) {
  say(0, 9, 0, 1000);
  feedback_->workers[0].nat_fullest_backend = kNone;
  EXPECT_EQ(use().used, 0u);
  EXPECT_EQ(use().total, 1000u);
  EXPECT_EQ(use().backend, "");
}

TEST_F(NatUseTest, ABackendThatLeftHasNoName) {
  say(0, 9, 7, 1000);
  EXPECT_EQ(use().used, 7u);
  EXPECT_EQ(use().backend, "");
}

TEST_F(NatUseTest, NothingWithoutNatAndOfWorkersThatAreNotThere) {
  EXPECT_EQ(use().total, 0u);
  say(2, 1, 5, 10);
  EXPECT_EQ(use().total, 0u);
  feedback_->header.worker_count = ~0u;  // a file that others wrote
  EXPECT_EQ(use().total, 10u);
}

}  // namespace
}  // namespace portico
