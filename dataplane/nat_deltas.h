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
NatDeltas deltas_of(const NatEntry<F>& e) {
  const uint64_t before = sum_of(e.client) + sum_of(e.vip);
  const uint64_t after = sum_of(e.nat) + sum_of(e.backend_address);
  return {checksum_delta(before, after),
          checksum_delta(before + e.client_port + e.vip_port, after + e.nat_port + e.backend_port)};
}

}  // namespace portico
