// SPDX-License-Identifier: Apache-2.0
// Asks control over its Unix socket.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace portico::cli {

// An answer of control, or why there is none.
struct ApiReply {
  unsigned status = 0;  // HTTP; 0: control could not be asked
  std::string body;
  std::string problem;  // if status is 0: what is wrong
  std::string remedy;   // and what to do

  bool reached() const { return status != 0; }
  bool ok() const { return status >= 200 && status < 300; }
};

class ApiClient {
 public:
  // `run_dir`: where control.sock is. `timeout`: for a whole exchange.
  explicit ApiClient(std::string run_dir, std::chrono::milliseconds timeout = std::chrono::seconds(10))
      : socket_path_(std::move(run_dir) + "/control.sock"), timeout_(timeout) {}

  // Never throws. `target`: path and query, percent-encoded.
  ApiReply get(const std::string& target) const { return ask("GET", target, {}); }
  ApiReply post(const std::string& target, const std::string& body) const {
    return ask("POST", target, body);
  }

 private:
  ApiReply ask(const char* method, const std::string& target, const std::string& body) const;

  std::string socket_path_;
  std::chrono::milliseconds timeout_;
};

}  // namespace portico::cli
