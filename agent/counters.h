// SPDX-License-Identifier: Apache-2.0
// What the program in the kernel counts, with names and texts for people.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bpf/agent_maps.h"

namespace portico {

enum class Fate : uint8_t { passed, taken, passed_on, dropped, changed };

struct CounterInfo {
  agent_counter counter;
  Fate fate;
  const char* name;  // in JSON and metrics
  const char* text;
};

// One for each agent_counter, in its order.
std::span<const CounterInfo, AGENT_COUNTERS> agent_counter_infos();

// "passed", "taken", "passed_on", "dropped" or "changed".
const char* to_string(Fate fate);

using CounterValues = std::array<uint64_t, AGENT_COUNTERS>;

// Sums over all CPUs; zeros if the map cannot be read.
CounterValues read_counters(int map);

}  // namespace portico
