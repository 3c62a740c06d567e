// SPDX-License-Identifier: Apache-2.0
// Time to build one look-up table.
#include "control/maglev.h"

#include <benchmark/benchmark.h>

#include <string>

namespace {

using portico::MaglevBackend;

constexpr portico::HashKey kKey{{0x0123456789abcdef, 0xfedcba9876543210}};

// Arguments: slots, backends, weight of the first backend (the others have 100).
void build(benchmark::State& state) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < state.range(1); ++i) names.push_back("portal-" + std::to_string(i));
  std::vector<MaglevBackend> backends;
  for (const std::string& name : names)
    backends.push_back({name, static_cast<uint16_t>(backends.size()), 100});
  backends[0].weight = static_cast<uint32_t>(state.range(2));
  for (auto _ : state)
    benchmark::DoNotOptimize(portico::build_lookup(backends, static_cast<uint32_t>(state.range(0)), kKey));
}

}  // namespace

BENCHMARK(build)
    ->Unit(benchmark::kMillisecond)
    ->ArgNames({"slots", "backends", "first_weight"})
    ->Args({65537, 2, 100})
    ->Args({65537, 100, 100})
    ->Args({65537, 1000, 100})
    ->Args({65537, 1000, 1000})
    ->Args({1048573, 1000, 100})
    ->Args({1048573, 4096, 100});

BENCHMARK_MAIN();
