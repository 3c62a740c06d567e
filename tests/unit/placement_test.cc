// SPDX-License-Identifier: Apache-2.0
#include "dataplane/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace portico {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A machine from hwloc's synthetic description. Operating system numbers count the threads in order.
class Machine {
 public:
  explicit Machine(const char* description) {
    hwloc_topology_init(&topology_);
    EXPECT_EQ(0, hwloc_topology_set_synthetic(topology_, description));
    EXPECT_EQ(0, hwloc_topology_load(topology_));
  }
  ~Machine() { hwloc_topology_destroy(topology_); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  Placement place(PlacementRequest request) const { return place_workers(topology_, request); }
  hwloc_topology_t topology() const { return topology_; }

 private:
  hwloc_topology_t topology_ = nullptr;
};

// Two nodes of four cores of two threads: node 0 has CPUs 0-7, node 1 has 8-15; 2k and 2k+1 share a core.
constexpr const char* kTwoNodes = "numa:2 core:4 pu:2";
constexpr const char* kFourCores = "numa:1 core:4 pu:1";

TEST(Placement, TakesDistinctPhysicalCoresAndLeavesTheFirstToMain) {
  const Placement placement = Machine(kTwoNodes).place({.workers = 3, .nodes = {-1}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(2, 4, 6));
  EXPECT_THAT(placement.main_cpus, ElementsAre(0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  EXPECT_THAT(placement.warnings, IsEmpty());
}

TEST(Placement, PrefersTheNodeOfThePorts) {
  const Placement placement = Machine(kTwoNodes).place({.workers = 4, .nodes = {1}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(8, 10, 12, 14));
  EXPECT_THAT(placement.worker_nodes, ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(placement.warnings, IsEmpty());
}

TEST(Placement, SaysWhenAWorkerIsFarFromThePorts) {
  const Placement placement = Machine(kTwoNodes).place({.workers = 5, .nodes = {1}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(8, 10, 12, 14, 2));
  EXPECT_THAT(placement.warnings, ElementsAre(HasSubstr("another NUMA node (0)")));
}

TEST(Placement, UsesSecondThreadsOnlyWhenCoresRunOutAndSaysSo) {
  const Placement placement = Machine("numa:1 core:2 pu:2").place({.workers = 3, .nodes = {}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(2, 0, 3));
  EXPECT_THAT(placement.main_cpus, ElementsAre(1));
  EXPECT_THAT(placement.warnings, ElementsAre(HasSubstr("share a physical core")));
}

TEST(Placement, LetsWorkersShareCpusWithAWarning) {
  const Placement placement = Machine("numa:1 core:2 pu:1").place({.workers = 8, .nodes = {}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(1, 0, 1, 0, 1, 0, 1, 0));
  EXPECT_THAT(placement.main_cpus, ElementsAre(0, 1));
  EXPECT_THAT(placement.warnings, ElementsAre(HasSubstr("8 workers share 2 CPUs")));
}

TEST(Placement, KeepsToTheAllowedCpus) {
  const Machine machine(kTwoNodes);
  const Placement placement = machine.place({.workers = 2, .nodes = {0}, .allowed = {3, 4, 5, 9}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(4, 9));
  EXPECT_THAT(placement.main_cpus, ElementsAre(3, 5));
  EXPECT_EQ(3u, physical_cores(machine.topology(), {3, 4, 5, 9}));
  EXPECT_EQ(8u, physical_cores(machine.topology(), {}));
}

TEST(Placement, TakesAnExplicitListInItsOrder) {
  const Placement placement = Machine(kFourCores).place({.workers = 2, .worker_cpus = "3,1", .nodes = {}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(3, 1));
  EXPECT_THAT(placement.main_cpus, ElementsAre(0, 2));
}

TEST(Placement, WrapsAShortListAndWarns) {
  const Placement placement = Machine(kFourCores).place({.workers = 3, .worker_cpus = "1-2", .nodes = {}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(1, 2, 1));
  EXPECT_THAT(placement.warnings, ElementsAre(HasSubstr("3 workers share 2 CPUs")));
}

TEST(Placement, RefusesCpusThatAreNotThere) {
  const Machine machine(kFourCores);
  EXPECT_THAT(machine.place({.workers = 1, .worker_cpus = "9", .nodes = {}}).error, HasSubstr("no CPU 9"));
  EXPECT_THAT(machine.place({.workers = 1, .worker_cpus = "1;2", .nodes = {}}).error,
              HasSubstr("not a list"));
}

TEST(CpuList, ReadsNumbersAndRanges) {
  EXPECT_THAT(parse_cpu_list("2,3").value(), ElementsAre(2, 3));
  EXPECT_THAT(parse_cpu_list("2-5,8").value(), ElementsAre(2, 3, 4, 5, 8));
  for (const char* wrong : {"", ",", "1,", "a", "3-1", "-1", "1-", "5000", "1 2", "99999999999999999999"}) {
    EXPECT_FALSE(parse_cpu_list(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace portico
