// SPDX-License-Identifier: Apache-2.0
// What translating a flow's addresses and ports does to checksums. Since it follows from them alone, it also
// tells whether an entry of another process is whole.
#pragma once

#include "dataplane/checksum.h"
#include "dataplane/flow_entry.h"

namespace portico {

struct NatDeltas {
  uint16_t address, tcp;  // see NatEntry
  bool operator==(const NatDeltas&) const = default;
};

template <typename F>
[[gnu::always_inline]] inline NatDeltas deltas_of(const NatEntry<F>& e) {
  const auto before = static_cast<uint32_t>(sum_of(e.client) + sum_of(e.vip));
  const auto after = static_cast<uint32_t>(sum_of(e.nat) + sum_of(e.backend_address));
  return {short_checksum_delta(before, after),
          short_checksum_delta(before + e.client_port + e.vip_port, after + e.nat_port + e.backend_port)};
}

}  // namespace portico
