// SPDX-License-Identifier: Apache-2.0
// The endpoints of docs/api.md.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "control/api/feed.h"
#include "control/api/http_server.h"
#include "control/service.h"

namespace portico {

class Api {
 public:
  // Both must outlive it.
  Api(boost::asio::io_context& io, Service& service) : io_(io), service_(service), feed_(service) {}

  // Answers one request, `explain` and upgrades after the dataplane has answered. Changes need a peer on the
  // Unix socket who is root, or of the same user or group as control, or `request.who`. Over TCP it answers
  // only what others let through: handle_metrics() and control/web/web.h.
  void handle(const ApiRequest& request, const ApiRespond& respond);
  // GET /metrics and nothing else.
  void handle_metrics(const ApiRequest& request, const ApiRespond& respond);

 private:
  ApiResponse get(const ApiRequest& request);
  ApiResponse post_backend(const ApiRequest& request);
  ApiResponse stream(const ApiRequest& request);

  boost::asio::io_context& io_;
  Service& service_;
  Feed feed_;
};

// An answer with a JSON body.
ApiResponse json_response(unsigned status, const nlohmann::json& body);

// The error body of docs/api.md.
ApiResponse api_error(unsigned status, const std::string& error, const std::string& remedy = "");

}  // namespace portico
