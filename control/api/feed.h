// SPDX-License-Identifier: Apache-2.0
// GET /v1/stream: status, drops and events as they change, as server-sent events (docs/api.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "control/api/http_server.h"
#include "control/service.h"

namespace portico {

class Feed {
 public:
  // `service` must outlive the streams' use.
  explicit Feed(Service& service) : service_(service) {}

  // A stream that begins with a snapshot and the events whose ids are greater than `after`.
  ApiStream open(uint64_t after);

 private:
  // Status and drops at most a second old, younger after an event. All streams share its text. Of 4,096
  // backends it takes tens of milliseconds, which checks must not wait for each second: it is made as rarely
  // as to cost a twentieth of the time.
  const std::shared_ptr<const std::string>& snapshot();
  bool is_due(uint64_t now_ns) const;

  Service& service_;
  std::shared_ptr<const std::string> snapshot_;
  uint64_t made_ns_ = 0, cost_ns_ = 0, made_events_ = 0;
};

// JSON that was written with indentation, on one line: the lines of an event's data. Line breaks within texts
// are escaped, so all that stand there are the writer's.
std::string on_one_line(const std::string& json);

}  // namespace portico
