// SPDX-License-Identifier: Apache-2.0
// What `portico` does for each of its commands. docs/cli.md is the reference.
#pragma once

#include <iosfwd>
#include <string>

#include "control/cli/format.h"

namespace portico::cli {

// Exit statuses, besides the sysexits(3) value for a wrong command line.
enum Exit : int {
  kExitWell = 0,
  kExitDegraded = 1,   // status: served, but something is out
  kExitUnserved = 2,   // status: a service is not served
  kExitNoControl = 3,  // control cannot be asked
  kExitFailed = 4,     // refused, failed, or the configuration has errors
  kExitUsage = 64,
};

// Where output goes and how.
struct Context {
  std::string run_dir;
  bool json = false;
  Style style{false};
  std::ostream& out;
  std::ostream& err;
};

// Says what went wrong, and the remedy unless it is empty, in the form that was asked for; returns `exit`.
int fail(const Context& context, int exit, const std::string& error, const std::string& remedy);

int show_status(const Context& context);
int show_drops(const Context& context, bool all);
// `follow`: also those that come, until it is ended.
int show_events(const Context& context, bool follow);
int reload(const Context& context);
// `elsewhere`: the file is for another host.
int check_config(const Context& context, const std::string& path, bool elsewhere);
// `path` empty: the configuration that control uses.
int show_effective(const Context& context, const std::string& path);
// `client`: ADDRESS or ADDRESS:PORT. `listen` may be empty.
int explain(const Context& context, const std::string& client, const std::string& service,
            const std::string& listen);
// `verb`: drain, hold or resume. `backend`: NAME or POOL/NAME.
int change_backend(const Context& context, const std::string& verb, const std::string& backend,
                   const std::string& why, bool force);
// Which CPU and NIC queues each worker gets by the present table, and why.
int show_topology(const Context& context);
// Makes the dataplane give way to the program that now has its name, and waits until that forwards.
int upgrade_dataplane(const Context& context);
int show_version(const Context& context);
// `text`: the help for a person.
int show_help(const Context& context, const std::string& text);

// The whole program: parses the command line and runs the command. `terminal`: whether `out` is one.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err, bool terminal);

}  // namespace portico::cli
