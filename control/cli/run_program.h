// SPDX-License-Identifier: Apache-2.0
// Other programs, asked for what only they know.
#pragma once

#include <string>
#include <vector>

namespace portico::cli {

struct Finished {
  int status = -1;  // exit status; -1: it did not run or was killed
  std::string output, messages;
};

// Runs a program, found by PATH, to its end. Never throws; what keeps it from running is in `messages`.
Finished run_program(const std::vector<std::string>& arguments);

}  // namespace portico::cli
