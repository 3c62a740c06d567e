// SPDX-License-Identifier: Apache-2.0
#include "control/checks/loop_back.h"

#include <gtest/gtest.h>

#include "tests/unit/net_namespaces.h"

namespace portico {
namespace {

// What the loop-back check says in the end, inside a network namespace.
std::optional<bool> found_in(const NetNamespace& host) {
  return host.inside([] {
    boost::asio::io_context io(1);
    LoopBack loop_back(io);
    EXPECT_EQ(loop_back.look(), std::nullopt);
    io.run();
    const auto found = loop_back.look();
    loop_back.forget();
    EXPECT_EQ(loop_back.look(LoopBack::Clock::time_point{}), std::nullopt);
    return found;
  });
}

TEST(LoopBack, ReachesItselfUnlessTheHostLetsNothingPass) {
  const NetNamespace host;
  EXPECT_EQ(found_in(host), true);
  host.run(
      "nft 'table inet shut { chain in { type filter hook input priority 0; meta l4proto tcp drop; }; }'");
  EXPECT_EQ(found_in(host), false);
  host.run("nft delete table inet shut && ip link set lo down");
  EXPECT_EQ(found_in(host), false);
}

}  // namespace
}  // namespace portico
