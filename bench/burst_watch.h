// SPDX-License-Identifier: Apache-2.0
// The time that a burst of packets takes.
#pragma once

#include <benchmark/benchmark.h>
#include <rte_cycles.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace portico {

// For benchmarks that UseManualTime(). The counter `cycles` is the median burst's TSC cycles per packet: one
// that another program interrupts takes thousands.
class BurstWatch {
 public:
  // burst: packets in each.
  BurstWatch(benchmark::State& state, uint32_t burst) : state_(state), burst_(burst) {
    cycles_.reserve(static_cast<size_t>(state.max_iterations));
  }
  ~BurstWatch() {
    if (cycles_.empty()) return;
    const auto median = cycles_.begin() + static_cast<ptrdiff_t>(cycles_.size() / 2);
    std::nth_element(cycles_.begin(), median, cycles_.end());
    state_.counters["cycles"] = static_cast<double>(*median) / burst_;
  }
  template <typename Function>
  void time(const Function& f) {
    const auto begun = std::chrono::steady_clock::now();
    const uint64_t start = rte_rdtsc_precise();
    f();
    cycles_.push_back(rte_rdtsc_precise() - start);
    state_.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }

 private:
  benchmark::State& state_;
  const uint32_t burst_;
  std::vector<uint64_t> cycles_;
};

}  // namespace portico
