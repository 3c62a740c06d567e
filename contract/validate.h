// SPDX-License-Identifier: Apache-2.0
// The rules that a generation keeps. The dataplane adopts nothing that breaks one; control checks by the same
// rules before it publishes. After this, packet-path code uses every index, id, count and enum unchecked.
#pragma once

#include <optional>
#include <string>

#include "contract/snapshot.h"

namespace portico {

// Nothing if every rule holds, else the first one broken: "services[3].pool: there is no pool 7", naming
// block, record index and field. Never reads out of bounds, whatever the bytes are; expects of the snapshot
// only what its comments say of pointers and that each block's size is count * record size.
//
// `known_good`: a snapshot that passed before. What only concerns blocks that it shares (by address) is not
// checked again, so that a change of one pool costs that pool alone.
std::optional<std::string> validate(const Snapshot& snapshot, const Snapshot* known_good = nullptr);

// True for n prime. Trial division: for look-up table sizes.
bool is_prime(uint32_t n);

// True for an address that one host can have: not unspecified, multicast or broadcast.
bool is_unicast(const Address& address);

}  // namespace portico
