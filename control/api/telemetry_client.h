// SPDX-License-Identifier: Apache-2.0
// Asks the dataplane a question through DPDK's telemetry socket (a SOCK_SEQPACKET Unix socket: a greeting,
// then one JSON answer per command).
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace boost::asio {
class io_context;
}

namespace portico {

struct TelemetryAnswer {
  std::string json;                  // the whole answer, {"/command": ...}
  std::optional<std::string> error;  // why there is none
};

// The telemetry socket of the dataplane of a run directory; empty if there is none. DPDK makes it below
// RUN_DIR/dpdk/, in a folder named by the file prefix.
std::string find_telemetry_socket(const std::string& run_dir);

// Sends `command` ("/portico/explain,198.18.0.1,...") and calls `done` once, on the io_context's thread, at
// most `patience` later.
void ask_telemetry(boost::asio::io_context& io, const std::string& socket_path, const std::string& command,
                   std::function<void(TelemetryAnswer)> done,
                   std::chrono::seconds patience = std::chrono::seconds(1));

}  // namespace portico
