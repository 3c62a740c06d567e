// SPDX-License-Identifier: Apache-2.0
#include "control/service.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "control/service_impl.h"
#include "control/status.h"

namespace portico {
namespace {

int64_t now_ms() {
  return static_cast<int64_t>(realtime_ns() / 1'000'000);
}

void log_event(EventLog& events, DataplaneWatch::Level level, const std::string& text) {
  Event event{.at_ms = now_ms(), .kind = Event::Kind::dataplane, .text = text};
  switch (level) {
    case DataplaneWatch::Level::info:
      spdlog::info("{}", text);
      break;
    case DataplaneWatch::Level::warning:
      spdlog::warn("{}", text);
      event.level = Event::Level::warning;
      break;
    case DataplaneWatch::Level::error:
      spdlog::error("{}", text);
      event.level = Event::Level::error;
      break;
  }
  events.add(std::move(event));
}

CommandResult refused(CommandResult::Kind kind, std::string text, std::string remedy) {
  return {.kind = kind, .pool = {}, .text = std::move(text), .remedy = std::move(remedy), .waits_for = {}};
}

CommandResult refused_as_last(const std::string& pool, const std::string& backend) {
  return refused(CommandResult::Kind::refused,
                 "`" + backend + "` is the last usable backend of pool `" + pool + "`",
                 "bring another one back first, or use --force");
}

uint32_t configured_weight(const Config& config, const std::string& pool, const std::string& backend) {
  for (const PoolConfig& p : config.pools)
    for (const BackendConfig& b : p.backends)
      if (p.name == pool && b.name == backend) return b.weight;
  return 0;
}

CommandResult not_stored(const std::string& error) {
  return refused(CommandResult::Kind::failed, error, "nothing was changed; make room or mend permissions");
}

}  // namespace

Service::Service(boost::asio::io_context& io, ServiceOptions options)
    : impl_(std::make_unique<Impl>(io, std::move(options))) {}
Service::~Service() = default;

void Service::start(const ConfigResult& loaded) {
  impl_->start(loaded);
}
void Service::reload(ReloadOrder order, ReloadDone done) {
  impl_->reload(std::move(order), std::move(done));
}
void Service::plan(std::string text, std::function<void(PlanResult)> done) {
  impl_->plan(std::move(text), std::move(done));
}
PlanResult Service::what_if(const WhatIf& changes) const {
  return impl_->what_if(changes);
}
CommandResult Service::set_weight(const std::string& pool, const std::string& backend,
                                  std::optional<uint32_t> weight, WeightEntry by, bool force) {
  return impl_->set_weight(pool, backend, weight, std::move(by), force);
}
const ConfigHistory& Service::configs() const {
  return impl_->config_history;
}
CommandResult Service::set_admin(const std::string& pool, const std::string& backend, AdminEntry entry,
                                 bool force) {
  return impl_->set_admin(pool, backend, std::move(entry), force);
}
StatusView Service::view() const {
  return impl_->view();
}
const EventLog& Service::events() const {
  return impl_->events;
}
const History& Service::history() const {
  return impl_->history;
}
const std::string& Service::effective() const {
  return impl_->effective;
}
const std::string& Service::run_dir() const {
  return impl_->options.run_dir;
}

Service::Impl::Impl(boost::asio::io_context& context, ServiceOptions with)
    : io(context),
      options(std::move(with)),
      state_dir(options.state_dir.empty() ? options.run_dir : options.state_dir),
      events(now_ms()),
      operators(state_dir + "/operator.json"),
      config_history(state_dir + "/history"),
      watch(options.run_dir,
            [this](DataplaneWatch::Level level, const std::string& text) { log_event(events, level, text); }),
      loop_back(context),
      publish_timer(context),
      keep_host_timer(context),
      store_timer(context) {}

Service::Impl::~Impl() {
  if (health) {
    store_health();
    health->stop();
  }
}

void Service::Impl::start(const ConfigResult& loaded) {
  const Config& first = *loaded.config;
  started_ms = now_ms();
  events.add({.at_ms = started_ms, .kind = Event::Kind::control, .text = "portico-control has started"});
  // The run directory is ours from here on: a second instance ends here, before it touched anything.
  ensure_run_dir(options.run_dir);
  publisher = std::make_unique<Publisher>(options.run_dir);
  std::string failure;
  neighbours = Neighbours::open(failure);
  if (!neighbours) throw std::runtime_error(failure);
  guard = std::make_unique<Guard>(first.instance);
  addresses = std::make_unique<Addresses>(first.instance);
  own_side = make_own_side();
  health = std::make_unique<HealthMonitor>(
      io, [this](const std::string& pool, const std::string& backend) { on_health_change(pool, backend); },
      make_ears());
  // What an earlier control knew.
  recover();
  if (const auto error = operators.load()) storage_warning = *error;
  if (const auto error = config_history.load()) storage_warning = *error;
  if (!storage_warning.empty()) spdlog::warn("{}", storage_warning);
  // The configuration, on the host and in the table.
  if (const auto error = apply(first, loaded.effective, /*is_first=*/true)) throw std::runtime_error(*error);
  config_warnings = loaded.warnings();
  config_text = loaded.text;
  recover_version(effective);
  import_health();
  hold_back_first_table();
  publish();
  if (!publish_error.empty()) throw std::runtime_error(publish_error);
  start_loop();
}

// `done` and the pool's name, or why there is no such backend.
CommandResult Service::Impl::find_backend(const std::string& pool, const std::string& backend) const {
  using Kind = CommandResult::Kind;
  std::vector<const PoolConfig*> found;
  for (const auto& candidate : config.pools)
    for (const auto& b : candidate.backends)
      if (b.name == backend && (pool.empty() || candidate.name == pool)) found.push_back(&candidate);
  if (found.empty())
    return refused(Kind::unknown_backend,
                   "there is no backend `" + backend + "`" + (pool.empty() ? "" : " in pool `" + pool + "`"),
                   "`portico status` lists the backends");
  if (found.size() > 1)
    return refused(
        Kind::ambiguous,
        "backend `" + backend + "` is in pools `" + found[0]->name + "` and `" + found[1]->name + "`",
        "name the pool, too: POOL/BACKEND");
  return {.kind = Kind::done, .pool = found[0]->name, .text = {}, .remedy = {}, .waits_for = {}};
}

// Once an operator's wish is stored.
CommandResult Service::Impl::publish_command(const std::string& pool) {
  all_changed = true;
  publish();
  if (!publish_error.empty())
    return refused(CommandResult::Kind::failed, publish_error, "it is tried again every second");
  return {
      .kind = CommandResult::Kind::done, .pool = pool, .text = {}, .remedy = {}, .waits_for = waits_for()};
}

void Service::Impl::note_operation(const std::string& pool, const std::string& backend,
                                   const std::string& what, const std::string& who, const std::string& why) {
  events.add({.at_ms = now_ms(),
              .kind = Event::Kind::operation,
              .pool = pool,
              .backend = backend,
              .text = "backend " + pool + "/" + backend + " " + what,
              .who = who,
              .why = why});
}

CommandResult Service::Impl::set_admin(const std::string& pool, const std::string& backend, AdminEntry entry,
                                       bool force) {
  const CommandResult found = find_backend(pool, backend);
  if (found.kind != CommandResult::Kind::done) return found;
  if (entry.state != Admin::active && !force && takes_out_last(found.pool, backend))
    return refused_as_last(found.pool, backend);
  const std::string state = to_string(entry.state), who = entry.who, why = entry.why;
  if (auto error = operators.set({found.pool, backend}, std::move(entry))) return not_stored(*error);
  spdlog::info("backend {}/{} is {} by {}{}", found.pool, backend, state, who, why.empty() ? "" : ": " + why);
  note_operation(found.pool, backend, "was set " + state, who, why);
  return publish_command(found.pool);
}

CommandResult Service::Impl::set_weight(const std::string& pool, const std::string& backend,
                                        std::optional<uint32_t> weight, WeightEntry by, bool force) {
  const CommandResult found = find_backend(pool, backend);
  if (found.kind != CommandResult::Kind::done) return found;
  by.weight = weight.value_or(configured_weight(config, found.pool, backend));
  if (by.weight == 0 && !force && takes_out_last(found.pool, backend))
    return refused_as_last(found.pool, backend);
  const std::string what =
      weight ? "was given weight " + std::to_string(*weight) : "was given its configured weight";
  const std::string who = by.who, why = by.why;
  auto entry = weight ? std::optional(std::move(by)) : std::nullopt;
  if (auto error = operators.set_weight({found.pool, backend}, std::move(entry))) return not_stored(*error);
  spdlog::info("backend {}/{} {} by {}{}", found.pool, backend, what, who, why.empty() ? "" : ": " + why);
  note_operation(found.pool, backend, what, who, why);
  return publish_command(found.pool);
}

StatusView Service::Impl::view() const {
  StatusView view{.config = config,
                  .config_path = options.config_path,
                  .config_version = config_version,
                  .loaded_ms = loaded_ms,
                  .started_ms = started_ms,
                  .published = publisher->generation(),
                  .ids = ids,
                  .builder = builder,
                  .operators = operators,
                  .health = *health,
                  .watch = watch,
                  .passive = passive,
                  .isolation = isolation,
                  .isolation_since_ms = isolation_since_ms,
                  .waits_for = waits_for(),
                  .warnings = config_warnings};
  view.warnings.insert(view.warnings.end(), routing_warnings.begin(), routing_warnings.end());
  view.warnings.insert(view.warnings.end(), placement_warnings.begin(), placement_warnings.end());
  if (isolation.is_cut_off())
    view.warnings.push_back("this balancer is cut off, its table stays as it was: " + isolation.why());
  if (isolation.state() == Isolation::backends_down)
    view.warnings.push_back("no backend of any pool answers, and this balancer's own side is well");
  for (const auto& pool : config.pools)
    if (const auto why = own_side->why_deaf(pool.name, OwnSide::Clock::now()); !why.empty())
      view.warnings.push_back("pool " + pool.name +
                              " cannot be checked, its backends stay as they were: " + why);
  if (!view.waits_for.empty()) view.warnings.push_back(view.waits_for);
  for (const auto* text : {&storage_warning, &host_warning, &publish_error, &table_error})
    if (!text->empty()) view.warnings.push_back(*text);
  return view;
}

}  // namespace portico
