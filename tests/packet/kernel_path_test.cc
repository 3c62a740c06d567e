// SPDX-License-Identifier: Apache-2.0
// Ports that DPDK drives alone: what is the kernel's reaches it unchanged, and what it sends leaves by the
// port. Rings stand for the NIC, queues of this test for the kernel.
#include <gtest/gtest.h>
#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "dataplane/host_path.h"
#include "dataplane/worker_thread.h"
#include "tests/packet/rig.h"

namespace portico::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(20);
constexpr const char* kOwn4 = "198.18.0.2";

Bytes bytes_of(const rte_mbuf* m) {
  const auto* data = rte_pktmbuf_mtod(m, const uint8_t*);
  return {data, data + m->data_len};
}

rte_mbuf* mbuf_of(const Bytes& frame) {
  rte_mbuf* m = rte_pktmbuf_alloc(packet_pool());
  if (m == nullptr) throw std::runtime_error("no packet buffer");
  std::memcpy(rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
  return m;
}

Bytes with(Bytes frame, size_t at, uint8_t value) {
  frame.at(at) = value;
  return frame;
}

// A frame of Ethernet type `type` with nothing known in it.
Bytes other_frame(uint16_t type) {
  Bytes frame(60, 7);
  frame[12] = static_cast<uint8_t>(type >> 8);
  frame[13] = static_cast<uint8_t>(type);
  return frame;
}

Tcp icmp4(const char* from, const char* to, uint8_t type) {
  return Tcp(from, static_cast<uint16_t>(type << 8), to, 0).protocol(1);
}
Tcp icmp6(const char* from, const char* to, uint8_t type) {
  return Tcp(from, static_cast<uint16_t>(type << 8), to, 0).protocol(58);
}

// --- What the packet path gives to the kernel, without threads ---

class Verdicts : public testing::Test {
 protected:
  void expect_kernel(const char* what, const Bytes& frame) {
    const size_t before = rig_.kernel_packets();
    EXPECT_TRUE(rig_.send(frame).empty()) << what;
    EXPECT_EQ(before + 1, rig_.kernel_packets()) << what;
  }
  void expect_drop(const char* what, const Bytes& frame, DropReason reason) {
    const size_t kernel = rig_.kernel_packets();
    const uint64_t before = rig_.drops(reason);
    EXPECT_TRUE(rig_.send(frame).empty()) << what;
    EXPECT_EQ(kernel, rig_.kernel_packets()) << what;
    EXPECT_EQ(before + 1, rig_.drops(reason)) << what;
  }
  Rig rig_{usual_content(), {.kernel_ports = 1}};
};

TEST_F(Verdicts, NeighboursAndTheApplianceItselfAreTheKernels) {
  expect_kernel("ARP", other_frame(0x0806));
  expect_kernel("LLDP", with(other_frame(0x88cc), 0, 0x01));
  expect_kernel("SSH to the appliance", Tcp(kClient4, 5000, kOwn4, 22).flags(kSynFlag));
  expect_kernel("BGP with TTL 1", Tcp(kClient4, 5000, kOwn4, 179).flags(kSynFlag).ttl(1));
  expect_kernel("SSH to the VIP", Tcp(kClient4, 5000, kVip4, 22).ack(7));
  expect_kernel("SSH to the VIP, IPv6", Tcp(kClient6, 5000, kVip6, 22).ack(7));
  // RFC 4862 section 5.4.2: its source is unspecified, which no packet of a client has.
  expect_kernel("duplicate address detection", Tcp("::", 0, "ff02::1:ff00:2", 0).protocol(58));
  expect_kernel("DHCP", Tcp("0.0.0.0", 68, "255.255.255.255", 67).protocol(17));
}

TEST_F(Verdicts, WhatTheKernelCouldOnlyThrowAwayDoesNotReachIt) {
  const auto expect_not_tcp = [this](const char* what, const Tcp& packet) {
    expect_drop(what, packet, DropReason::not_tcp);
  };
  expect_not_tcp("UDP to the VIP", Tcp(kClient4, 5000, kVip4, kDsr).protocol(17));
  expect_not_tcp("UDP to the VIP, IPv6", Tcp(kClient6, 5000, kVip6, kDsr).protocol(17));
  expect_not_tcp("GRE to the NAT address", Tcp(kClient4, 5000, kNat4, 1).protocol(47));
  expect_not_tcp("a fragment of UDP", Tcp(kClient4, 1, kVip4, kDsr).protocol(17).fragment(0x2000));
  expect_kernel("ping", Tcp(kClient4, 8, kVip4, kDsr).protocol(1));
  expect_kernel("UDP to the appliance", Tcp(kClient4, 5000, kOwn4, 53).protocol(17));
}

TEST_F(Verdicts, WhatNobodyCanReadIsTheKernels) {
  expect_kernel("truncated", Bytes{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8});
  expect_kernel("version 5", with(Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag), 14, 0x55));
  expect_kernel("a group's MAC address", with(Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag), 0, 0x01));
  expect_kernel("the same in an established flow", with(Tcp(kClient4, 1, kVip4, kDsr).ack(5), 0, 0x01));
  expect_kernel("the same, IPv6", with(Tcp(kClient6, 1, kVip6, kDsr).ack(5), 0, 0x01));
  expect_kernel("two tags", Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag).vlan(1).vlan(2));
  expect_kernel("odd flags to another port", Tcp(kClient4, 1, kVip4, 22).flags(kSynFlag | kFinFlag));
}

