// SPDX-License-Identifier: Apache-2.0
// How near the NAT ports are to their end. Each backend endpoint has all of them and each worker its part, so
// the fullest endpoint of any worker counts: new connections to it are refused first.
#pragma once

#include <cstdint>
#include <string>

#include "contract/feedback.h"
#include "control/config.h"
#include "control/ids.h"

namespace portico {

struct NatUse {
  uint64_t used = 0;    // NAT ports of one worker that the endpoint uses
  uint64_t total = 0;   // that the worker has for it; 0: no service in mode nat
  std::string backend;  // "POOL/BACKEND"; empty: no endpoint uses any, or the backend has been taken away
};

// As the dataplane counts them.
NatUse nat_use(const Config& config, const Ids& ids, const Feedback& feedback);

}  // namespace portico
