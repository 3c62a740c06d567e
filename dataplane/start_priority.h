// SPDX-License-Identifier: Apache-2.0
// While the dataplane starts with a table that it can use, nothing is forwarded: for these 100 ms of
// processor time it goes before what else runs on the machine.
#pragma once

namespace portico {

// Gives the calling thread, and those that it starts meanwhile, real-time priority, the lowest there is,
// until end() or its destruction. Where that is not permitted (CAP_SYS_NICE) nothing happens.
class StartPriority {
 public:
  StartPriority();
  ~StartPriority() { end(); }
  StartPriority(const StartPriority&) = delete;
  StartPriority& operator=(const StartPriority&) = delete;

  // For all threads of the process.
  void end();

 private:
  bool raised_ = false;
};

}  // namespace portico