TEST_F(Verdicts, FragmentsAndErrorsGoToWhomTheyAreAbout) {
  expect_kernel("a ping's fragment", Tcp(kClient4, 1, kVip4, kDsr).protocol(1).fragment(0x2000));
  expect_drop("a fragment of the service's", Tcp(kClient4, 1, kVip4, kDsr).fragment(0x2000),
              DropReason::fragment_malformed);
  const Bytes of_ssh = Tcp(kVip4, 22, kClient4, 1).ip(), of_service = Tcp(kNat4, 2000, "198.18.1.1", 80).ip();
  expect_kernel("an error about SSH", icmp_error("198.18.1.254", kVip4, 3, of_ssh, of_ssh.size()));
  expect_drop("an error about a flow that is gone",
              icmp_error("198.18.1.254", kNat4, 3, of_service, of_service.size()),
              DropReason::icmp_unknown_flow);
}

TEST_F(Verdicts, TheServicesOwnFaultsAreDroppedAndCounted) {
  const Tcp syn = Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag);
  expect_drop("odd flags", Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag | kFinFlag),
              DropReason::bad_tcp_flags);
  expect_drop("wrong checksum", with(syn, 24, 0), DropReason::bad_ip_checksum);
  expect_drop("impossible source", Tcp("127.0.0.1", 1, kVip4, kDsr).flags(kSynFlag), DropReason::bad_source);
  EXPECT_EQ(rig_.send(Bytes(syn)).size(), 1u) << "and a good one is forwarded";
}

// A switch floods what is for another balancer's MAC address: that one forwards it.
TEST(KernelPath, PromiscuousPortsTakeNothingOfOtherStations) {
  Rig rig(usual_content(), {.kernel_ports = 1, .promiscuous_ports = 1});
  uint64_t others = 0;
  for (const char* client : {kClient4, kClient6}) {
    const char* const vip = client == kClient4 ? kVip4 : kVip6;
    const Tcp syn = Tcp(client, 1, vip, kDsr).flags(kSynFlag);
    const Tcp later = Tcp(client, 1, vip, kDsr).ack(5);
    EXPECT_EQ(rig.send(Bytes(syn)).size(), 1u);
    EXPECT_EQ(rig.send(Bytes(later)).size(), 1u);
    for (const Bytes& frame : {Bytes(syn), Bytes(later)}) EXPECT_TRUE(rig.send(with(frame, 5, 3)).empty());
    EXPECT_EQ(rig.drops(DropReason::not_ours), others += 2);
  }
  rig.send(with(with(other_frame(0x0806), 0, 2), 5, 3));
  EXPECT_EQ(rig.drops(DropReason::not_ours), others + 1);
  EXPECT_EQ(rig.kernel_packets(), 0u);
  rig.send(with(other_frame(0x0806), 0, 0xff));
  EXPECT_EQ(rig.kernel_packets(), 1u) << "a broadcast";
}

