// SPDX-License-Identifier: Apache-2.0
// The command line of portico-dataplane. Everything about packets comes from the table; these options only
// say where the table is.
#pragma once

#include <string>

#include "dataplane/log.h"

namespace portico {

struct Options {
  std::string run_dir = "/run/portico";
  std::string file_prefix;  // DPDK's; empty: derived from run_dir
  LogLevel log_level = LogLevel::info;
  bool dry_run = false;  // print what would be started, start nothing
  bool json = false;     // with dry_run: print JSON
};

// What main() does after reading the command line.
enum class OptionsOutcome { run, exit_success, exit_failure };

// Fills `options`. Prints help, the version or a complaint itself; main() then exits.
OptionsOutcome parse_options(int argc, char** argv, Options& options);

// DPDK's file prefix of an instance: distinct run directories get distinct ones, the same directory always
// the same. Only letters, digits, '-' and '_'; at most 48 characters.
std::string derive_file_prefix(const std::string& run_dir);

}  // namespace portico
