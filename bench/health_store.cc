// SPDX-License-Identifier: Apache-2.0
// Time to store the health of all backends, whole: as text, and as a file on a tmpfs (/dev/shm) with its
// fsync. Control does it on its only thread.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "control/checks/health.h"
#include "control/operator_state.h"

namespace {

using portico::HealthSnapshot;

// Backends of eight pools with an Apache and a MySQL check each; every tenth is down.
HealthSnapshot health_of(int64_t backends) {
  HealthSnapshot all;
  for (int64_t i = 0; i < backends; ++i) {
    const std::string pool = "portals-" + std::to_string(i % 8), backend = "portal-" + std::to_string(i);
    const bool is_down = i % 10 == 0;
    for (const uint16_t port : {uint16_t{443}, uint16_t{3306}}) {
      HealthSnapshot::Check check;
      check.pool = pool;
      check.backend = backend;
      check.name = port == 443 ? "tcp-443" : "mysql-3306";
      check.target = {*portico::Address::parse("198.18.3.7"), port};
      check.progress = {.state = is_down ? portico::CheckState::down : portico::CheckState::up,
                        .consecutive = 7};
      check.last_outcome = is_down ? portico::ProbeOutcome::refused : portico::ProbeOutcome::success;
      check.last_reason = is_down ? "connection refused" : "";
      all.checks.push_back(check);
    }
    all.backends.push_back({pool, backend, is_down ? portico::HealthState::down : portico::HealthState::up,
                            1'767'225'600'000'000'000});
  }
  return all;
}

void as_text(benchmark::State& state) {
  const HealthSnapshot health = health_of(state.range(0));
  size_t bytes = 0;
  for (auto _ : state) bytes = portico::to_json_text(health).size();
  state.counters["bytes"] = static_cast<double>(bytes);
}

void as_file(benchmark::State& state) {
  const HealthSnapshot health = health_of(state.range(0));
  char folder[] = "/dev/shm/portico-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) throw std::runtime_error("cannot make a folder in /dev/shm");
  const std::string path = std::string(folder) + "/health.json";
  for (auto _ : state)
    if (const auto error = portico::write_atomically(path, portico::to_json_text(health)))
      state.SkipWithError(error->c_str());
  std::filesystem::remove_all(folder);
}

}  // namespace

BENCHMARK(as_text)->Unit(benchmark::kMillisecond)->Arg(2)->Arg(64)->Arg(512)->Arg(4096);
BENCHMARK(as_file)->Unit(benchmark::kMillisecond)->Arg(2)->Arg(64)->Arg(512)->Arg(4096);

BENCHMARK_MAIN();
