// SPDX-License-Identifier: Apache-2.0
// What one source prefix may open and have: counted exactly, by service and family, and given back at the
// end.
#include <gtest/gtest.h>

#include "dataplane/source_limits.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

struct Way {
  const char* name;
  uint16_t port;
  bool is_v6;
};
constexpr Way kWays[] = {
    {"dsr_v4", kDsr, false}, {"dsr_v6", kDsr, true}, {"nat_v4", kNat, false}, {"nat_v6", kNat, true}};

class Limits : public testing::TestWithParam<Way> {
 protected:
  bool is_v6() const { return GetParam().is_v6; }
  ServiceRecord& service() { return content_.services[GetParam().port == kDsr ? 0 : 1]; }
  uint16_t service_id() { return service().id; }
  // A client of the 203.0.113.0/24 or 2001:db8:c::/64, or of a neighbouring prefix.
  Tcp client(uint16_t port, bool is_neighbour = false) const {
    if (is_v6()) return Tcp(is_neighbour ? "2001:db8:c:1::7" : "2001:db8:c::7", port, kVip6, GetParam().port);
    return Tcp(is_neighbour ? "203.0.114.7" : "203.0.113.7", port, kVip4, GetParam().port);
  }
  Tcp syn(uint16_t port, bool is_neighbour = false) const {
    return client(port, is_neighbour).flags(kSynFlag);
  }
  bool opens(Rig& rig, uint16_t port, bool is_neighbour = false) const {
    return rig.send(Bytes(syn(port, is_neighbour))).size() == 1;
  }

  TableContent content_ = [] {
    TableContent c = usual_content();
    for (ServiceRecord& s : c.services) s.source_prefix_v4 = 24;
    return c;
  }();
};
INSTANTIATE_TEST_SUITE_P(Ways, Limits, testing::ValuesIn(kWays),
                         [](const auto& p) { return std::string(p.param.name); });

