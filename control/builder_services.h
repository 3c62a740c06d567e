// SPDX-License-Identifier: Apache-2.0
// The parts of the table that follow from the configuration alone: settings, ports, services, listeners,
// access lists, NAT addresses.
#pragma once

#include <set>
#include <string>

#include "contract/snapshot.h"
#include "control/config.h"
#include "control/ids.h"

namespace portico {

// Fills in those parts of `content`.
void build_services(const Config& config, const Ids& ids, TableContent& content);

// Ports on the backends that services of a pool send flows to.
std::set<uint16_t> backend_ports(const Config& config, const std::string& pool);

}  // namespace portico
