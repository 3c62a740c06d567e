// SPDX-License-Identifier: Apache-2.0
// Control's main loop: brings configuration, health, neighbours, operators and the dataplane's feedback
// together, and publishes what follows. Single-threaded; everything runs on one io_context.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/events.h"
#include "control/history.h"
#include "control/operator_state.h"

namespace boost::asio {
class io_context;
}

namespace portico {

struct StatusView;

struct ServiceOptions {
  std::string config_path;
  std::string run_dir = "/run/portico";
  std::string state_dir;  // where operator and health states stay; empty: the run directory
};

// An answer to an operator's command.
struct CommandResult {
  enum class Kind { done, unknown_backend, ambiguous, refused, failed };
  Kind kind = Kind::done;
  std::string pool;          // done: the backend's
  std::string text, remedy;  // else: why not, and what to do
  std::string waits_for;     // done: why no table has it yet; empty: it is published
};

// What came of reading the configuration anew.
struct ReloadResult {
  ConfigResult read;      // without a config: nothing was changed
  std::string failure;    // the file is good, but this kept it from being applied; empty: the file has errors
  std::string waits_for;  // applied: why no table has it yet; empty: it is published
};

class Service {
 public:
  Service(boost::asio::io_context& io, ServiceOptions options);
  ~Service();  // guard, addresses and table stay: the dataplane goes on
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  // Takes over the run directory and what an earlier control left, installs guard and addresses, publishes
  // and begins to watch. Throws std::runtime_error with a text for the operator.
  void start(const ConfigResult& loaded);

  // Reads the configuration file again and applies it as a difference. On any error nothing is changed. `who`
  // asked for it.
  ReloadResult reload(const std::string& who);

  // Sets a backend's operator state. `pool` may be empty if the backend's name is in one pool only. Without
  // `force` the last usable backend of a pool is not taken out.
  CommandResult set_admin(const std::string& pool, const std::string& backend, AdminEntry entry, bool force);

  // What the status, the metrics and explain show, as of now. Valid until the io_context runs again.
  StatusView view() const;

  // What happened lately, and how the backends did.
  const EventLog& events() const;
  const History& history() const;

  // The configuration in use with all defaults and where each value is from (YAML).
  const std::string& effective() const;
  const std::string& run_dir() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Removes what start() installed on the host: addresses, then the guard. For uninstalling and for tests.
// Returns an error text.
std::optional<std::string> remove_installed(const std::string& instance);

}  // namespace portico
