// SPDX-License-Identifier: Apache-2.0
// GET /v1/flows: the connections that live now, or how many, as the dataplane has them.
#pragma once

#include <string>

#include "control/api/http_server.h"
#include "control/status.h"

namespace portico {

// Answers by `respond`, when as many have been found as are asked for, all have been looked at, or ten
// seconds are over. `view` is used before it returns only.
void answer_flows(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                  const std::string& query, const ApiRespond& respond);

}  // namespace portico
