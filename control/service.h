// SPDX-License-Identifier: Apache-2.0
// Control's main loop: brings configuration, health, neighbours, operators and the dataplane's feedback
// together, and publishes what follows. Single-threaded; everything runs on one io_context.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control/config.h"
#include "control/config_history.h"
#include "control/events.h"
#include "control/history.h"
#include "control/operator_state.h"
#include "control/plan.h"

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
using ReloadDone = std::function<void(ReloadResult)>;

// What a reload is asked for.
struct ReloadOrder {
  std::string who;                      // "root (uid 0)", "SIGHUP"
  std::optional<uint64_t> version;      // of the history; nullopt: the configuration file
  std::optional<uint64_t> most_broken;  // refuse if more live connections break; nullopt: never
};

// Changes to the configuration in use that are only thought of.
struct WhatIf {
  std::vector<std::string> remove;          // BACKEND or POOL/BACKEND
  std::map<std::string, uint32_t> weights;  // the same
};

// A plan, or why there is none.
struct PlanResult {
  ConfigResult read;    // of plan(); with errors there is no plan
  std::string failure;  // else why there is none
  std::optional<Plan> plan;
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

  // Reads the configuration file again, or a kept configuration, and applies it as a difference. On any error
  // nothing is changed. Reading takes its time on another thread; `done` is called on this one. Orders are
  // carried out one after the other.
  void reload(ReloadOrder order, ReloadDone done);

  // What a configuration would change; nothing is changed. The text stands for the file, and is read as that.
  void plan(std::string text, std::function<void(PlanResult)> done);
  PlanResult what_if(const WhatIf& changes) const;

  // Sets a backend's operator state. `pool` may be empty if the backend's name is in one pool only. Without
  // `force` the last usable backend of a pool is not taken out.
  CommandResult set_admin(const std::string& pool, const std::string& backend, AdminEntry entry, bool force);

  // Sets a backend's weight; nullopt: the configuration's again. `by`: who, since when and why. A weight of 0
  // for the last usable one is refused as set_admin() does.
  CommandResult set_weight(const std::string& pool, const std::string& backend,
                           std::optional<uint32_t> weight, WeightEntry by, bool force);

  const ConfigHistory& configs() const;

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
