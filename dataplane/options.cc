// SPDX-License-Identifier: Apache-2.0
#include "dataplane/options.h"

#include <getopt.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <filesystem>

#include "contract/layout.h"

namespace portico {
namespace {

constexpr const char* kHelp =
    "Usage: portico-dataplane [--run-dir DIR] [OPTIONS]\n"
    "Forwards the packets of Portico's services by the table that portico-control publishes.\n\n"
    "  --run-dir DIR        directory shared with portico-control (default /run/portico)\n"
    "  --file-prefix NAME   DPDK's file prefix (default: derived from the run directory)\n"
    "  --dry-run            print where workers, queues and memory would be by the current table, and why;\n"
    "                       start and touch nothing. HWLOC_XMLFILE=FILE: for the machine in that file\n"
    "  --json               with --dry-run: print JSON\n"
    "  --log-level LEVEL    debug, info (default), warning or error\n"
    "  --version            print the version and the table's ABI version\n"
    "  --help               print this\n\n"
    "Signals: SIGTERM and SIGINT stop cleanly. Exit status: 0 stopped cleanly, 1 could not start or run,\n"
    "or, with --dry-run, could not start by this plan.\n";

constexpr std::array kLongOptions = {
    option{"run-dir", required_argument, nullptr, 'r'},
    option{"file-prefix", required_argument, nullptr, 'p'},
    option{"dry-run", no_argument, nullptr, 'd'},
    option{"json", no_argument, nullptr, 'j'},
    option{"log-level", required_argument, nullptr, 'l'},
    option{"version", no_argument, nullptr, 'v'},
    option{"help", no_argument, nullptr, 'h'},
    option{nullptr, 0, nullptr, 0},
};

OptionsOutcome complain(const char* text, const char* value) {
  std::fprintf(stderr, "portico-dataplane: %s '%s'; try --help\n", text, value);
  return OptionsOutcome::exit_failure;
}

bool is_prefix_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
}

}  // namespace

OptionsOutcome parse_options(int argc, char** argv, Options& options) {
  optind = 1;
  for (;;) {
    const int found = getopt_long(argc, argv, "", kLongOptions.data(), nullptr);
    if (found == -1) break;
    switch (found) {
      case 'r':
        options.run_dir = optarg;
        break;
      case 'p':
        options.file_prefix = optarg;
        break;
      case 'd':
        options.dry_run = true;
        break;
      case 'j':
        options.json = true;
        break;
      case 'l':
        if (!parse_log_level(optarg, options.log_level)) return complain("unknown log level", optarg);
        break;
      case 'v':
        std::printf("portico-dataplane %s (table ABI %u)\n", PORTICO_VERSION, kAbiVersion);
        return OptionsOutcome::exit_success;
      case 'h':
        std::fputs(kHelp, stdout);
        return OptionsOutcome::exit_success;
      default:  // getopt_long has said what is wrong
        return OptionsOutcome::exit_failure;
    }
  }
  if (optind < argc) return complain("unexpected argument", argv[optind]);
  if (options.json && !options.dry_run) return complain("only --dry-run prints JSON, not", "--json");
  if (options.run_dir.empty()) return complain("--run-dir needs a directory, not", "");
  if (options.file_prefix.empty()) options.file_prefix = derive_file_prefix(options.run_dir);
  if (!std::all_of(options.file_prefix.begin(), options.file_prefix.end(), is_prefix_character)) {
    return complain("--file-prefix takes letters, digits, '-' and '_' only, not",
                    options.file_prefix.c_str());
  }
  return OptionsOutcome::run;
}

std::string derive_file_prefix(const std::string& run_dir) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::weakly_canonical(run_dir, error);
  if (error) path = run_dir;
  if (!path.has_filename()) path = path.parent_path();  // "/run/portico/"
  std::string readable = path.filename().string().substr(0, 24);
  std::replace_if(
      readable.begin(), readable.end(), [](char c) { return !is_prefix_character(c); }, '-');
  char digest[17];
  std::snprintf(digest, sizeof digest, "%08x",
                static_cast<unsigned>(XXH3_64bits(path.c_str(), path.string().size()) & 0xffffffff));
  return readable + "-" + digest;
}

}  // namespace portico
