// SPDX-License-Identifier: Apache-2.0
// The backends that may have a slot's older flows although the slot is another's now: what a second chance
// tries after the slot's own (docs/gue.md). A pure function, as the look-up table is: balancers agree.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract/flow_hash.h"
#include "control/maglev.h"

namespace portico {

// A backend set whose look-up table told where flows went, or would tell. Names live elsewhere.
using BackendSet = std::vector<MaglevBackend>;

struct Fallback {
  uint32_t columns = 0;         // 0..kMaxFallbackColumns
  std::vector<uint16_t> slots;  // as BlockKind::fallback says
};

// Up to kMaxFallbackColumns backends per slot of `lookup`, which was built from `current`: those that the
// slot had in each of `earlier`, in that order; then the one that it would have if its own were absent, which
// has the flows of while that was so, or of while its weight was growing. A set that is too large for that
// (kMostWithout) gets the former alone.
Fallback build_fallback(const std::vector<uint16_t>& lookup, const BackendSet& current,
                        const std::vector<BackendSet>& earlier, const HashKey& key);

// Look-up tables are built for each backend's absence up to so many backends.
inline constexpr size_t kMostWithout = 64;

}  // namespace portico
