// SPDX-License-Identifier: Apache-2.0
// The telemetry socket's place in the run directory. DPDK makes the socket once, when it starts; a run
// directory that somebody wiped gets it back.
#pragma once

#include <filesystem>
#include <string>

#include "contract/run_dir.h"

namespace portico {

class TelemetrySocket {
 public:
  // After DPDK's start. Makes the link RUN_DIR/telemetry to the socket, which has a name that does not depend
  // on DPDK's prefix.
  TelemetrySocket(const std::filesystem::path& run_dir, const std::string& file_prefix);

  // Every second or so, by the same thread: makes socket and link anew if they are gone. What cannot be
  // mended is logged once and tried again.
  void check();

 private:
  void find_listener();
  bool is_in_place() const;
  void make_socket();
  void make_link();

  std::filesystem::path path_, link_, link_target_;
  int listener_ = -1;  // DPDK's descriptor; -1: it has no telemetry
  FileHandle name_;    // of the socket that `listener_` stands for, even when it is unlinked
  FileHandle waker_;
  bool told_ = false;
};

}  // namespace portico
