// SPDX-License-Identifier: Apache-2.0
// SIGTERM and SIGINT as something the main loop looks at between its steps, never as an interruption.
#pragma once

#include <csignal>
#include <cstdint>

namespace portico {

class Signals {
 public:
  // Blocks SIGTERM and SIGINT in this thread and all that it starts later, and ignores SIGHUP (a terminal
  // that closes; configuration is control's) and SIGPIPE. Call before any thread exists.
  Signals();

  // Sleeps for `microseconds`, or until a signal asks for the end. Returns true from then on.
  bool wait(uint32_t microseconds);

 private:
  sigset_t set_;
  bool asked_ = false;
};

}  // namespace portico
