// SPDX-License-Identifier: Apache-2.0
// Longest-prefix match for both families. Prefixes are flattened into disjoint ranges, which a binary search
// finds: a handful of routes or prefixes costs a few compares and a few bytes and is rebuilt in microseconds.
// DPDK's LPM and FIB take 32 to 64 MiB each and milliseconds to clear, too much for a change that workers
// should see within milliseconds, and for a list per service.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "contract/address.h"

namespace portico {

class PrefixMap {
 public:
  static constexpr uint32_t kNoMatch = 0xffffffff;

  struct Rule {
    Prefix prefix;
    uint32_t value;  // not kNoMatch
  };

  PrefixMap() = default;
  // No two rules of the same prefix.
  explicit PrefixMap(const std::vector<Rule>& rules);

  // The value of the longest prefix that holds the address (network byte order), or kNoMatch.
  uint32_t find(uint32_t address) const;
  uint32_t find(const std::array<uint64_t, 2>& address) const;

 private:
  using Wide = std::pair<uint64_t, uint64_t>;  // host byte order, high half first

  // starts[i] is the first address of the range whose value is values[i]; the first range starts at 0.
  std::vector<uint32_t> starts_v4_;
  std::vector<uint32_t> values_v4_;
  std::vector<Wide> starts_v6_;
  std::vector<uint32_t> values_v6_;
};

}  // namespace portico
