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

std::vector<std::string> warnings_of(const ConfigResult& result) {
  std::vector<std::string> warnings;
  for (const auto& message : result.messages)
    if (!message.is_error) warnings.push_back(message.text);
  return warnings;
}

}  // namespace

Service::Service(boost::asio::io_context& io, ServiceOptions options)
    : impl_(std::make_unique<Impl>(io, std::move(options))) {}
Service::~Service() = default;

void Service::start(const ConfigResult& loaded) {
  impl_->start(loaded);
}
ReloadResult Service::reload(const std::string& who) {
  return impl_->reload(who);
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
      watch(options.run_dir,
            [this](DataplaneWatch::Level level, const std::string& text) { log_event(events, level, text); }),
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
  own_side = std::make_unique<OwnSide>(OwnSide::Kernel{
      .look = [this] { neighbours->look_at_links(); },
      .version = [this] { return neighbours->version(); },
      .device_to = [this](const Address& to) { return neighbours->device_to(to); },
      .is_up_since = [this](int device, auto since) { return neighbours->is_up_since(device, since); },
      .interface_of = [this](int device) { return neighbours->interface_of(device); }});
  health = std::make_unique<HealthMonitor>(
      io, [this](const std::string& pool, const std::string& backend) { on_health_change(pool, backend); },
      HealthMonitor::Ears{
          .why_unheard = [this](const std::string& pool, auto at) { return own_side->why_unheard(pool, at); },
          .note_answer = [this](const std::string& pool, auto at) { own_side->note_answer(pool, at); }});
  // What an earlier control knew.
  recover();
  if (const auto error = operators.load()) storage_warning = *error;
  if (!storage_warning.empty()) spdlog::warn("{}", storage_warning);
  // The configuration, on the host and in the table.
  if (const auto error = apply(first, loaded.effective, /*is_first=*/true)) throw std::runtime_error(*error);
  config_warnings = warnings_of(loaded);
  recover_version(effective);
  import_health();
  hold_back_first_table();
  publish();
  if (!publish_error.empty()) throw std::runtime_error(publish_error);
  start_loop();
}

ReloadResult Service::Impl::reload(const std::string& who) {
  ReloadResult result = read_and_apply();
  note_reload(result, who);
  return result;
}

void Service::Impl::note_reload(const ReloadResult& result, const std::string& who) {
  Event event{.at_ms = now_ms(), .kind = Event::Kind::configuration, .who = who};
  if (result.read.config) {
    event.text = "configuration " + std::to_string(config_version) + " was applied";
    event.why = result.waits_for;
    return events.add(std::move(event));
  }
  event.level = Event::Level::error;
  event.text = "a configuration was refused; nothing was changed";
  event.why = result.failure;
  for (const auto& message : result.read.messages)
    if (event.why.empty() && message.is_error)
      event.why = "line " + std::to_string(message.line) + ": " + message.text;
  events.add(std::move(event));
}

ReloadResult Service::Impl::read_and_apply() {
  ReloadResult result{load_config(options.config_path, /*check_system=*/true), {}, {}};
  if (!result.read.config) {
    spdlog::error("configuration not applied:\n{}", format_messages(result.read, options.config_path));
    return result;
  }
  const auto refuse = [&result](std::string text) {
    spdlog::error("configuration not applied: {}", text);
    result.failure = std::move(text);
    result.read.config.reset();
    return result;
  };
  if (result.read.config->instance != config.instance)
    return refuse("`instance` cannot change while control runs; restart it");
  const Config before = config;
  const std::string effective_before = effective;
  if (const auto error = apply(*result.read.config, result.read.effective)) return refuse(*error);
  ++config_version;
  const int64_t loaded_before = std::exchange(loaded_ms, now_ms());
  publish();
  if (!publish_error.empty()) {
    --config_version;
    loaded_ms = loaded_before;
    std::string text = publish_error;
    // Guard, addresses and checks follow the table that stays.
    if (const auto error = apply(before, effective_before)) text += "; and " + *error;
    return refuse(std::move(text));
  }
  config_warnings = warnings_of(result.read);
  result.waits_for = waits_for();
  spdlog::info("configuration {} applied{}{}", config_version, result.waits_for.empty() ? "" : "; ",
               result.waits_for);
  return result;
}

CommandResult Service::Impl::set_admin(const std::string& pool, const std::string& backend, AdminEntry entry,
                                       bool force) {
  using Kind = CommandResult::Kind;
  const auto failed = [](Kind kind, std::string text, std::string remedy) {
    return CommandResult{
        .kind = kind, .pool = {}, .text = std::move(text), .remedy = std::move(remedy), .waits_for = {}};
  };
  std::vector<const PoolConfig*> found;
  for (const auto& candidate : config.pools)
    for (const auto& b : candidate.backends)
      if (b.name == backend && (pool.empty() || candidate.name == pool)) found.push_back(&candidate);
  if (found.empty())
    return failed(Kind::unknown_backend,
                  "there is no backend `" + backend + "`" + (pool.empty() ? "" : " in pool `" + pool + "`"),
                  "`portico status` lists the backends");
  if (found.size() > 1)
    return failed(
        Kind::ambiguous,
        "backend `" + backend + "` is in pools `" + found[0]->name + "` and `" + found[1]->name + "`",
        "name the pool, too: POOL/BACKEND");
  const std::string& in = found[0]->name;
  if (entry.state != Admin::active && !force && takes_out_last(*found[0], backend))
    return failed(Kind::refused, "`" + backend + "` is the last usable backend of pool `" + in + "`",
                  "bring another one back first, or use --force");
  const std::string state = to_string(entry.state), who = entry.who, why = entry.why;
  if (auto error = operators.set({in, backend}, std::move(entry)))
    return failed(Kind::failed, *error, "nothing was changed; make room or mend permissions");
  spdlog::info("backend {}/{} is {} by {}{}", in, backend, state, who, why.empty() ? "" : ": " + why);
  events.add({.at_ms = now_ms(),
              .kind = Event::Kind::operation,
              .pool = in,
              .backend = backend,
              .text = "backend " + in + "/" + backend + " was set " + state,
              .who = who,
              .why = why});
  all_changed = true;
  publish();
  if (!publish_error.empty()) return failed(Kind::failed, publish_error, "it is tried again every second");
  return {.kind = Kind::done, .pool = in, .text = {}, .remedy = {}, .waits_for = waits_for()};
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
                  .warnings = config_warnings};
  view.warnings.insert(view.warnings.end(), routing_warnings.begin(), routing_warnings.end());
  view.warnings.insert(view.warnings.end(), placement_warnings.begin(), placement_warnings.end());
  for (const auto& pool : config.pools)
    if (const auto why = own_side->why_deaf(pool.name, OwnSide::Clock::now()); !why.empty())
      view.warnings.push_back("pool " + pool.name +
                              " cannot be checked, its backends stay as they were: " + why);
  if (auto text = waits_for(); !text.empty()) view.warnings.push_back(std::move(text));
  for (const auto* text : {&storage_warning, &host_warning, &publish_error, &table_error})
    if (!text->empty()) view.warnings.push_back(*text);
  return view;
}

}  // namespace portico
