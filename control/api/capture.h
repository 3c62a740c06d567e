// SPDX-License-Identifier: Apache-2.0
// POST and GET /v1/capture: packets for whoever listens on a socket in the run directory, taken by the
// dataplane.
#pragma once

#include <string>

#include "control/api/http_server.h"
#include "control/status.h"

namespace portico {

// Answers by `respond`, at most a second later: whether the capture has begun. `view` is used before it
// returns only.
void answer_capture(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                    const std::string& body, const ApiRespond& respond);

// The capture that runs, or the last one.
void answer_capture_status(boost::asio::io_context& io, const std::string& run_dir,
                           const ApiRespond& respond);

}  // namespace portico
