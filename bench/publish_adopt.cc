// SPDX-License-Identifier: Apache-2.0
// How long it takes to publish and to adopt: everything at once, and one changed pool among many.
// Arguments: pools, backends in all. Every pool has 65,537 slots.
#include <benchmark/benchmark.h>

#include <optional>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "contract/validate.h"
#include "tests/support/sample_table.h"

namespace portico {
namespace {

TableContent content_of(const benchmark::State& state) {
  return test::big_content(static_cast<uint16_t>(state.range(0)), kDefaultLookupSize,
                           static_cast<uint16_t>(state.range(1)));
}

void change_one_pool(TableContent& content) {
  auto& lookup = content.pools[content.pools.size() / 2].lookup;
  std::swap(lookup[0], lookup[1]);
  std::rotate(lookup.begin(), lookup.begin() + 1, lookup.end());
}

// A dataplane that has just started.
void adopt_all(benchmark::State& state) {
  const test::TempDir dir;
  Publisher(dir.path()).publish(content_of(state));
  AdoptResult result;
  for (auto _ : state) {
    Adopter adopter(dir.path());
    result = adopter.poll();
    if (result.kind != AdoptResult::Kind::adopted) return state.SkipWithError(result.text.c_str());
  }
  state.counters["MB"] = static_cast<double>(result.bytes_copied) / 1e6;
}

// A running dataplane, one pool's look-up table new.
void adopt_one_pool(benchmark::State& state) {
  const test::TempDir dir;
  Publisher publisher(dir.path());
  TableContent content = content_of(state);
  publisher.publish(content);
  Adopter adopter(dir.path());
  AdoptResult result = adopter.poll();
  for (auto _ : state) {
    state.PauseTiming();
    change_one_pool(content);
    publisher.publish(content);
    state.ResumeTiming();
    result = adopter.poll();
    if (result.kind != AdoptResult::Kind::adopted) return state.SkipWithError(result.text.c_str());
  }
  state.counters["blocks"] = result.blocks_copied;
}

// Control's side of the same.
void publish_one_pool(benchmark::State& state) {
  const test::TempDir dir;
  Publisher publisher(dir.path());
  TableContent content = content_of(state);
  publisher.publish(content);
  for (auto _ : state) {
    change_one_pool(content);
    publisher.publish(content);
  }
}

// What the dataplane's main thread pays each millisecond.
void nothing_new(benchmark::State& state) {
  const test::TempDir dir;
  Publisher(dir.path()).publish(content_of(state));
  Adopter adopter(dir.path());
  adopter.poll();
  for (auto _ : state) benchmark::DoNotOptimize(adopter.poll().kind);
}

// Validation alone, nothing known to be good.
void validate_all(benchmark::State& state) {
  const test::TempDir dir;
  Publisher(dir.path()).publish(content_of(state));
  Adopter adopter(dir.path());
  const auto snapshot = adopter.poll().snapshot;
  for (auto _ : state) benchmark::DoNotOptimize(validate(*snapshot).has_value());
}

BENCHMARK(adopt_all)->Args({100, 1000})->Args({256, 4096})->Unit(benchmark::kMillisecond);
BENCHMARK(adopt_one_pool)
    ->Args({100, 1000})
    ->Args({256, 4096})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(50);
BENCHMARK(publish_one_pool)->Args({100, 1000})->Args({256, 4096})->Unit(benchmark::kMillisecond);
BENCHMARK(validate_all)->Args({100, 1000})->Unit(benchmark::kMillisecond);
BENCHMARK(nothing_new)->Args({100, 1000});

}  // namespace
}  // namespace portico

BENCHMARK_MAIN();