TEST(KernelPath, PortsThatTheKernelHasItselfGetNothingBack) {
  Rig rig(usual_content(), {.kernel_ports = 2});  // frames come by port 0
  EXPECT_TRUE(rig.send(other_frame(0x0806)).empty());
  EXPECT_EQ(rig.kernel_packets(), 0u);
  EXPECT_EQ(rig.drops(DropReason::not_ours), 1u);
}

// --- With the worker's and the host path's threads ---

// The kernel's end: what was written, and what is to be read.
class FakeKernel : public HostDevice {
 public:
  uint32_t write(rte_mbuf* const* packets, uint32_t count) override {
    const std::lock_guard lock(lock_);
    if (is_down_) return 0;
    for (uint32_t i = 0; i < count; ++i) got_.push_back(bytes_of(packets[i]));
    return count;
  }
  Read read(rte_mempool*, rte_mbuf** packets, uint32_t room) override {
    const std::lock_guard lock(lock_);
    if (has_no_buffers_) return {0, true};
    uint32_t count = 0;
    for (; count < room && !sends_.empty(); ++count) {
      packets[count] = mbuf_of(sends_.front());
      sends_.pop_front();
    }
    eventfd_t ignored;
    if (sends_.empty()) eventfd_read(event_, &ignored);
    return {count, false};
  }
  void set_link(bool up) override { link_ = up; }
  int fd() const override { return event_; }
  ~FakeKernel() override { close(event_); }

  void send(const std::vector<Bytes>& frames) {
    const std::lock_guard lock(lock_);
    sends_.insert(sends_.end(), frames.begin(), frames.end());
    eventfd_write(event_, 1);
  }
  void set_down(bool down) {
    const std::lock_guard lock(lock_);
    is_down_ = down;
  }
  void set_buffers(bool any) {
    const std::lock_guard lock(lock_);
    has_no_buffers_ = !any;
  }
  std::vector<Bytes> got() {
    const std::lock_guard lock(lock_);
    return got_;
  }
  int link() const { return link_; }

 private:
  std::mutex lock_;
  std::vector<Bytes> got_;
  std::deque<Bytes> sends_;
  bool is_down_ = false, has_no_buffers_ = false;
  std::atomic<int> link_{-1};
  const int event_ = eventfd(0, EFD_NONBLOCK);
};

