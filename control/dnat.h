// SPDX-License-Identifier: Apache-2.0
// What services in mode dnat send to: the addresses and ports that replies come from.
#pragma once

#include <vector>

#include "control/config.h"

namespace portico {

// That one of a service's listeners leads to a backend's address and port. References into the Config.
struct DnatUse {
  const ServiceConfig* service;
  Endpoint listener, backend;
};

// How many dnat_uses() has.
size_t count_dnat_uses(const Config& config);

// Of all listeners and backends of such services, whose pools may be missing; of every family by itself.
std::vector<DnatUse> dnat_uses(const Config& config);

// The backends' ends of these, ascending, no two alike.
std::vector<Endpoint> dnat_backends(const Config& config);

}  // namespace portico
