// SPDX-License-Identifier: Apache-2.0
// How long it takes to build, to publish and to adopt: everything at once, and one changed pool among many.
// Arguments: pools, backends in all. Every pool has 65,537 slots.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>

#include <optional>

#include "contract/adopter.h"
#include "contract/publisher.h"
#include "contract/validate.h"
#include "control/builder.h"
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

// A configuration of so many pools and backends, as control has it once a backend's health changes.
struct Control {
  explicit Control(const benchmark::State& state) {
    const auto pools = static_cast<uint32_t>(state.range(0)),
               each = static_cast<uint32_t>(state.range(1)) / pools;
    config.dataplane.ports.push_back({.name = "eth0"});
    for (uint32_t p = 0; p < pools; ++p) {
      PoolConfig pool{.name = "pool-" + std::to_string(p)};
      for (uint32_t b = 0; b < each; ++b) {
        BackendConfig backend;
        backend.name = "backend-" + std::to_string(b);
        backend.v4 = Address::from_v4(htonl(0xc6120000 + p * each + b));  // 198.18.0.0/15
        routing.hop_of[*backend.v4] = 0;
        pool.backends.push_back(backend);
      }
      config.services.push_back(
          {.name = "service-" + std::to_string(p),
           .listen = {{Address::from_v4(htonl(0xc613ff01)), static_cast<uint16_t>(1024 + p)}},
           .pool = pool.name,
           .mode = Mode::dsr_l2});
      config.pools.push_back(std::move(pool));
    }
    ids.sync(config);
    routing.next_hops.push_back({.address = *Address::parse("198.18.0.1"), .mtu = 1500});
  }

  // One table, a backend of one pool up or down.
  void publish(bool is_up) {
    const std::string pool = config.pools[config.pools.size() / 2].name;
    const auto health = [&](const std::string& of, const std::string& name) {
      return BackendView{.healthy = is_up || of != pool || name != "backend-1", .known = true};
    };
    const std::set<std::string> changed{pool};
    const TableContent& content =
        builder.build({.config = config,
                       .ids = ids,
                       .operators = operators,
                       .routing = routing,
                       .health = health,
                       .config_version = 1,
                       .now_ns = monotonic_ns(),
                       .changed_pools = builder.content().pools.empty() ? nullptr : &changed});
    benchmark::DoNotOptimize(builder.content_hash());
    publisher.publish(content);
  }

  const test::TempDir dir;
  Config config;
  Ids ids;
  OperatorState operators{"/nonexistent"};
  Routing routing;
  Builder builder;
  Publisher publisher{dir.path()};
};

// What control does when one backend fails or comes back.
void health_event(benchmark::State& state) {
  Control control(state);
  control.publish(true);
  bool is_up = true;
  for (auto _ : state) control.publish(is_up = !is_up);
  state.counters["blocks"] = control.publisher.last_written().blocks;
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
BENCHMARK(health_event)->Args({100, 1000})->Args({256, 4096})->Unit(benchmark::kMillisecond);
BENCHMARK(validate_all)->Args({100, 1000})->Unit(benchmark::kMillisecond);
BENCHMARK(nothing_new)->Args({100, 1000});

}  // namespace
}  // namespace portico

BENCHMARK_MAIN();
