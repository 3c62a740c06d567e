// SPDX-License-Identifier: Apache-2.0
// POST /v1/dataplane/upgrade: the dataplane gives way to the program that now has its name.
#pragma once

#include <string>

#include "control/api/http_server.h"

namespace portico {

// Answers by `respond` when the dataplane has tried the new program, at most 12 s later.
void answer_upgrade(boost::asio::io_context& io, const std::string& run_dir, const ApiRespond& respond);

}  // namespace portico
