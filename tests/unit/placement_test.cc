// SPDX-License-Identifier: Apache-2.0
#include "dataplane/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/topology.h"

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

  Placement place(const PlacementRequest& request) const { return place_workers(topology_, request); }
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
  EXPECT_THAT(placement.main_cpus, ElementsAre(0, 1, 8, 9, 10, 11, 12, 13, 14, 15));
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
  EXPECT_THAT(placement.main_cpus, ElementsAre(3)) << "5 is beside worker 0";
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

TEST(Placement, KeepsOtherThreadsOffTheWorkersCores) {
  const Placement placement = Machine("numa:1 core:3 pu:2").place({.workers = 2, .nodes = {}});
  EXPECT_THAT(placement.worker_cpus, ElementsAre(2, 4));
  EXPECT_THAT(placement.main_cpus, ElementsAre(0, 1)) << "3 and 5 are the workers' second threads";
  const Placement full = Machine("numa:1 core:2 pu:2").place({.workers = 2, .nodes = {}});
  EXPECT_THAT(full.main_cpus, ElementsAre(1, 3)) << "better beside a worker than on its CPU";
}

TEST(Placement, SaysWhyForEachWorker) {
  EXPECT_THAT(Machine("numa:2 core:2 pu:2").place({.workers = 4, .nodes = {1}}).reasons,
              ElementsAre("on a port's node, a physical core of its own",
                          "on a port's node, a physical core of its own",
                          "no core is left on the ports' nodes, a physical core of its own",
                          "no core is left on the ports' nodes, a physical core of its own, the one that "
                          "serves the kernel, too"));
  EXPECT_THAT(Machine("numa:1 core:1 pu:2").place({.workers = 3, .nodes = {}}).reasons,
              ElementsAre(HasSubstr("of its own, the one that serves the kernel"),
                          HasSubstr("no core is left: shares that of worker 0"),
                          HasSubstr("no CPU is left: shares that of worker 0")));
  EXPECT_THAT(Machine(kTwoNodes).place({.workers = 1, .worker_cpus = "9", .nodes = {0}}).reasons,
              ElementsAre("named in worker_cpus; far from the ports, a physical core of its own"));
}

// tests/unit/two-nodes.xml: nodes of CPUs 0-3,8-11 and 4-7,12-15; a NIC on each.
class TwoNodes : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(0, setenv("HWLOC_XMLFILE", PORTICO_SOURCE_ROOT "/tests/unit/two-nodes.xml", 1));
    topology_ = load_topology();
    ASSERT_EQ(0, unsetenv("HWLOC_XMLFILE"));
  }

  static PortPlan kernel_port(const char* interface) {
    return {PortKind::kernel_interface, interface, "net_af_xdp0", "", interface};
  }
  static PortPlan pci_port(const char* address) { return {PortKind::pci, address, address, "", ""}; }
  Placement place(uint32_t workers, const std::vector<PortPlan>& ports) {
    PlacementRequest request{workers, "", {}, usable_cpus(topology_.get())};
    for (const PortPlan& port : ports) request.nodes.push_back(node_of_port(topology_.get(), port));
    return place_workers(topology_.get(), request);
  }

  Topology topology_{nullptr, hwloc_topology_destroy};
};

TEST_F(TwoNodes, EachNicIsFoundOnItsNode) {
  EXPECT_EQ("2 NUMA nodes, 8 cores, 16 CPUs", describe_machine(topology_.get()));
  EXPECT_THAT(usable_cpus(topology_.get()), IsEmpty()) << "what this process may use here says nothing there";
  EXPECT_EQ(0, node_of_port(topology_.get(), kernel_port("enp23s0f0")));
  EXPECT_EQ(0, node_of_port(topology_.get(), pci_port("0000:17:00.0")));
  EXPECT_EQ(1, node_of_port(topology_.get(), pci_port("0000:b1:00.0")));
  EXPECT_EQ(-1, node_of_port(topology_.get(), kernel_port("enp99s0")));
  EXPECT_EQ(-1, node_of_port(topology_.get(), {PortKind::vdev, "net_null0", "net_null0", "", ""}));
}

TEST_F(TwoNodes, WorkersStandByTheirNicOnCoresOfTheirOwn) {
  const Placement near0 = place(3, {kernel_port("enp23s0f0")});
  EXPECT_THAT(near0.worker_cpus, ElementsAre(1, 2, 3)) << "CPU 0's core is the kernel's, 8-11 are siblings";
  EXPECT_THAT(near0.worker_nodes, ElementsAre(0, 0, 0));
  EXPECT_THAT(near0.main_cpus, ElementsAre(0, 4, 5, 6, 7, 8, 12, 13, 14, 15));
  const Placement near1 = place(4, {pci_port("0000:b1:00.0")});
  EXPECT_THAT(near1.worker_cpus, ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(near1.warnings, IsEmpty());
}

TEST_F(TwoNodes, MostPortsDecideTheNode) {
  const auto ports = {kernel_port("enp23s0f0"), pci_port("0000:b1:00.0"), pci_port("0000:b1:00.0")};
  EXPECT_THAT(place(2, ports).worker_nodes, ElementsAre(1, 1));
  const Placement all = place(8, ports);
  EXPECT_THAT(all.worker_cpus, ElementsAre(4, 5, 6, 7, 1, 2, 3, 0));
  EXPECT_THAT(all.warnings, IsEmpty()) << "both nodes have a port, and nobody shares a core";
  EXPECT_THAT(place(9, ports).warnings, ElementsAre(HasSubstr("share a physical core")));
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
