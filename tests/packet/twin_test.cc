// SPDX-License-Identifier: Apache-2.0
// The short ways do exactly what the general stages do: the same random packets, with time, sweeps, tables
// and hand-overs in between, go by both.
#include <gtest/gtest.h>
#include <rte_mempool.h>

#include <stdexcept>

#include "tests/packet/twin_stream.h"
#include "tests/support/nic_model.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint64_t kHz = 1'000'000;
constexpr int kSteps = 120;

class Life {
 public:
  Life(uint32_t seed, uint32_t workers)
      : workers_(workers), random_(seed), stream_(random_), content_(twin_content()) {
    table_ = build_table(snapshot_of(content_, nullptr), nullptr);
    WorkerConfig config;
    config.worker_count = workers;
    config.flows = seed % 2 ? 512 : seed % 4 ? 8 : 24;
    steps_per_flush_ = seed % 5 == 0 ? 12 : 2;
    config.tsc_hz = kHz;
    config.kernel_ports = seed % 4;
    // Every other time with several workers, whose a port is comes by hash.
    if (seed % 4 == 1)
      config.spreads = std::make_shared<ReplySpreads>(nic_model(random_rss_key(), 128, workers), workers);
    twins_ = std::make_unique<Twins>(config, *table_, kHighestTwinId);
  }

  // What differs, and when; empty: nothing did.
  std::string run() {
    for (int step = 0; step < kSteps; ++step) {
      now_ += time_to_pass();
      if (random_() % 10 == 0) adopt();
      if (workers_ > 1 && random_() % 100 == 0) twins_->move_flows(random_, workers_);
      twins_->process(stream_.burst(1 + random_() % kBurstSize), random_() % 4 == 0,
                      random_() % 100 == 0 ? nullptr : table_.get(), now_);
      std::string found = twins_->difference();
      if (found.empty() && random_() % 3 == 0) {
        twins_->sweep(*table_, now_ += random_() % 200'000);
        found = twins_->difference();
        if (found.empty()) found = twins_->difference_in_use();
      }
      if (!found.empty()) return "step " + std::to_string(step) + ": " + found;
      if (random_() % steps_per_flush_ == 0) stream_.learn(check(twins_->take_output()));
    }
    return "";
  }

  const WorkerCounters& counters() { return twins_->general().counters(); }

 private:
  uint64_t time_to_pass() {
    const auto dice = random_() % 200;
    if (dice == 0) return 7500 * kHz;
    if (dice < 4) return 40 * kHz;
    if (dice < 12) return 11 * kHz;
    if (dice < 40) return 600'000;
    return random_() % 20'000;
  }

  void adopt() {
    TableContent next = random_() % 4 == 0 ? twin_content() : content_;
    for (auto n = random_() % 3; n > 0; --n) change(next, random_);
    try {
      const auto built = build_table(snapshot_of(next, &table_->snapshot()), table_.get());
      before_ = std::move(table_);
      table_ = built;
      content_ = next;
      twins_->prepare(*table_);
    } catch (const std::invalid_argument&) {
      return;  // it breaks a rule
    }
  }

  const std::vector<Sent>& check(const std::vector<Sent>& sent) {
    for (const Sent& s : sent) EXPECT_TRUE(s.to != Sent::To::port || has_right_ip_sum(s.frame));
    return sent_ = sent;
  }

  const uint32_t workers_;
  std::mt19937 random_;
  TwinStream stream_;
  TableContent content_;
  std::shared_ptr<const Table> table_, before_;
  std::unique_ptr<Twins> twins_;
  std::vector<Sent> sent_;
  uint32_t steps_per_flush_;
  uint64_t now_ = 1'000'000'000;
};

TEST(Twins, ShortAndGeneralWaysDoTheSame) {
  const unsigned buffers = rte_mempool_in_use_count(packet_pool());
  uint64_t forwarded = 0, opened = 0, dropped[kMaxDropReasons] = {};
  for (uint32_t seed = 0; seed < 120; ++seed) {
    Life life(seed, 1 + seed % 2);
    const std::string difference = life.run();
    ASSERT_EQ(difference, "") << "seed " << seed;
    forwarded += life.counters().forwarded;
    for (uint16_t id = 1; id <= kHighestTwinId; ++id) opened += life.counters().services[id].new_flows;
    for (uint32_t i = 0; i < kMaxDropReasons; ++i) dropped[i] += life.counters().drops[i];
  }
  EXPECT_EQ(rte_mempool_in_use_count(packet_pool()), buffers) << "packet buffers leak";
  EXPECT_GT(forwarded, 50'000u);
  EXPECT_GT(opened, 10'000u);
  // Without them, that they do the same says little: all that packets and tables can come to.
  // These take more packets at a time than there are, or the same one twice, or more flows that last, or
  // other buffers, or are the host thread's.
  for (const DropReason r :
       {DropReason::no_mbuf, DropReason::tunnel_no_headroom, DropReason::handover_full,
        DropReason::flow_table_full, DropReason::kernel_full, DropReason::kernel_refused,
        DropReason::from_kernel_full, DropReason::fragment_evicted, DropReason::fragment_duplicate})
    dropped[static_cast<uint32_t>(r)] = 1;
  for (uint32_t i = 0; i < kDropReasonCount; ++i) EXPECT_GT(dropped[i], 0u) << kDropReasonNames[i];
}

}  // namespace
}  // namespace portico::test
