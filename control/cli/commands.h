// SPDX-License-Identifier: Apache-2.0
// What `portico` does for each of its commands. docs/cli.md is the reference.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "control/cli/format.h"

namespace portico::cli {

// Exit statuses, besides the sysexits(3) value for a wrong command line.
enum Exit : int {
  kExitWell = 0,
  kExitDegraded = 1,   // status: served, but something is out
  kExitUnserved = 2,   // status: a service is not served
  kExitNoControl = 3,  // control cannot be asked
  kExitDeadline = 3,   // drain --wait: connections were left at the deadline
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
// Whether this balancer should get traffic: kExitWell, or kExitUnserved.
int show_ready(const Context& context);
int show_drops(const Context& context, bool all);
// `follow`: also those that come, until it is ended.
int show_events(const Context& context, bool follow);
// `most_broken`: refuse if more live connections break; nullopt: whatever breaks.
int reload(const Context& context, std::optional<uint64_t> most_broken);
// Uses a kept configuration again, and writes it to the configuration file.
int rollback(const Context& context, uint64_t version, std::optional<uint64_t> most_broken);
int show_history(const Context& context);
// What changed from a kept configuration to the one in use; nullopt: from the one before.
int show_diff(const Context& context, std::optional<uint64_t> version);
// What the configuration of a file would change.
int plan(const Context& context, const std::string& path);
// What it would be without backends, and with others' weights: NAME=WEIGHT.
int what_if(const Context& context, const std::vector<std::string>& remove,
            const std::vector<std::string>& weights);
// `elsewhere`: the file is for another host.
int check_config(const Context& context, const std::string& path, bool elsewhere);
// `path` empty: the configuration that control uses.
int show_effective(const Context& context, const std::string& path);
// `client`: ADDRESS or ADDRESS:PORT. `listen` may be empty.
int explain(const Context& context, const std::string& client, const std::string& service,
            const std::string& listen);
// Which live connections to show.
struct FlowsRequest {
  std::string service, backend, client;  // empty: any; `client`: an address or a prefix
  uint64_t limit = 100;
  bool count = false;  // show how many there are instead
};
int show_flows(const Context& context, const FlowsRequest& request);
// What an operator asks of a backend.
struct BackendOrder {
  std::string backend;  // NAME or POOL/NAME
  std::string why;
  bool force = false;
  std::string deadline;  // a duration; empty: none
  bool wait = false;     // until its connections are gone, or the deadline
};
// `verb`: drain, hold or resume.
int change_backend(const Context& context, const std::string& verb, const BackendOrder& order);
// `weight`: a number, or "default".
int change_weight(const Context& context, const BackendOrder& order, const std::string& weight);
// What to capture, and when to end.
struct CaptureRequest {
  std::string target;  // a service, or a client: ADDRESS or ADDRESS:PORT
  std::string file;    // "-": standard output
  std::string time = "60s";
  uint64_t packets = 100'000, bytes = 64 << 20;
  uint32_t snap = 2048;  // of each packet at most so many bytes
};
// Writes packets as pcapng, until a limit, SIGINT or SIGTERM.
int capture(const Context& context, const CaptureRequest& request);
// What is not as it should be on this host, by the configuration of a file; `path` empty: the one in use.
int examine(const Context& context, const std::string& path);
// Where to write a support bundle, and what of.
struct SupportRequest {
  std::string file;               // "-": standard output; empty: named by the time, here
  std::string config;             // empty: the one in use
  std::vector<std::string> logs;  // files whose ends to add
};
// Writes an archive of all that tells what is wrong, without secrets, whatever of it is running.
int support_bundle(const Context& context, const SupportRequest& request);
struct TopRequest {
  std::string order = "pool", interval = "1s";
  std::optional<uint64_t> count;  // readings; 0: without an end; absent: one, or on a terminal without an end
};
// Who carries what now, again and again; on a terminal with keys for what is done to a backend.
int top(const Context& context, const TopRequest& request);
// Which CPU and NIC queues each worker gets by the present table, and why.
int show_topology(const Context& context);
// Makes the dataplane give way to the program that now has its name, and waits until that forwards.
int upgrade_dataplane(const Context& context);
// Names of `what`, one a line, for completion: "backends", "services", "versions". Nothing without control.
int print_names(const Context& context, const std::string& what);
// The JSON schema of the configuration; with `api`, the API's OpenAPI document.
int show_schema(const Context& context, bool api);
int show_version(const Context& context);
// `text`: the help for a person.
int show_help(const Context& context, const std::string& text);

// The whole program: parses the command line and runs the command. `terminal`: whether `out` is one.
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err, bool terminal);

}  // namespace portico::cli
