// SPDX-License-Identifier: Apache-2.0
// Tap interfaces that stand for ports which DPDK drives alone. They are persistent: addresses, routes and
// neighbours on them outlive both processes. Whichever process comes first makes them.
#pragma once

#include <optional>
#include <string>

#include "contract/run_dir.h"

namespace portico {

// Makes the interface, or takes over the one that is there, and brings it up; the descriptor is for its
// frames, whole and without offloads, and does not block. Not open: see errno; EBUSY: another process holds
// it.
FileHandle open_tap(const std::string& name);

// Makes the interface if there is none of that name. What went wrong and the remedy, or nothing.
std::optional<std::string> ensure_tap(const std::string& name);

}  // namespace portico
