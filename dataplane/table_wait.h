// SPDX-License-Identifier: Apache-2.0
// The dataplane's first state: there is no usable table yet.
#pragma once

#include <filesystem>
#include <memory>

#include "contract/adopter.h"
#include "dataplane/report.h"
#include "dataplane/signals.h"

namespace portico {

// Waits for the first good generation, says once what it waits for, and keeps the heartbeat. Null if a
// signal asked for the end. Throws std::runtime_error with the upgrade order if a control process of another
// build is running: waiting would not help.
std::shared_ptr<const Snapshot> wait_for_table(const std::filesystem::path& run_dir, Adopter& adopter,
                                               Report& report, Signals& signals);

}  // namespace portico
