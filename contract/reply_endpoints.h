// SPDX-License-Identifier: Apache-2.0
// Where replies come from that `dnat` translates: a backend's address and the port that a service of that
// mode uses of it. Clients' own addresses are the replies' destinations, so nothing else tells them.
#pragma once

#include <compare>
#include <cstdint>
#include <vector>

#include "contract/address.h"
#include "contract/snapshot.h"

namespace portico {

struct ReplyEndpoint {
  Address address;
  uint16_t port;  // host byte order

  auto operator<=>(const ReplyEndpoint&) const = default;
};

// At least as many as reply_endpoints() has, found without making them. `snapshot` need not be valid but for
// services' and listeners' references.
uint64_t count_reply_endpoints(const Snapshot& snapshot);

// Ascending, no two alike; removed backends' are among them while the table names those.
std::vector<ReplyEndpoint> reply_endpoints(const Snapshot& snapshot);

}  // namespace portico
