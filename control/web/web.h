// SPDX-License-Identifier: Apache-2.0
// What `--http` serves: the web page, the reading part of the API, /metrics, and with a token the commands
// for backends. docs/web.md says who may do what.
#pragma once

#include <string>
#include <utility>

#include "control/api/api.h"
#include "control/web/access.h"

namespace portico {

class Web {
 public:
  // `api` must outlive it. `is_open`: it is reachable from beyond this host, so reading needs a token, too.
  Web(Api& api, Access access, bool is_open) : api_(api), access_(std::move(access)), is_open_(is_open) {}

  void handle(ApiRequest request, const ApiRespond& respond);

 private:
  void answer(ApiRequest request, const ApiRespond& respond);

  Api& api_;
  Access access_;
  bool is_open_;
};

}  // namespace portico
