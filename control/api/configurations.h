// SPDX-License-Identifier: Apache-2.0
// The endpoints about configurations: reload, roll back, plan, history.
#pragma once

#include "control/api/http_server.h"
#include "control/service.h"

namespace portico {

// POST /v1/reload and /v1/rollback. `who`: the operator.
void answer_reload(Service& service, const ApiRequest& request, const std::string& who,
                   const ApiRespond& respond);
// POST /v1/plan and /v1/what-if.
void answer_plan(Service& service, const ApiRequest& request, const ApiRespond& respond);
// GET /v1/configs, and /v1/configs/VERSION.
ApiResponse answer_history(const Service& service, const std::string& path);

}  // namespace portico
