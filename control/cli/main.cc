// SPDX-License-Identifier: Apache-2.0
// portico: the command line tool. Each command is one question to control, or one look at a file.
#include <unistd.h>

#include <exception>
#include <iostream>

#include "control/cli/commands.h"

int main(int argc, char** argv) {
  try {
    return portico::cli::run(argc, argv, std::cout, std::cerr, isatty(STDOUT_FILENO) == 1);
  } catch (const std::exception& e) {
    std::cerr << "portico: " << e.what() << '\n';
    return portico::cli::kExitFailed;
  }
}