template <typename Condition>
bool becomes_within(Clock::duration patience, Condition condition) {
  const auto deadline = Clock::now() + patience;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

template <typename Condition>
bool becomes(Condition condition) {
  return becomes_within(kPatience, condition);
}

// One worker on one port, whose wire is two rings.
class Appliance : public testing::Test {
 protected:
  static constexpr uint32_t kRing = 4096;

  void SetUp() override {
    packet_pool();
    in_ = rte_ring_create("kernel-in", kRing, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
    out_ = rte_ring_create("kernel-out", kRing, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
    static int number = 0;  // a ring port's name is not free again when it is closed
    const std::string name = "kernel" + std::to_string(number++);
    const int id = rte_eth_from_rings(name.c_str(), &in_, 1, &out_, 1, 0);
    ASSERT_GE(id, 0);
    port_ = static_cast<uint16_t>(id);
    const rte_eth_conf conf{};
    ASSERT_EQ(0, rte_eth_dev_configure(port_, 1, 1, &conf));
    ASSERT_EQ(0, rte_eth_rx_queue_setup(port_, 0, 512, 0, nullptr, packet_pool()));
    ASSERT_EQ(0, rte_eth_tx_queue_setup(port_, 0, 512, 0, nullptr));
    ASSERT_EQ(0, rte_eth_dev_start(port_));
    auto device = std::make_unique<FakeKernel>();
    kernel_ = device.get();
    std::vector<std::unique_ptr<HostDevice>> devices;
    devices.push_back(std::move(device));
    host_ = std::make_unique<HostPath>("test", std::move(devices), 1, packet_pool());
    TableContent content = usual_content();
    content.next_hops.push_back(hop("2001:db8:1::1", 0x11));
    content.pools[0].backends[0].next_hop_v6 = 4;
    table_ = build_table(snapshot_of(content, nullptr), nullptr);
    // The worker's time goes by slowly: what it allows at a time, it allows once in a test.
    const WorkerConfig config{.flows = 1024,
                              .tsc_hz = rte_get_tsc_hz() * 1000,
                              .huge_pages = false,
                              .kernel_ports = host_->ports(),
                              .pool = packet_pool()};
    worker_ = std::make_unique<WorkerThread>(config, -1, std::vector<uint16_t>{port_}, nullptr, host_.get());
    worker_->worker().prepare(*table_);
    worker_->publish(table_.get());
  }
  void TearDown() override {
    worker_->stop();
    host_->stop();
    worker_.reset();
    host_.reset();
    rte_eth_dev_stop(port_);
    rte_eth_dev_close(port_);
    for (rte_ring* ring : {in_, out_}) {
      void* packet = nullptr;
      while (rte_ring_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      rte_ring_free(ring);
    }
  }
  void start() {
    worker_->start();
    host_->start();
  }
  void arrive(const Bytes& frame) { ASSERT_EQ(0, rte_ring_enqueue(in_, mbuf_of(frame))); }
  std::vector<Bytes> left() {
    void* packet = nullptr;
    while (rte_ring_dequeue(out_, &packet) == 0) {
      auto* m = static_cast<rte_mbuf*>(packet);
      left_.push_back(bytes_of(m));
      rte_pktmbuf_free(m);
    }
    return left_;
  }
  std::vector<Bytes> delivered_after(const Bytes& flood, const std::vector<Bytes>& frames);
  uint64_t count(uint64_t WorkerCounters::*counter) {
    return load_counter(worker_->worker().counters().*counter);
  }

  rte_ring *in_ = nullptr, *out_ = nullptr;
  uint16_t port_ = 0;
  FakeKernel* kernel_ = nullptr;
  std::unique_ptr<HostPath> host_;
  std::shared_ptr<const Table> table_;
  std::unique_ptr<WorkerThread> worker_;
  std::vector<Bytes> left_;
};

TEST_F(Appliance, FramesPassBothWaysUnchangedAndInOrder) {
  start();
  std::vector<Bytes> ssh, answers;
  for (uint16_t i = 0; i < 500; ++i) {
    ssh.emplace_back(Tcp(kClient4, static_cast<uint16_t>(1000 + i), kOwn4, 22).ack(i).payload("in"));
    answers.emplace_back(Tcp(kOwn4, 22, kClient4, static_cast<uint16_t>(1000 + i)).ack(i).payload("out"));
  }
  for (const Bytes& frame : ssh) arrive(frame);
  ASSERT_TRUE(becomes([&] { return kernel_->got().size() == ssh.size(); }));
  EXPECT_EQ(ssh, kernel_->got());
  kernel_->send(answers);
  ASSERT_TRUE(becomes([&] { return left().size() == answers.size(); }));
  EXPECT_EQ(answers, left_);
  EXPECT_EQ(500u, count(&WorkerCounters::to_kernel));
  EXPECT_EQ(500u, host_->counters().delivered.load());
  EXPECT_EQ(500u, host_->counters().from_kernel.load());
  EXPECT_EQ(0u, host_->counters().lost.load() + host_->counters().refused.load());
}

// Each frame finds the thread asleep, or on its way to sleep.
TEST_F(Appliance, ASleepingHostPathIsWokenByEachSide) {
  start();
  for (uint32_t i = 0; i < 50; ++i) {
    arrive(other_frame(0x0806));
    ASSERT_TRUE(becomes([&] { return kernel_->got().size() == i + 1; })) << i;
    kernel_->send({other_frame(0x0806)});
    ASSERT_TRUE(becomes([&] { return left().size() == i + 1; })) << i;
  }
}

TEST_F(Appliance, AFloodForTheKernelIsCountedAndStopsNoService) {
  worker_->start();  // and nobody takes out of the ring
  for (uint32_t i = 0; i < 3000; ++i) arrive(other_frame(0x0806));
  arrive(Tcp(kClient4, 1, kVip4, kDsr).flags(kSynFlag));
  ASSERT_TRUE(becomes([&] { return left().size() == 1; }));
  const auto& drops = worker_->worker().counters().drops;
  EXPECT_EQ(3000u, count(&WorkerCounters::to_kernel))
      << "those that found no room are counted again as drops";
  const uint64_t full = load_counter(drops[static_cast<uint32_t>(DropReason::kernel_full)]);
  EXPECT_GT(full, 0u);
  host_->start();
  ASSERT_TRUE(becomes([&] { return kernel_->got().size() == 3000 - full; }));
}

// What keeps the appliance going and cannot come from afar.
std::vector<Bytes> certain() {
  const uint8_t backend_mac = 0x11;
  return {
      other_frame(0x0806),
      icmp6("fe80::1", "ff02::1:ff00:2", 135).ttl(255),
      icmp6("2001:db8:9::1", "2001:db8::2", 136).ttl(255),
      with(Tcp("198.18.1.1", 80, kOwn4, 50000).ack(7), 11, backend_mac),  // a check's answer
      with(Tcp("2001:db8:1::1", 80, "2001:db8::2", 50000).ack(7), 11, backend_mac),
      Tcp("fe80::1", 179, "fe80::2", 50001).ack(7).ttl(1),           // BGP
      Tcp("198.18.0.1", 179, kOwn4, 50001).ack(7).ttl(255),          // BGP with RFC 5082
      Tcp("198.18.0.1", 49152, kOwn4, 3784).protocol(17).ttl(255),   // BFD
      Tcp("fe80::1", 49152, "fe80::2", 3784).protocol(17).ttl(255),  // BFD
      Tcp("198.18.0.1", 0, "224.0.0.5", 0).protocol(89).ttl(1),      // OSPF
      Tcp("fe80::1", 0, "ff02::5", 0).protocol(89).ttl(1),           // OSPFv3
      Tcp("198.18.0.1", 0, "224.0.0.18", 0).protocol(112).ttl(255),  // VRRP
  };
}
// The same, unless its source is forged.
std::vector<Bytes> claimed() {
  return {
      Tcp("198.18.1.2", 80, kOwn4, 50000).ack(7),
      Tcp("2001:db8:1::2", 80, "2001:db8::2", 50000).ack(7),
      Tcp("198.18.0.1", 179, kOwn4, 50001).ack(7).ttl(1),
      Tcp("198.18.0.1", 49152, kOwn4, 4784).protocol(17),
  };
}

bool has(const std::vector<Bytes>& all, const Bytes& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

// What of `frames` reaches the kernel if 3000 of `flood` come before.
std::vector<Bytes> Appliance::delivered_after(const Bytes& flood, const std::vector<Bytes>& frames) {
  for (uint32_t i = 0; i < 3000; ++i) arrive(flood);
  for (const Bytes& frame : frames) arrive(frame);
  worker_->start();  // and nobody takes out of the rings
  for (uint16_t i = 1; i <= 2; ++i) {
    arrive(Tcp(kClient4, i, kVip4, kDsr).flags(kSynFlag));
    EXPECT_TRUE(becomes([&] { return left().size() == i; })) << "all before it have been given over";
  }
  host_->start();
  const auto& drops = worker_->worker().counters().drops;
  const uint64_t full = load_counter(drops[static_cast<uint32_t>(DropReason::kernel_full)]);
  const uint64_t given = count(&WorkerCounters::to_kernel) - full;
  EXPECT_TRUE(becomes([&] { return kernel_->got().size() == given; }));
  return kernel_->got();
}

class Floods : public Appliance, public testing::WithParamInterface<Bytes> {};

// Whatever floods the kernel, what keeps the appliance going has room of its own and goes first.
TEST_P(Floods, StarveNeitherNeighboursNorChecksNorRouters) {
  std::vector<Bytes> urgent = certain();
  for (const Bytes& frame : claimed()) urgent.push_back(frame);
  const std::vector<Bytes> got = delivered_after(GetParam(), urgent);
  EXPECT_GT(got.size(), urgent.size() + 1000) << "and the rest has its own";
  EXPECT_EQ(urgent, std::vector<Bytes>(got.begin(), got.begin() + static_cast<ptrdiff_t>(urgent.size())));
}

INSTANTIATE_TEST_SUITE_P(Kinds, Floods,
                         testing::Values(Tcp(kClient4, 5000, kOwn4, 53).protocol(17),
                                         Tcp(kClient4, 5000, kOwn4, 22).flags(kSynFlag),
                                         Tcp(kClient4, 5000, kOwn4, 22).flags(kSynFlag).ttl(254),
                                         icmp4(kClient4, kVip4, 8), icmp4("198.18.0.1", kOwn4, 8).ttl(255),
                                         icmp6(kClient6, kVip6, 128), icmp6("fe80::1", kVip6, 128).ttl(255),
                                         icmp6(kClient6, kVip6, 1),
                                         icmp6(kClient6, "2001:db8::2", 135).ttl(254)));

// From afar comes what pretends to be from here, by way of a router.
TEST_F(Appliance, ForgedSourcesTakeNoRoomOfWhatIsFromHere) {
  for (const Bytes& flood : claimed()) {
    const std::vector<Bytes> got = delivered_after(flood, certain());
    for (const Bytes& frame : certain()) EXPECT_TRUE(has(got, frame));
    EXPECT_GT(got.size(), certain().size() + 1000) << "what exceeds their part goes with the rest";
    TearDown();
    SetUp();
    left_.clear();
  }
}

// The descriptor stays readable all the time, which must not keep the thread from sleeping: fifty pauses of a
// millisecond cannot take less, however slow the machine is.
TEST_F(Appliance, WithoutBuffersTheKernelsFramesWaitAndAreCounted) {
  kernel_->set_buffers(false);
  start();
  const auto waits = [this] { return host_->counters().waits.load(); };
  EXPECT_FALSE(becomes_within(std::chrono::milliseconds(20), [&] { return waits() != 0; }))
      << "an empty pool is nothing to count if the kernel sends nothing";
  const auto began = Clock::now();
  kernel_->send({other_frame(0x0806)});
  ASSERT_TRUE(becomes([&] { return waits() >= 50; }));
  EXPECT_GE(Clock::now() - began, std::chrono::milliseconds(49));
  kernel_->set_buffers(true);
  ASSERT_TRUE(becomes([&] { return left().size() == 1; }));
  EXPECT_EQ(1u, host_->counters().from_kernel.load());
  EXPECT_EQ(0u, host_->counters().lost.load());
}

// Nobody takes out of the worker's ring, whose room is below 2000.
TEST_F(Appliance, FramesOfTheKernelsWithoutRoomAreCounted) {
  host_->start();
  kernel_->send(std::vector<Bytes>(2000, other_frame(0x0806)));
  const HostCounters& counters = host_->counters();
  ASSERT_TRUE(becomes([&] { return counters.from_kernel.load() + counters.lost.load() == 2000; }));
  EXPECT_GT(counters.lost.load(), 0u);
  worker_->start();
  ASSERT_TRUE(becomes([&] { return left().size() == counters.from_kernel.load(); }));
}

TEST_F(Appliance, TheKernelsInterfaceFollowsTheLinkAndMayBeDown) {
  host_->set_links(1);
  start();
  ASSERT_TRUE(becomes([&] { return kernel_->link() == 1; }));
  host_->set_links(~uint64_t{1});
  ASSERT_TRUE(becomes([&] { return kernel_->link() == 0; }));
  kernel_->set_down(true);
  arrive(other_frame(0x0806));
  ASSERT_TRUE(becomes([&] { return host_->counters().refused.load() == 1; }));
  EXPECT_EQ(0u, host_->counters().delivered.load());
}

}  // namespace
}  // namespace portico::test
