// SPDX-License-Identifier: Apache-2.0
// What DPDK is asked for, and which changes need a restart.
#include "dataplane/start_plan.h"
#include "dataplane/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>

#include "dataplane/buffers.h"
#include "dataplane/device.h"
#include "dataplane/idle.h"
#include "dataplane/telemetry.h"

namespace portico {
namespace {

using namespace std::string_view_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

PortRecord port_record(const std::string& name, const std::string& devargs = "", uint32_t queues = 1) {
  PortRecord record{};
  std::memcpy(record.name, name.c_str(), name.size());
  std::memcpy(record.devargs, devargs.c_str(), devargs.size());
  record.queues = queues;
  return record;
}

template <typename T>
std::shared_ptr<const Block> block_of(const std::vector<T>& records) {
  auto block = std::make_shared<Block>();
  block->ref.count = static_cast<uint32_t>(records.size());
  block->bytes.resize(records.size() * sizeof(T));
  std::memcpy(block->bytes.data(), records.data(), block->bytes.size());
  return block;
}

Snapshot snapshot_of(const SettingsRecord& settings, const std::vector<PortRecord>& ports) {
  Snapshot snapshot;
  snapshot.settings = block_of<SettingsRecord>({settings});
  snapshot.ports = block_of(ports);
  return snapshot;
}

SettingsRecord settings_with(uint32_t workers, const char* cpus = "") {
  SettingsRecord settings{};
  settings.workers = workers;
  settings.flows = 3000;
  settings.huge_pages = static_cast<uint8_t>(HugePages::off);
  std::strcpy(settings.worker_cpus, cpus);
  return settings;
}

TEST(PortPlan, AKernelNameMeansAfXdp) {
  const PortPlan plan = plan_port(port_record("enp3s0f0"), 2, 4, "/run/x/steer.o");
  EXPECT_EQ(PortKind::kernel_interface, plan.kind);
  EXPECT_EQ("net_af_xdp2", plan.device);
  EXPECT_EQ("iface=enp3s0f0,start_queue=0,queue_count=4,busy_budget=0,xdp_prog=/run/x/steer.o",
            plan.arguments);
  EXPECT_EQ("enp3s0f0", plan.interface);
}

TEST(PortPlan, APciAddressMeansTheDevice) {
  EXPECT_EQ("0000:03:00.1", plan_port(port_record("03:00.1"), 0, 1, "").device);
  const PortPlan plan = plan_port(port_record("0001:03:00.1"), 0, 1, "");
  EXPECT_EQ(PortKind::pci, plan.kind);
  EXPECT_EQ("0001:03:00.1", plan.device);
  EXPECT_EQ("", plan.interface);
}

TEST(PortPlan, DevargsAreTakenAsGiven) {
  const PortPlan packet = plan_port(port_record("lan", "net_af_packet0,iface=eth1,qpairs=2"), 0, 2, "x");
  EXPECT_EQ(PortKind::vdev, packet.kind);
  EXPECT_EQ("net_af_packet0", packet.device);
  EXPECT_EQ("iface=eth1,qpairs=2", packet.arguments);
  EXPECT_EQ("eth1", packet.interface);

  const PortPlan pcap = plan_port(port_record("net_pcap0", "rx_pcap=a.pcap,tx_pcap=b.pcap"), 0, 1, "x");
  EXPECT_EQ("net_pcap0", pcap.device);
  EXPECT_EQ("rx_pcap=a.pcap,tx_pcap=b.pcap", pcap.arguments);
  EXPECT_EQ("", pcap.interface);

  const PortPlan null = plan_port(port_record("net_null0"), 0, 1, "x");
  EXPECT_EQ(PortKind::vdev, null.kind);
  EXPECT_EQ("net_null0", null.device);

  const PortPlan memif = plan_port(port_record("m", "net_memif0,role=client"), 0, 1, "x");
  EXPECT_EQ("", memif.interface);
}

TEST(PortPlan, KnowsPciAddresses) {
  for (const char* right : {"03:00.0", "0000:03:00.7", "10000:03:00.0"}) {
    EXPECT_EQ(std::string(right) != "10000:03:00.0", is_pci_address(right)) << right;
  }
  for (const char* wrong : {"", "eth0", "03:00.8", "03:00", "0000:03:00.x", "g0:00.0"}) {
    EXPECT_FALSE(is_pci_address(wrong)) << wrong;
  }
}

TEST(EalArguments, VirtualPortsNeedNoPci) {
  EalRequest request{
      .file_prefix = "edge", .main_cpus = {0, 3}, .ports = {plan_port(port_record("eth0"), 0, 1, "")}};
  const auto arguments = eal_arguments(request);
  EXPECT_EQ("portico-dataplane", arguments.front());
  EXPECT_THAT(arguments, Contains("--in-memory"));
  EXPECT_THAT(arguments, Contains("--file-prefix=edge"));
  EXPECT_THAT(arguments, Contains("--lcores=0@(0,3)"));
  EXPECT_THAT(arguments, Contains("--no-pci"));
  EXPECT_THAT(arguments, Not(Contains("--no-huge")));
}

TEST(EalArguments, PciPortsAreTheOnlyOnesAllowed) {
  EalRequest request{
      .file_prefix = "edge", .main_cpus = {0}, .ports = {plan_port(port_record("03:00.0"), 0, 1, "")}};
  const auto arguments = eal_arguments(request);
  EXPECT_THAT(arguments, Contains("--allow=0000:03:00.0"));
  EXPECT_THAT(arguments, Not(Contains("--no-pci")));
}

TEST(EalArguments, WithoutHugePagesMemoryIsGivenInMegabytes) {
  EalRequest request{
      .file_prefix = "edge", .huge_pages = false, .memory_mb = 77, .main_cpus = {0}, .ports = {}};
  const auto arguments = eal_arguments(request);
  const auto at = std::find(arguments.begin(), arguments.end(), "-m");
  ASSERT_NE(arguments.end(), at);
  EXPECT_EQ("77", *(at + 1));
  EXPECT_THAT(arguments, Contains("--no-huge"));
  EXPECT_THAT(arguments, Not(Contains("--in-memory"))) << "DPDK refuses both together";
}

TEST(FilePrefix, IsOnePerRunDirectory) {
  EXPECT_EQ(derive_file_prefix("/run/portico"), derive_file_prefix("/run/portico/"));
  EXPECT_EQ(derive_file_prefix("/run/portico"), derive_file_prefix("/run/x/../portico"));
  EXPECT_NE(derive_file_prefix("/run/a/portico"), derive_file_prefix("/run/b/portico"));
  EXPECT_THAT(derive_file_prefix("/run/portico"), HasSubstr("portico-"));
  EXPECT_EQ(std::string::npos, derive_file_prefix("/tmp/ä b,c").find_first_of(" ,\xc3"));
}

TEST(WorkerCount, IsWhatEveryPortHasQueuesFor) {
  EXPECT_EQ(1u, choose_workers({1}, 8));
  EXPECT_EQ(4u, choose_workers({4, 8}, 16));
  EXPECT_EQ(7u, choose_workers({64}, 8));
  EXPECT_EQ(1u, choose_workers({8}, 1));
  EXPECT_EQ(1u, choose_workers({0}, 8)) << "a port that does not say has one";
  EXPECT_EQ(kMaxWorkers, choose_workers({1000}, 1000));
}

TEST(StartPlan, SplitsFlowsAndWarnsOfSharedCpus) {
  const std::string cpu = std::to_string(allowed_cpus().front());
  const Snapshot snapshot = snapshot_of(settings_with(3, cpu.c_str()),
                                        {port_record("net_null0", "", 3), port_record("net_null1", "", 0)});
  const StartPlan plan = make_start_plan(snapshot, Options{.file_prefix = "t"}, "");
  EXPECT_EQ(3u, plan.workers);
  EXPECT_EQ(1000u, plan.flows_per_worker);
  EXPECT_THAT(plan.placement.warnings, ElementsAre(HasSubstr("share 1 CPUs")));
  EXPECT_GE(plan.mbufs, 2 * 3 * (2048u + 3 * kQueueDescriptors));
  EXPECT_THAT(plan_text(plan), HasSubstr("port net_null1: net_null1\n"));
}

TEST(StartPlan, RefusesWithTheRemedy) {
  const auto refusal = [](const SettingsRecord& settings, const PortRecord& port) {
    try {
      make_start_plan(snapshot_of(settings, {port}), Options{.file_prefix = "t"}, "");
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_THAT(refusal(settings_with(1), port_record("nowhere0")),
              HasSubstr("there is no interface nowhere0"));
  EXPECT_THAT(refusal(settings_with(1), port_record("ff:1f.7")),
              HasSubstr("there is no PCI device 0000:ff:1f.7"));
  EXPECT_THAT(refusal(settings_with(2), port_record("net_null0", "", 3)), HasSubstr("set `workers: 3`"));
  EXPECT_THAT(refusal(settings_with(1, "4095"), port_record("net_null0")), HasSubstr("no CPU 4095"));
}

TEST(StartPlan, LargeFramesGetLargeBuffers) {
  EXPECT_EQ(mbuf_data_room(1500), mbuf_data_room(1000));
  EXPECT_GE(mbuf_data_room(9000), 9000 + 128 + 256 + 26);
}

TEST(Restart, IsNeededForStartSettingsAlone) {
  const Snapshot running = snapshot_of(settings_with(1), {port_record("a")});
  SettingsRecord rate = settings_with(1);
  rate.reset_rate = 7;
  EXPECT_FALSE(restart_needed(running, snapshot_of(rate, {port_record("a")})));
  EXPECT_EQ("workers, worker_cpus",
            restart_needed(running, snapshot_of(settings_with(2, "1,2"), {port_record("a")})).value());
  PortRecord two_queues = port_record("a");
  two_queues.queues = 2;
  EXPECT_EQ("workers", restart_needed(running, snapshot_of(settings_with(2), {two_queues})).value());
  EXPECT_EQ("ports", restart_needed(running, snapshot_of(settings_with(1), {two_queues})).value());
  const Snapshot added = snapshot_of(settings_with(1), {port_record("a"), port_record("b")});
  EXPECT_EQ("ports", restart_needed(running, added).value());
  EXPECT_FALSE(ports_conflict(running, added));
  EXPECT_TRUE(ports_conflict(running, snapshot_of(settings_with(1), {port_record("b"), port_record("a")})));
}

TEST(Idle, SleepsLongerTheLongerTheSilence) {
  IdleBackoff idle;
  for (uint32_t turn = 0; turn < IdleBackoff::kPauseTurns; ++turn) ASSERT_EQ(0u, idle.next_sleep_ns());
  uint32_t last = 0;
  for (int turn = 0; turn < 1000; ++turn) {
    const uint32_t sleep = idle.next_sleep_ns();
    ASSERT_GE(sleep, std::max(last, IdleBackoff::kShortestNs));
    last = sleep;
  }
  EXPECT_EQ(IdleBackoff::kLongestNs, last);
  idle.reset();
  EXPECT_EQ(0u, idle.next_sleep_ns());
}

// A NIC with eight queues, as the kernel tells of it.
InterfaceFacts nic_facts(uint32_t spread_queues, uint32_t mtu = 1500) {
  return {.exists = true, .is_up = true, .mtu = mtu, .rx_queues = 8, .spread_queues = spread_queues};
}
std::string objection(const InterfaceFacts& facts, uint32_t workers) {
  const PortPlan port = plan_port(port_record("eth0"), 0, workers, "");
  return objection_to(port, facts, workers).value_or("");
}

TEST(KernelInterface, AQueueWithoutAWorkerIsRefusedWithTheCommandToType) {
  EXPECT_EQ("", objection(nic_facts(0), 8));
  EXPECT_EQ("", objection(nic_facts(8), 8));
  EXPECT_EQ("", objection({.exists = true}, 3)) << "the driver does not tell";
  EXPECT_THAT(objection(nic_facts(8), 2),
              testing::AllOf(HasSubstr("receives on 8 queues and there are 2 workers"),
                             HasSubstr("`ethtool -L eth0 combined 2`"),
                             HasSubstr("`ethtool -X eth0 equal 2`"), HasSubstr("`workers: 8`")));
  EXPECT_THAT(objection(nic_facts(8), 9),
              testing::AllOf(HasSubstr("`ethtool -L eth0 combined 9`"), Not(HasSubstr("ethtool -X"))));
}

TEST(KernelInterface, WhatTheRedirectionTableDoesNotNameReceivesNothing) {
  EXPECT_EQ("", objection(nic_facts(2), 2)) << "ethtool -X eth0 equal 2";
  EXPECT_THAT(objection(nic_facts(2), 4),
              testing::AllOf(HasSubstr("on 2 queues"), HasSubstr("`ethtool -X eth0 equal 4`")));
  EXPECT_THAT(objection(nic_facts(2), 1), HasSubstr("on 2 queues"));
}

TEST(KernelInterface, AnMtuThatDoesNotFitAPageIsRefused) {
  EXPECT_EQ("", objection(nic_facts(0, kMostAfXdpMtu), 8));
  EXPECT_THAT(objection(nic_facts(0, 9000), 8),
              testing::AllOf(HasSubstr("MTU 9000"), HasSubstr("`ip link set dev eth0 mtu 3498`"),
                             HasSubstr("vfio-pci")));
}

TEST(ExplainParameters, AreCheckedOneByOne) {
  std::string complaint;
  const auto query = parse_explain("198.18.0.1,40000,203.0.113.10,443", complaint);
  ASSERT_TRUE(query);
  EXPECT_EQ(40000, query->client_port);
  EXPECT_EQ(443, query->vip_port);
  EXPECT_EQ("203.0.113.10", to_string(query->vip));
  EXPECT_TRUE(parse_explain("2001:db8::1,0,2001:db8::2,65535", complaint));

  for (const char* wrong :
       {"", ",", "198.18.0.1", "198.18.0.1,1,203.0.113.10", "198.18.0.1,1,203.0.113.10,443,",
        "198.18.0.1,1,x,443", "x,1,203.0.113.10,443", "198.18.0.1,65536,203.0.113.10,443",
        "198.18.0.1,-1,203.0.113.10,443", "198.18.0.1,1,203.0.113.10,0", "198.18.0.1, 1,203.0.113.10,443",
        "198.18.0.1,1,2001:db8::1,443", "198.18.0.1,,203.0.113.10,443", "198.18.0.1,1x,203.0.113.10,443",
        ",,,", ",,,,,,,,,,,,,,,,,"}) {
    complaint.clear();
    EXPECT_FALSE(parse_explain(wrong, complaint)) << wrong;
    EXPECT_NE("", complaint) << wrong;
  }
  EXPECT_FALSE(parse_explain(std::string(100000, ','), complaint));
  EXPECT_FALSE(parse_explain("198.18.0.1\0,1,203.0.113.10,443"sv, complaint));
}

}  // namespace
}  // namespace portico
