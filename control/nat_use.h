// SPDX-License-Identifier: Apache-2.0
// How near the NAT ports are to their end. Each backend endpoint has all of them, so the fullest backend
// counts.
#pragma once

#include <cstdint>
#include <string>

#include "contract/feedback.h"
#include "control/config.h"
#include "control/ids.h"

namespace portico {

struct NatUse {
  uint64_t used = 0;    // connections of that backend, to all its ports and of all workers; at most `total`
  uint64_t total = 0;   // NAT ports that one endpoint has in one family; 0: no service in mode nat
  std::string backend;  // "POOL/BACKEND"
};

// The backend that uses most of what it has. Connections are counted for each backend, not for each endpoint
// and family: where services of several ports or both families lead to one backend, the use is overstated,
// never understated but for workers that have more than their part.
NatUse nat_use(const Config& config, const Ids& ids, const Feedback& feedback);

}  // namespace portico
