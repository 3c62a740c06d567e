// SPDX-License-Identifier: Apache-2.0
// What memory alone costs: reads of lines at random places of as much memory as so many IPv4 flows take in
// dsr-l2, index included.
#pragma once

#include <cstdint>
#include <vector>

namespace portico::bench {

// TSC cycles per line: one by one, each address known only from the line before; and in bursts of 64, fetched
// to the second-level cache and then read. Throws std::runtime_error if memory is missing.
std::vector<double> measure_memory(uint32_t flows, bool huge_pages);

}  // namespace portico::bench