TEST_P(Limits, SlowANewSourceDownAndNobodyElse) {
  service().source_rate = 10;
  service().source_burst = 3;
  Rig rig(content_);
  for (uint16_t port = 1; port <= 3; ++port) EXPECT_TRUE(opens(rig, port)) << port;
  EXPECT_FALSE(opens(rig, 4));
  EXPECT_EQ(rig.drops(DropReason::source_too_fast), 1u);
  EXPECT_EQ(rig.of_service(service_id(), &ServiceFeedback::source_limited), 1u);
  EXPECT_TRUE(opens(rig, 4, true)) << "another prefix";
  EXPECT_TRUE(opens(rig, 3)) << "a SYN again is no new connection";
  rig.advance_ms(99);
  EXPECT_FALSE(opens(rig, 5));
  rig.advance_ms(1);
  EXPECT_TRUE(opens(rig, 5));
  EXPECT_FALSE(opens(rig, 6));
  rig.advance_ms(10'000);
  for (uint16_t port = 7; port <= 9; ++port)
    EXPECT_TRUE(opens(rig, port)) << "no more is saved up than the burst";
  EXPECT_FALSE(opens(rig, 10));
}

TEST_P(Limits, HoldASourceToItsConnectionsUntilSomeEnd) {
  service().source_flows = 2;
  content_.settings.timeout_syn_ms = 1000;
  Rig rig(content_);
  EXPECT_TRUE(opens(rig, 1));
  EXPECT_TRUE(opens(rig, 2));
  EXPECT_FALSE(opens(rig, 3));
  EXPECT_EQ(rig.drops(DropReason::source_too_many), 1u);
  EXPECT_EQ(rig.of_service(service_id(), &ServiceFeedback::source_limited), 1u);
  EXPECT_TRUE(opens(rig, 3, true));
  rig.advance_ms(1500);
  rig.sweep_ms(500);
  EXPECT_TRUE(opens(rig, 3)) << "the half-open ones have expired";
  EXPECT_TRUE(opens(rig, 4));
  EXPECT_FALSE(opens(rig, 5));
}

TEST_P(Limits, CountAPrefixAsOne) {
  service().source_flows = 1;
  service().source_prefix_v4 = is_v6() ? 32 : 16;
  service().source_prefix_v6 = 48;
  Rig rig(content_);
  EXPECT_TRUE(opens(rig, 1));
  EXPECT_FALSE(opens(rig, 1, true)) << (is_v6() ? "2001:db8:c::/48" : "203.0.0.0/16");
}

TEST_P(Limits, KnowServicesApart) {
  for (ServiceRecord& s : content_.services) s.source_flows = 1;
  Rig rig(content_);
  for (const uint16_t port : {kDsr, kNat}) {
    const Tcp tcp = is_v6() ? Tcp(kClient6, 1, kVip6, port) : Tcp(kClient4, 1, kVip4, port);
    EXPECT_EQ(rig.send(Bytes(Tcp(tcp).flags(kSynFlag))).size(), 1u) << port;
  }
  EXPECT_FALSE(opens(rig, 2));
}

TEST_P(Limits, ComeAndGoWithReloads) {
  Rig rig(content_);
  for (uint16_t port = 1; port <= 5; ++port) EXPECT_TRUE(opens(rig, port));
  service().source_flows = 2;
  rig.adopt(content_);
  EXPECT_TRUE(opens(rig, 6)) << "older ones do not count";
  EXPECT_TRUE(opens(rig, 7));
  EXPECT_FALSE(opens(rig, 8));
  service().source_flows = 3;
  rig.adopt(content_);
  EXPECT_TRUE(opens(rig, 8)) << "the count goes on";
  EXPECT_FALSE(opens(rig, 9));
  service().source_flows = 0;
  rig.adopt(content_);
  for (uint16_t port = 10; port <= 20; ++port) EXPECT_TRUE(opens(rig, port));
  EXPECT_EQ(rig.drops(DropReason::source_too_many), 2u);
}

TEST_P(Limits, AreSharedOutToWorkers) {
  service().source_flows = 3;
  Rig rig(content_, {.workers = 2});
  for (uint32_t worker = 0; worker < 2; ++worker) {
    uint32_t opened = 0;
    for (uint16_t port = 1; port <= 5; ++port)
      opened += static_cast<uint32_t>(
          rig.send(Bytes(syn(static_cast<uint16_t>(port + 10 * worker))), worker).size());
    EXPECT_EQ(opened, 2u) << "a half, rounded up";
  }
}

TEST_P(Limits, CountConnectionsThatAreTakenUpAfterARestart) {
  service().source_flows = 2;
  TempDir directory;
  uint64_t now = 0;
  {
    Rig rig(content_, {.keep = directory.path()});
    EXPECT_TRUE(opens(rig, 1));
    now = rig.now();
  }
  Rig rig(content_, {.keep = directory.path(), .now = now + 1000});
  ASSERT_EQ(rig.total(&WorkerCounters::flows_kept), 1u);
  EXPECT_TRUE(opens(rig, 2));
  EXPECT_FALSE(opens(rig, 3));
}

TEST(SourceLimitsMemory, ForgetsTheSmallestSourceFirst) {
  SourceLimits limits;
  constexpr uint64_t kOneBucket = uint64_t{5} << 32;
  limits.add(kOneBucket | 2, 0);
  limits.add(kOneBucket | 2, 0);
  for (uint64_t i = 2; i <= 20; ++i) limits.add(kOneBucket | (2 * i), 0);
  EXPECT_EQ(limits.flows(kOneBucket | 2), 2u) << "nineteen with one connection each have come";
  EXPECT_EQ(limits.flows(kOneBucket | 40), 1u);
  EXPECT_EQ(limits.flows(kOneBucket | 24), 0u) << "forgotten";
  limits.remove(kOneBucket | 24);
  limits.remove(kOneBucket | 40);
  limits.remove(kOneBucket | 40);
  EXPECT_EQ(limits.flows(kOneBucket | 40), 0u);
  limits.follow(7);
  EXPECT_EQ(limits.flows(kOneBucket | 2), 0u);
}

}  // namespace
}  // namespace portico::test
