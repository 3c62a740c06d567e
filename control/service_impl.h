// SPDX-License-Identifier: Apache-2.0
// The parts of Service that its source files share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "contract/log_limit.h"
#include "contract/publisher.h"
#include "control/addresses.h"
#include "control/builder.h"
#include "control/checks/health.h"
#include "control/checks/loop_back.h"
#include "control/dataplane_watch.h"
#include "control/events.h"
#include "control/guard.h"
#include "control/history.h"
#include "control/ids.h"
#include "control/isolation.h"
#include "control/neighbours.h"
#include "control/next_hops.h"
#include "control/own_side.h"
#include "control/passive_signals.h"
#include "control/service.h"
#include "control/store_pace.h"

namespace portico {

// A task that runs every `interval` on the io_context.
class Ticker {
 public:
  Ticker(boost::asio::io_context& io, std::chrono::milliseconds interval, std::function<void()> task);
  void start();

 private:
  boost::asio::steady_timer timer_;
  std::chrono::milliseconds interval_;
  std::function<void()> task_;
};

struct Service::Impl {
  Impl(boost::asio::io_context& context, ServiceOptions with);
  ~Impl();

  // service.cc
  void start(const ConfigResult& loaded);
  CommandResult set_admin(const std::string& pool, const std::string& backend, AdminEntry entry, bool force);
  CommandResult set_weight(const std::string& pool, const std::string& backend,
                           std::optional<uint32_t> weight, WeightEntry by, bool force);
  CommandResult find_backend(const std::string& pool, const std::string& backend) const;
  CommandResult publish_command(const std::string& pool);
  void note_operation(const std::string& pool, const std::string& backend, const std::string& what,
                      const std::string& who, const std::string& why);
  StatusView view() const;

  // service_reload.cc: configurations read, applied, kept and thought of.
  void reload(ReloadOrder order, ReloadDone done);
  void next_reload();
  ReloadResult apply_read(ConfigResult read, const ReloadOrder& order);
  void note_reload(const ReloadResult& result, const std::string& who);
  std::optional<std::string> kept_text(const ReloadOrder& order, std::string& text) const;
  void read_apart(std::function<ConfigResult()> read, std::function<void(ConfigResult)> done);
  void plan(std::string text, std::function<void(PlanResult)> done);
  PlanResult what_if(const WhatIf& changes) const;
  std::optional<Plan> plan_of(const Config& next, const OperatorState& with, std::string& failure) const;

  // service_apply.cc: a configuration to the host and to the table.
  void recover();
  void recover_ids();
  void store_ids();
  std::optional<std::string> apply(Config next, std::string effective_text, bool is_first = false);
  std::optional<std::string> install(const Config& next, const Config* before);
  void note_host(const std::vector<std::string>& ports);
  void recover_version(const std::string& effective_text);
  void note_applied();
  void import_health();
  void store_health();
  void store_health_in_time();
  void schedule_publish();
  void publish();
  void hold_back_first_table();
  bool is_held_back();
  std::string waits_for() const;
  BuildInput build_input();
  BackendView backend_view(const std::string& pool, const std::string& backend, bool* unsure) const;
  void follow_routing();
  void follow_addresses();
  bool is_gone(const std::string& pool, const std::string& backend) const;
  void look_at_silent();
  bool takes_out_last(const std::string& pool, const std::string& backend) const;

  // service_loop.cc: what happens over time.
  void start_loop();
  void tend_table();
  void on_health_change(const std::string& pool, const std::string& backend);
  void note_health(const std::string& pool, const std::string& backend, const BackendHealth& status);
  void wait_for_neighbours();
  void keep_host();
  void schedule_keep_host();
  void poll_dataplane();
  uint32_t probe_for(const PassiveSignal& signal);
  void resolve_requested();
  bool is_resolved(const Address& address) const;
  void each_second();

  // service_isolation.cc: what nobody's answering means.
  std::unique_ptr<OwnSide> make_own_side();
  HealthMonitor::Ears make_ears();
  void follow_isolation();
  void note_isolation();

  // Events of zones that begin or cease to help, and of backups.
  void note_tiers();

  boost::asio::io_context& io;
  ServiceOptions options;
  std::string state_dir;
  Config config;
  std::string effective;
  std::vector<std::string> interfaces;  // of dataplane.ports, by index
  EventLog events;
  History history;
  uint64_t config_version = 0;
  uint64_t noted_version = 0;  // what `applied` in the state directory says; 0: nothing written yet
  int64_t loaded_ms = 0, started_ms = 0;

  std::unique_ptr<Publisher> publisher;
  Ids ids;
  OperatorState operators;
  ConfigHistory config_history;
  std::string config_text, applied_by = "start", applied_note;  // of the configuration in use
  Builder builder;
  NextHopTable next_hops;
  DataplaneWatch watch;
  PassiveSignals passive;
  std::unique_ptr<HealthMonitor> health;
  std::unique_ptr<Neighbours> neighbours;
  std::unique_ptr<OwnSide> own_side;
  LoopBack loop_back;
  IsolationWatch isolation;
  int64_t isolation_since_ms = 0;  // CLOCK_REALTIME; 0: since control started
  std::unique_ptr<Guard> guard;
  std::unique_ptr<Addresses> addresses;

  std::vector<std::string> config_warnings, routing_warnings, placement_warnings;
  std::string storage_warning, host_warning, publish_error, table_error;
  // Backends whose checks time out, while it is not known whether their hosts are gone.
  std::set<std::pair<std::string, std::string>> silent;
  std::map<Address, uint64_t> asked_for;  // by the dataplane: when last, CLOCK_MONOTONIC
  uint64_t seen_neighbours = 0, seen_addresses = 0;
  // What must be built anew. Everything: configuration, ids, operator states or the backends' hops changed.
  bool all_changed = true;
  std::set<std::string> changed_pools;  // health
  Routing routing;
  std::map<std::pair<std::string, std::string>, HealthState> logged_health;
  std::map<std::string, std::pair<bool, bool>> logged_tiers;  // by pool: spills, uses backups
  std::optional<uint64_t> held_until_ns;  // CLOCK_MONOTONIC; the first table waits for results until then
  std::string stored_ids;                 // what stands in the file
  uint64_t published_hash = 0;            // of the last published content
  bool publish_scheduled = false, health_dirty = false, keep_host_scheduled = false;
  bool health_state_changed = false;  // what is published next depends on what is not stored yet

  StorePace store_pace;  // of the health
  bool store_scheduled = false;
  LogLimit table_log;

  boost::asio::steady_timer publish_timer, keep_host_timer, store_timer;
  std::optional<boost::asio::posix::stream_descriptor> neighbours_fd;
  std::vector<std::unique_ptr<Ticker>> tickers;
  std::deque<std::pair<ReloadOrder, ReloadDone>> reloads;  // the first one is under way
  // Reads configurations. The last member: it ends before what it works on.
  boost::asio::thread_pool reader{1};
};

}  // namespace portico
