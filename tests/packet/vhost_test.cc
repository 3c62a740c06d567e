// SPDX-License-Identifier: Apache-2.0
// portico-dataplane with several workers on one virtual NIC: its port is net_vhost with as many queues, at
// the other end of whose socket this process has a virtio_user port. Both families, both modes, every queue,
// and counters that add up.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <thread>

#include "contract/feedback_file.h"
#include "contract/publisher.h"
#include "tests/packet/rig.h"
#include "tests/packet/spread_traffic.h"
#include "tests/support/sample_table.h"
#include "tests/unit/net_namespaces.h"

namespace portico::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(30);
constexpr uint16_t kDescriptors = 256;

template <typename Condition>
bool comes_true(const Condition& condition) {
  for (const auto deadline = Clock::now() + kPatience; Clock::now() < deadline;) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

// The dataplane as a process, in a network namespace of its own, since its port gets a tap.
class Dataplane {
 public:
  Dataplane(const std::filesystem::path& run_dir, uint32_t workers)
      : run_dir_(run_dir), publisher_(run_dir), feedback_(std::make_unique<Feedback>()) {
    // Else the kernel speaks by the tap.
    host_.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    TableContent content = usual_content();
    content.settings.workers = workers;
    content.settings.flows = 65536;
    content.settings.mbufs = 8192;
    content.ports[0].queues = workers;
    set_text(content.ports[0].name, "wan");
    set_text(content.ports[0].devargs,
             "net_vhost0,iface=" + socket_path() + ",queues=" + std::to_string(workers));
    publisher_.publish(content);
    host_.inside([this] { pid_ = start(); });
  }
  ~Dataplane() {
    int status = 0;
    kill(pid_, SIGTERM);
    waitpid(pid_, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    if (testing::Test::HasFailure()) std::system(("cat " + (run_dir_ / "log").string()).c_str());
  }
  Dataplane(const Dataplane&) = delete;
  Dataplane& operator=(const Dataplane&) = delete;

  std::string socket_path() const { return run_dir_ / "vhost.sock"; }
  const Feedback& feedback() {
    while (FeedbackReader(run_dir_).read(*feedback_).status == FeedbackStatus::busy) {
    }
    return *feedback_;
  }
  bool is_running() { return feedback().header.state == static_cast<uint32_t>(DataplaneState::running); }

 private:
  pid_t start() const {
    const pid_t pid = fork();
    if (pid != 0) return pid;
    const int log = open((run_dir_ / "log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    const char* const program = std::getenv("PORTICO_TEST_DATAPLANE");
    if (program != nullptr) execl(program, "portico-dataplane", "--run-dir", run_dir_.c_str(), nullptr);
    _exit(127);
  }

  const NetNamespace host_;
  const std::filesystem::path run_dir_;
  Publisher publisher_;
  std::unique_ptr<Feedback> feedback_;
  pid_t pid_ = -1;
};

// The other end: sends on the queue that a NIC would choose.
class VirtioNic {
 public:
  // With `leaves_checksums` TCP's checksums are left to the device, as the kernel of a virtual machine does.
  VirtioNic(const std::string& socket, uint16_t queues, bool leaves_checksums = false)
      : queues_(queues), leaves_checksums_(leaves_checksums) {
    const std::string arguments = "path=" + socket + ",queues=" + std::to_string(queues) +
                                  ",queue_size=" + std::to_string(kDescriptors) + ",mac=02:00:00:00:00:99";
    if (rte_vdev_init("virtio_user0", arguments.c_str()) != 0)
      throw std::runtime_error("no virtio_user port");
    EXPECT_EQ(rte_eth_dev_get_port_by_name("virtio_user0", &id_), 0);
    rte_eth_conf conf{};
    if (leaves_checksums) conf.txmode.offloads = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
    EXPECT_EQ(rte_eth_dev_configure(id_, queues, queues, &conf), 0);
    for (uint16_t i = 0; i < queues; ++i) {
      EXPECT_EQ(rte_eth_rx_queue_setup(id_, i, kDescriptors, 0, nullptr, packet_pool()), 0);
      EXPECT_EQ(rte_eth_tx_queue_setup(id_, i, kDescriptors, 0, nullptr), 0);
    }
    EXPECT_EQ(rte_eth_dev_start(id_), 0);
  }
  ~VirtioNic() {
    rte_eth_dev_stop(id_);
    rte_eth_dev_close(id_);
    rte_vdev_uninit("virtio_user0");
  }
  VirtioNic(const VirtioNic&) = delete;
  VirtioNic& operator=(const VirtioNic&) = delete;

  uint32_t arrive(const Bytes& frame) {
    const uint32_t queue = queue_of(frame, queues_);
    rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
    if (packet == nullptr) throw std::runtime_error("no packet buffer");
    std::memcpy(rte_pktmbuf_append(packet, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
    if (leaves_checksums_) leave_checksum(packet);
    const auto is_sent = [&] { return rte_eth_tx_burst(id_, static_cast<uint16_t>(queue), &packet, 1) == 1; };
    EXPECT_TRUE(comes_true(is_sent));
    ++sent_;
    return queue;
  }
  std::vector<Bytes> leave(size_t count) {
    std::vector<Bytes> frames;
    comes_true([&] {
      for (uint16_t queue = 0; queue < queues_; ++queue) take(queue, frames);
      return frames.size() >= count;
    });
    received_ += frames.size();
    return frames;
  }
  uint64_t sent() const { return sent_; }
  uint64_t received() const { return received_; }

 private:
  // The pseudo-header's sum alone stands in the packet.
  static void leave_checksum(rte_mbuf* packet) {
    auto* const ip = rte_pktmbuf_mtod_offset(packet, uint8_t*, RTE_ETHER_HDR_LEN);
    const bool is_v4 = *ip >> 4 == 4;
    if (ip[is_v4 ? 9 : 6] != IPPROTO_TCP) return;
    packet->l2_len = RTE_ETHER_HDR_LEN;
    packet->l3_len = is_v4 ? sizeof(rte_ipv4_hdr) : sizeof(rte_ipv6_hdr);
    packet->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM | (is_v4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6);
    auto* const tcp = reinterpret_cast<rte_tcp_hdr*>(ip + packet->l3_len);
    tcp->cksum = is_v4 ? rte_ipv4_phdr_cksum(reinterpret_cast<rte_ipv4_hdr*>(ip), 0)
                       : rte_ipv6_phdr_cksum(reinterpret_cast<rte_ipv6_hdr*>(ip), 0);
  }

  void take(uint16_t queue, std::vector<Bytes>& frames) const {
    rte_mbuf* packets[32];
    const uint16_t n = rte_eth_rx_burst(id_, queue, packets, std::size(packets));
    for (uint16_t i = 0; i < n; ++i) {
      const auto* data = rte_pktmbuf_mtod(packets[i], const uint8_t*);
      frames.emplace_back(data, data + packets[i]->data_len);
      rte_pktmbuf_free(packets[i]);
    }
  }

  const uint16_t queues_;
  const bool leaves_checksums_;
  uint16_t id_ = 0;
  uint64_t sent_ = 0, received_ = 0;
};

class Vhost : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Queues, Vhost, testing::Values(1, 2, 4));

TEST_P(Vhost, EveryQueueHasItsWorkerAndCountersAddUp) {
  packet_pool();
  const uint32_t queues = GetParam();
  const TempDir directory;
  Dataplane dataplane(directory.path(), queues);
  ASSERT_TRUE(comes_true([&] { return dataplane.is_running(); }));
  VirtioNic nic(dataplane.socket_path(), static_cast<uint16_t>(queues));
  ASSERT_TRUE(comes_true([&] { return dataplane.feedback().ports[0].link_up == 1; }));

  const Elsewhere v4 = exercise(nic, kClient4, kVip4, "198.18.1.254", 3);
  const Elsewhere v6 = exercise(nic, kClient6, kVip6, "2001:db8:1::fe", 1);
  exercise_dsr(nic, kClient4, kVip4);
  exercise_dsr(nic, kClient6, kVip6);

  const auto sum = [&](uint64_t WorkerFeedback::*counter) {
    const auto* const workers = dataplane.feedback().workers;
    return std::accumulate(workers, workers + queues, uint64_t{0},
                           [&](uint64_t n, const WorkerFeedback& w) { return n + w.*counter; });
  };
  EXPECT_TRUE(comes_true([&] { return sum(&WorkerFeedback::tx_packets) == nic.received(); }));
  EXPECT_TRUE(comes_true([&] { return dataplane.feedback().ports[0].tx_packets == nic.received(); }));
  const Feedback& seen = dataplane.feedback();
  EXPECT_EQ(seen.header.worker_count, queues);
  EXPECT_EQ(sum(&WorkerFeedback::rx_packets), nic.sent());
  EXPECT_EQ(seen.ports[0].rx_packets, nic.sent());
  for (uint32_t i = 0; i < queues; ++i) EXPECT_GT(seen.workers[i].rx_packets, 0u) << "queue " << i;
  for (const int service : {1, 2}) EXPECT_EQ(seen.services[service].new_flows, 2 * kConnections);
  EXPECT_EQ(seen.services[1].packets_in, 4 * kConnections);
  EXPECT_EQ(seen.services[2].packets_in, 2 * kConnections);
  EXPECT_EQ(seen.services[2].packets_out, 2 * kConnections);
  for (uint32_t reason = 0; reason < kDropReasonCount; ++reason)
    EXPECT_EQ(seen.drops[reason], 0u) << kDropReasonNames[reason];
  // A vhost port does not tell how the other end spreads.
  EXPECT_EQ(sum(&WorkerFeedback::handed_over), v4.replies + v4.errors + v6.replies + v6.errors);
  EXPECT_EQ(sum(&WorkerFeedback::handed_over) > 0, queues > 1);
}

// Incremental updates of a checksum that is not there would send nonsense: DPDK's vhost driver fills it in.
TEST(VhostChecksums, ThoseThatTheOtherEndLeavesOutAreFilledIn) {
  packet_pool();
  const TempDir directory;
  Dataplane dataplane(directory.path(), 1);
  ASSERT_TRUE(comes_true([&] { return dataplane.is_running(); }));
  VirtioNic nic(dataplane.socket_path(), 1, true);
  ASSERT_TRUE(comes_true([&] { return dataplane.feedback().ports[0].link_up == 1; }));
  exercise(nic, kClient4, kVip4, "198.18.1.254", 3);
  exercise(nic, kClient6, kVip6, "2001:db8:1::fe", 1);
  exercise_dsr(nic, kClient4, kVip4);
  exercise_dsr(nic, kClient6, kVip6);
}

}  // namespace
}  // namespace portico::test
