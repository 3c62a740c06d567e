// SPDX-License-Identifier: Apache-2.0
// Configurations: read beside the loop, applied, kept, and thought of.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "control/service_impl.h"

namespace portico {
namespace {

// The backend that "POOL/BACKEND" or "BACKEND" names, in a configuration that may be changed.
struct Named {
  PoolConfig* pool = nullptr;
  BackendConfig* backend = nullptr;
  std::string problem;
};

Named find_named(Config& config, const std::string& name) {
  const size_t slash = name.find('/');
  Named found;
  for (PoolConfig& pool : config.pools)
    for (BackendConfig& backend : pool.backends) {
      const bool is_it =
          slash == std::string::npos ? backend.name == name : pool.name + "/" + backend.name == name;
      if (!is_it) continue;
      if (found.backend != nullptr)
        return {nullptr, nullptr, "`" + name + "` is in several pools; write POOL/BACKEND"};
      found = {&pool, &backend, {}};
    }
  if (found.backend == nullptr) found.problem = "there is no backend `" + name + "`";
  return found;
}

}  // namespace

// A large file takes a second to read: heartbeats, checks and the API go on meanwhile.
void Service::Impl::read_apart(std::function<ConfigResult()> read, std::function<void(ConfigResult)> done) {
  boost::asio::post(reader, [this, read = std::move(read), done = std::move(done)]() mutable {
    auto result = std::make_shared<ConfigResult>(read());
    boost::asio::post(io, [result, done = std::move(done)] { done(std::move(*result)); });
  });
}

void Service::Impl::reload(ReloadOrder order, ReloadDone done) {
  reloads.emplace_back(std::move(order), std::move(done));
  if (reloads.size() == 1) next_reload();
}

void Service::Impl::next_reload() {
  const ReloadOrder& order = reloads.front().first;
  const auto finish = [this](const ReloadResult& result) {
    note_reload(result, reloads.front().first.who);
    const ReloadDone done = std::move(reloads.front().second);
    reloads.pop_front();
    done(result);
    if (!reloads.empty()) next_reload();
  };
  std::string text;
  if (const auto error = kept_text(order, text)) return finish({{}, *error, {}});
  const std::string path = options.config_path;
  const auto read = [path, text, from_history = order.version.has_value()] {
    return from_history ? read_config(text, path) : load_config(path, /*check_system=*/true);
  };
  read_apart(read, [this, finish](ConfigResult result) {
    finish(apply_read(std::move(result), reloads.front().first));
  });
}

// The text of a configuration that was kept, if that is what is ordered; or why it cannot be had.
std::optional<std::string> Service::Impl::kept_text(const ReloadOrder& order, std::string& text) const {
  if (!order.version) return std::nullopt;
  auto kept = config_history.text(*order.version);
  if (!kept)
    return fmt::format("configuration {} is not kept; `portico history` lists those that are",
                       *order.version);
  text = std::move(*kept);
  return std::nullopt;
}

void Service::Impl::note_reload(const ReloadResult& result, const std::string& who) {
  Event event{.at_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
              .kind = Event::Kind::configuration,
              .who = who};
  if (result.read.config) {
    event.text = fmt::format("configuration {} was applied", config_version);
    event.why = result.waits_for;
    return events.add(std::move(event));
  }
  event.level = Event::Level::error;
  event.text = "a configuration was refused; nothing was changed";
  event.why = result.failure;
  for (const auto& message : result.read.messages)
    if (event.why.empty() && message.is_error)
      event.why = fmt::format("line {}: {}", message.line, message.text);
  events.add(std::move(event));
}

ReloadResult Service::Impl::apply_read(ConfigResult read, const ReloadOrder& order) {
  ReloadResult result{std::move(read), {}, {}};
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
  if (order.most_broken) {
    std::string failure;
    const auto plan = plan_of(*result.read.config, operators, failure);
    if (!plan) return refuse(std::move(failure));
    if (plan->most_broken > *order.most_broken)
      return refuse(
          fmt::format("it breaks up to {} live connections, more than {}; `portico plan` says which",
                      plan->most_broken, *order.most_broken));
  }
  const Config before = config;
  const std::string effective_before = effective;
  if (const auto error = apply(*result.read.config, result.read.effective)) return refuse(*error);
  ++config_version;
  const int64_t loaded_before = std::exchange(loaded_ms, static_cast<int64_t>(realtime_ns() / 1'000'000));
  const std::string text_before = std::exchange(config_text, std::move(result.read.text));
  applied_by = order.who;
  applied_note = order.version ? fmt::format("rollback to {}", *order.version) : "";
  publish();
  if (!publish_error.empty()) {
    --config_version;
    loaded_ms = loaded_before;
    config_text = text_before;
    std::string text = publish_error;
    // Guard, addresses and checks follow the table that stays.
    if (const auto error = apply(before, effective_before)) text += "; and " + *error;
    return refuse(std::move(text));
  }
  config_warnings = result.read.warnings();
  result.waits_for = waits_for();
  spdlog::info("configuration {} applied{}{}", config_version, result.waits_for.empty() ? "" : "; ",
               result.waits_for);
  return result;
}

std::optional<Plan> Service::Impl::plan_of(const Config& next, const OperatorState& with,
                                           std::string& failure) const {
  Ids next_ids = ids;
  if (auto error = next_ids.sync(next)) {
    failure = std::move(*error);
    return std::nullopt;
  }
  Builder next_builder = builder;
  Config steady = next;  // when slow starts are over, and zones that have recovered are trusted
  for (PoolConfig& pool : steady.pools) pool.slow_start = pool.spill_hold = Milliseconds{0};
  std::vector<std::string> assumed;
  // A backend that nobody has checked yet will be up, it is to be hoped: that is what is planned for.
  const auto health_of = [&](const std::string& pool, const std::string& backend) {
    BackendView view = backend_view(pool, backend, nullptr);
    if (view.known) return view;
    assumed.push_back(pool + "/" + backend);
    view.known = view.healthy = true;
    return view;
  };
  next_builder.build({.config = steady,
                      .ids = next_ids,
                      .operators = with,
                      .routing = routing,
                      .health = health_of,
                      .config_version = config_version,
                      .now_ns = monotonic_ns(),
                      .changed_pools = nullptr,
                      .now_realtime_ms = static_cast<int64_t>(realtime_ns() / 1'000'000),
                      .is_cut_off = isolation.keeps_table(),
                      .is_returning = isolation.is_returning()});
  Plan plan = make_plan({config, ids, builder}, {next, next_ids, next_builder}, watch.settled());
  plan.assumed_up = std::move(assumed);
  return plan;
}

void Service::Impl::plan(std::string text, std::function<void(PlanResult)> done) {
  const std::string path = options.config_path;
  const auto read_text = [path, text = std::move(text)] { return read_config(text, path); };
  read_apart(read_text, [this, done = std::move(done)](ConfigResult read) {
    PlanResult result{std::move(read), {}, {}};
    if (result.read.config) result.plan = plan_of(*result.read.config, operators, result.failure);
    done(std::move(result));
  });
}

PlanResult Service::Impl::what_if(const WhatIf& changes) const {
  PlanResult result;
  Config next = config;
  OperatorState with = operators;
  for (const auto& [name, weight] : changes.weights) {
    const Named named = find_named(next, name);
    if (named.backend == nullptr) return {{}, named.problem, {}};
    named.backend->weight = weight;
    with.forget_weight({named.pool->name, named.backend->name});
  }
  for (const std::string& name : changes.remove) {
    const Named named = find_named(next, name);
    if (named.backend == nullptr) return {{}, named.problem, {}};
    named.pool->backends.erase(named.pool->backends.begin() + (named.backend - named.pool->backends.data()));
  }
  for (const PoolConfig& pool : next.pools)
    if (pool.backends.empty()) return {{}, "pool `" + pool.name + "` would have no backend", {}};
  result.plan = plan_of(next, with, result.failure);
  return result;
}

}  // namespace portico
