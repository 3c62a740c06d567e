// SPDX-License-Identifier: Apache-2.0
#include "bench/memory_reads.h"

#include <rte_cycles.h>

#include <array>
#include <random>
#include <utility>

#include "dataplane/flow_table.h"
#include "dataplane/worker.h"

namespace portico::bench {

namespace {

struct alignas(64) Line {
  uint64_t next;  // of the round trip
  uint64_t rest[7];
};
static_assert(sizeof(Line) == 64);

constexpr uint64_t kSteps = 1 << 20;

// One round trip through all lines (Sattolo's algorithm).
void link(Line* lines, uint64_t count) {
  std::mt19937_64 random(1);
  for (uint64_t i = 0; i < count; ++i) lines[i].next = i;
  for (uint64_t i = count - 1; i > 0; --i) std::swap(lines[i].next, lines[random() % i].next);
}

double one_by_one(const Line* lines) {
  uint64_t at = 0;
  const uint64_t begin = rte_rdtsc_precise();
  for (uint64_t i = 0; i < kSteps; ++i) at = lines[at].next;
  asm volatile("" : : "r"(at));
  return static_cast<double>(rte_rdtsc_precise() - begin) / kSteps;
}

double in_bursts(const Line* lines, uint64_t count) {
  std::array<uint64_t, kBurstSize> places;
  uint64_t state = 1, cycles = 0, sum = 0;
  for (uint64_t i = 0; i < kSteps / kBurstSize; ++i) {
    for (uint64_t& place : places) {
      state = state * 6364136223846793005 + 1442695040888963407;  // Knuth's
      place = (state >> 32) * count >> 32;
    }
    const uint64_t begin = rte_rdtsc_precise();
    for (const uint64_t place : places) __builtin_prefetch(&lines[place], 0, 2);
    for (const uint64_t place : places) sum += lines[place].next;
    asm volatile("" : : "r"(sum));
    cycles += rte_rdtsc_precise() - begin;
  }
  return static_cast<double>(cycles) / kSteps;
}

}  // namespace

std::vector<double> measure_memory(uint32_t flows, bool huge_pages) {
  const uint64_t count = uint64_t{flows} * DsrFlows<V4>::kBytesPerFlow / sizeof(Line);
  const Region region(count * sizeof(Line), huge_pages, -1);
  auto* const lines = reinterpret_cast<Line*>(region.data());
  link(lines, count);
  one_by_one(lines);
  return {one_by_one(lines), in_bursts(lines, count)};
}

}  // namespace portico::bench
