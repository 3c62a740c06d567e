// SPDX-License-Identifier: Apache-2.0
// A port's index stays what it is while a dataplane runs: next hops, routes and the workers' queues name
// ports by it. So a list in another order keeps the running one, with new ports after it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "control/config.h"

namespace portico {

// Puts `wanted` into the order of `running`, the names of the ports that the dataplane holds (empty: none
// runs). `before` is the list that was published last, for the device arguments. Returns an error text, and
// leaves `wanted` alone, if a running port is missing or is another device now.
std::optional<std::string> keep_port_order(const std::vector<std::string>& running,
                                           const std::vector<DataplaneConfig::Port>& before,
                                           std::vector<DataplaneConfig::Port>& wanted);

}  // namespace portico
