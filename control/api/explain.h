// SPDX-License-Identifier: Apache-2.0
// GET /v1/explain: where a connection goes, by the dataplane that forwards it.
#pragma once

#include <string>

#include "control/api/http_server.h"
#include "control/status.h"

namespace portico {

// Answers by `respond`, at most a second later. `view` is used before it returns only.
void answer_explain(boost::asio::io_context& io, const StatusView& view, const std::string& run_dir,
                    const std::string& query, const ApiRespond& respond);

}  // namespace portico
