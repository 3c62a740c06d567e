// SPDX-License-Identifier: Apache-2.0
#include "dataplane/endpoint_use.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace portico {
namespace {

TEST(EndpointUse, PortsOfABackendAreEndpointsOfTheirOwn) {
  EndpointUse use;
  EXPECT_EQ(use.fullest().backend, kNone);
  for (int i = 0; i < 3; ++i) use.add(5, 80);
  for (int i = 0; i < 2; ++i) use.add(5, 443);
  use.add(6, 80);
  EXPECT_EQ(use.fullest().backend, 5);
  EXPECT_EQ(use.fullest().flows, 3u);
  for (int i = 0; i < 3; ++i) use.remove(5, 80);
  EXPECT_EQ(use.fullest().flows, 2u);
}

TEST(EndpointUse, RemovingWhatIsNotThereChangesNothing) {
  EndpointUse use;
  use.remove(0, 0);
  use.add(1, 80);
  use.remove(1, 81);
  EXPECT_EQ(use.fullest().flows, 1u);
}

TEST(EndpointUse, FollowsAModel) {
  std::mt19937 random(1);
  std::map<std::pair<uint16_t, uint16_t>, uint32_t> model;
  EndpointUse use;
  for (int step = 0; step < 200'000; ++step) {
    const std::pair<uint16_t, uint16_t> endpoint(random() % 1000, 80 + random() % 2);
    uint32_t& flows = model[endpoint];
    if (flows > 0 && random() % 2) {
      --flows;
      use.remove(endpoint.first, endpoint.second);
    } else {
      ++flows;
      use.add(endpoint.first, endpoint.second);
    }
    if (step % 1000 != 0) continue;
    uint32_t most = 0;
    for (const auto& [_, count] : model) most = std::max(most, count);
    ASSERT_EQ(use.fullest().flows, most);
    ASSERT_TRUE((model[{use.fullest().backend, 80}] == most || model[{use.fullest().backend, 81}] == most));
  }
}

}  // namespace
}  // namespace portico
