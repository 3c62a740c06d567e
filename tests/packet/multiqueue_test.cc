// SPDX-License-Identifier: Apache-2.0
// The workers' own threads on ports with several queues: rings stand for the NIC, which spreads by a Toeplitz
// hash. NAT replies and ICMP errors that arrive at the wrong queue find the worker that has the flow.
#include <gtest/gtest.h>
#include <rte_cycles.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "contract/publisher.h"
#include "dataplane/adoption.h"
#include "dataplane/handover.h"
#include "dataplane/worker_thread.h"
#include "tests/packet/rig.h"
#include "tests/packet/spread_traffic.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(20);
constexpr uint32_t kRingSize = 1024;

// A port of N queue pairs whose wires are rings.
class RingNic {
 public:
  RingNic(const std::string& name, uint32_t queues) {
    for (uint32_t i = 0; i < queues; ++i) {
      const std::string suffix = name + "-" + std::to_string(i);
      in_.push_back(rte_ring_create(("in-" + suffix).c_str(), kRingSize, -1, RING_F_SP_ENQ | RING_F_SC_DEQ));
      out_.push_back(
          rte_ring_create(("out-" + suffix).c_str(), kRingSize, -1, RING_F_SP_ENQ | RING_F_SC_DEQ));
    }
    const int id = rte_eth_from_rings(name.c_str(), in_.data(), queues, out_.data(), queues, 0);
    if (id < 0) throw std::runtime_error("no ring port");
    id_ = static_cast<uint16_t>(id);
    const rte_eth_conf conf{};
    const auto count = static_cast<uint16_t>(queues);
    EXPECT_EQ(0, rte_eth_dev_configure(id_, count, count, &conf));
    for (uint16_t i = 0; i < count; ++i) {
      EXPECT_EQ(0, rte_eth_rx_queue_setup(id_, i, kRingSize, 0, nullptr, packet_pool()));
      EXPECT_EQ(0, rte_eth_tx_queue_setup(id_, i, kRingSize, 0, nullptr));
    }
    EXPECT_EQ(0, rte_eth_dev_start(id_));
  }
  ~RingNic() {
    rte_eth_dev_stop(id_);
    rte_eth_dev_close(id_);
    for (auto* rings : {&in_, &out_}) {
      for (rte_ring* ring : *rings) {
        void* packet = nullptr;
        while (rte_ring_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
        rte_ring_free(ring);
      }
    }
  }
  RingNic(const RingNic&) = delete;
  RingNic& operator=(const RingNic&) = delete;

  uint16_t id() const { return id_; }

  // Puts the frame on the queue that the hash says; returns that queue.
  uint32_t arrive(const Bytes& frame) {
    const auto queue = queue_of(frame, static_cast<uint32_t>(in_.size()));
    rte_mbuf* packet = rte_pktmbuf_alloc(packet_pool());
    if (packet == nullptr) throw std::runtime_error("no packet buffer");
    std::memcpy(rte_pktmbuf_append(packet, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
    EXPECT_EQ(0, rte_ring_enqueue(in_[queue], packet));
    return queue;
  }

  // What has left since, until `count` frames have.
  std::vector<Bytes> leave(size_t count) {
    std::vector<Bytes> frames;
    const auto deadline = Clock::now() + kPatience;
    while (frames.size() < count && Clock::now() < deadline) {
      const size_t before = frames.size();
      for (rte_ring* ring : out_) {
        void* packet = nullptr;
        while (rte_ring_dequeue(ring, &packet) == 0) {
          auto* mbuf = static_cast<rte_mbuf*>(packet);
          const auto* data = rte_pktmbuf_mtod(mbuf, const uint8_t*);
          frames.emplace_back(data, data + mbuf->data_len);
          rte_pktmbuf_free(mbuf);
        }
      }
      if (frames.size() == before) std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    return frames;
  }

 private:
  std::vector<rte_ring*> in_, out_;
  uint16_t id_ = 0;
};

// N running worker threads on one NIC.
class Machine {
 public:
  // With `is_spread` the workers know how the NIC spreads.
  Machine(uint32_t queues, bool is_spread)
      : nic_((is_spread ? "rss" : "nic") + std::to_string(queues), queues),
        rings_("test" + std::to_string(queues), std::vector<int>(queues, -1)),
        table_(build_table(snapshot_of(usual_content(), nullptr), nullptr)) {
    if (is_spread) spreads_ = std::make_shared<ReplySpreads>(nic_model(kUsualKey, kEntries, queues), queues);
    for (uint32_t i = 0; i < queues; ++i) {
      const WorkerConfig config{.index = i,
                                .worker_count = queues,
                                .flows = 1024,
                                .tsc_hz = rte_get_tsc_hz(),
                                .huge_pages = false,
                                .spreads = spreads_,
                                .pool = packet_pool()};
      workers_.push_back(
          std::make_unique<WorkerThread>(config, -1, std::vector<uint16_t>{nic_.id()}, &rings_));
      workers_.back()->worker().prepare(*table_);
      workers_.back()->publish(table_.get());
    }
    for (const auto& worker : workers_) worker->start();
  }
  ~Machine() {
    for (const auto& worker : workers_) worker->stop();
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  RingNic& nic() { return nic_; }
  uint64_t total(uint64_t WorkerCounters::*counter) {
    uint64_t sum = 0;
    for (const auto& worker : workers_) sum += load_counter(worker->worker().counters().*counter);
    return sum;
  }
  uint64_t drops() {
    uint64_t sum = 0;
    for (const auto& worker : workers_) {
      for (const uint64_t& count : worker->worker().counters().drops) sum += load_counter(count);
    }
    return sum;
  }
  const WorkerStatus& status(uint32_t i) const { return workers_[i]->status(); }

 private:
  RingNic nic_;
  HandoverRings rings_;
  std::shared_ptr<const ReplySpreads> spreads_;
  std::shared_ptr<const Table> table_;
  std::vector<std::unique_ptr<WorkerThread>> workers_;
};

class MultiQueue : public testing::TestWithParam<uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Queues, MultiQueue, testing::Values(1, 2, 3, 8, 16));

TEST_P(MultiQueue, RepliesAndIcmpErrorsReachTheOwnerOfTheFlow) {
  packet_pool();  // starts the EAL
  const uint32_t queues = GetParam();
  for (const bool is_spread : {false, true}) {
    SCOPED_TRACE(is_spread);
    Machine machine(queues, is_spread);
    const Elsewhere v4 = exercise(machine.nic(), kClient4, kVip4, "198.18.1.254", 3);
    const Elsewhere v6 = exercise(machine.nic(), kClient6, kVip6, "2001:db8:1::fe", 1);
    const uint64_t replies = v4.replies + v6.replies, errors = v4.errors + v6.errors;
    EXPECT_EQ(replies + errors, machine.total(&WorkerCounters::handed_over));
    EXPECT_EQ(queues == 1 || is_spread, replies == 0);
    EXPECT_EQ(queues == 1, errors == 0);
    EXPECT_EQ(2 * kConnections, machine.total(&WorkerCounters::flows));
    EXPECT_EQ(0u, machine.drops());
    for (uint32_t i = 0; i < queues; ++i)
      EXPECT_GT(machine.status(i).rx_packets.load(), 0u) << "queue " << i << " is polled";
  }
}

// A worker thread without ports; enough for the hand-over of tables.
std::unique_ptr<WorkerThread> bare_worker(uint32_t index) {
  const WorkerConfig config{.index = index,
                            .worker_count = 2,
                            .flows = 64,
                            .tsc_hz = rte_get_tsc_hz(),
                            .huge_pages = false,
                            .pool = packet_pool()};
  return std::make_unique<WorkerThread>(config, -1, std::vector<uint16_t>{}, nullptr);
}

void wait_until_taken(const WorkerThread& worker, const Table* table) {
  const auto deadline = Clock::now() + kPatience;
  while (worker.status().table.load() != table && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_EQ(table, worker.status().table.load());
}

TEST(Adopting, NamesTheWorkerThatDoesNotTakeATableAndGoesOnWhenItDoes) {
  packet_pool();
  const TempDir directory;
  Publisher publisher(directory.path());
  TableContent content = usual_content();
  const uint64_t first = publisher.publish(content);
  Adopter adopter(directory.path());
  const auto running = bare_worker(0), stuck = bare_worker(1);
  Adoption adoption(adopter, {running.get(), stuck.get()}, nullptr);
  adoption.start_with(adopter.poll().snapshot, 0);
  running->start();
  wait_until_taken(*running, adoption.table());
  adoption.tick(kAcknowledgeDeadlineNs - 1);
  EXPECT_EQ("", adoption.status().stuck_text);
  EXPECT_EQ(0u, adoption.status().adopted_generation);
  adoption.tick(kAcknowledgeDeadlineNs);
  EXPECT_NE(std::string::npos, adoption.status().stuck_text.find("worker 1 "));

  // Later generations reach the running worker all the same, as many as are kept for the stuck one.
  uint64_t now = kAcknowledgeDeadlineNs;
  for (size_t i = 0; i < kMaxRetiredTables + 3; ++i) {
    content.settings.reset_rate = static_cast<uint32_t>(i + 1);
    publisher.publish(content);
    adoption.tick(++now);
    wait_until_taken(*running, adoption.table());
  }
  EXPECT_EQ(first + kMaxRetiredTables, adoption.table()->generation());

  stuck->start();
  wait_until_taken(*stuck, adoption.table());
  adoption.tick(++now);
  EXPECT_EQ(first + kMaxRetiredTables, adoption.status().adopted_generation);
  EXPECT_EQ("", adoption.status().stuck_text);
  EXPECT_EQ(publisher.generation(), adoption.table()->generation())
      << "what waited in the file comes at once";
  running->stop();
  stuck->stop();
}

TEST(Adopting, RefusesPortsThatMeanOtherDevices) {
  packet_pool();
  const TempDir directory;
  Publisher publisher(directory.path());
  TableContent content = usual_content();
  publisher.publish(content);
  Adopter adopter(directory.path());
  const auto worker = bare_worker(0);
  Adoption adoption(adopter, {worker.get()}, nullptr);
  adoption.start_with(adopter.poll().snapshot, 0);
  const Table* before = adoption.table();
  set_text(content.ports[0].name, "other0");
  const uint64_t generation = publisher.publish(content);
  adoption.tick(1);
  EXPECT_EQ(before, adoption.table());
  EXPECT_EQ(generation, adoption.status().refused_generation);
  EXPECT_EQ(RefusalReason::ports_changed, adoption.status().refused_reason);
}

}  // namespace
}  // namespace portico::test
