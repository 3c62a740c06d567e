// SPDX-License-Identifier: Apache-2.0
// What `portico doctor` finds. Each check looks at one thing of this host, changes nothing, and adds what is
// not as it should be, with the remedy; a check that finds nothing wrong adds nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/config.h"

namespace portico::doctor {

enum class Severity : uint8_t {
  notice,   // may be meant so
  warning,  // works, but slower, or not in every case
  error,    // something does not work, or will not
};

std::string_view to_string(Severity severity);

struct Finding {
  Severity severity = Severity::warning;
  std::string check;    // its name in docs/cli.md: "rp_filter"
  std::string subject;  // an interface, a backend, a file; empty: the host
  std::string text;     // what is wrong, and what comes of it
  std::string remedy;   // a command, or what to change
};

// Kernel files below a folder, "" for this host's; tests have others.
class Files {
 public:
  explicit Files(std::string root = "") : root_(std::move(root)) {}

  // At most the first 64 KiB, without blanks at the end; nullopt if it cannot be read.
  std::optional<std::string> text(const std::string& path) const;
  // A file that is one decimal number.
  std::optional<uint64_t> number(const std::string& path) const;
  // The last part of what a symbolic link names; "" if it is none.
  std::string link_name(const std::string& path) const;
  bool exists(const std::string& path) const;
  // The files of a folder, by name.
  std::vector<std::string> list(const std::string& path) const;

 private:
  std::string root_;
};

// What is examined, and what was found.
struct Examination {
  Config config;            // empty if it could not be read: then only the host is looked at
  std::string config_path;  // of its file
  std::string run_dir;
  Files files = Files();
  bool control_alive = false, dataplane_alive = false;
  bool is_root = false;
  std::vector<Finding> findings = {};
  std::vector<std::string> skipped = {};  // what could not be looked at, and why

  void add(Severity severity, std::string check, std::string subject, std::string text, std::string remedy) {
    findings.push_back({severity, std::move(check), std::move(subject), std::move(text), std::move(remedy)});
  }
};

void check_huge_pages(Examination& examination);
void check_kernel(Examination& examination);
void check_clock(Examination& examination);
void check_ports(Examination& examination);
void check_queues(Examination& examination);
void check_mtu(Examination& examination);
void check_rp_filter(Examination& examination);
void check_addresses(Examination& examination);
void check_neighbours(Examination& examination);
void check_permissions(Examination& examination);
void check_guard(Examination& examination);
void check_processes(Examination& examination);

// A check and its name, in the order in which they run.
struct Check {
  const char* name;
  void (*run)(Examination&);
};
const std::vector<Check>& all_checks();

// The kernel's interfaces of the configuration's ports, without repetition.
std::vector<std::string> port_interfaces(const Config& config);

}  // namespace portico::doctor
