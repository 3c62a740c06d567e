// SPDX-License-Identifier: Apache-2.0
// The look-up table that spreads new flows over a pool's backends: weighted Maglev hashing (Eisenbud et al.,
// "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4). A pure function of
// names, weights, size and key: balancers that share these agree without talking.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "contract/flow_hash.h"

namespace portico {

// A candidate for slots. `name` is what is hashed: it must be unique in its pool and stable over restarts and
// reconfigurations. `id` is only what the slots hold. A backend of weight 0 gets no slot.
struct MaglevBackend {
  std::string_view name;
  uint16_t id;
  uint32_t weight;
};

// Fills `size` slots (a prime, at least 2) with backend ids. Each backend gets its exact share of the weights
// rounded down or up to whole slots. The same table for any order of `backends`; ids do not matter. Returns
// an empty table if no backend has weight.
std::vector<uint16_t> build_lookup(std::span<const MaglevBackend> backends, uint32_t size,
                                   const HashKey& key);

}  // namespace portico
