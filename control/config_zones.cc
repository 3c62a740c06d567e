// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "control/config_sections.h"

namespace portico {
namespace {

std::string path_of(const PoolConfig& pool, const BackendConfig& backend) {
  return "pools/" + pool.name + "/backends/" + backend.name;
}

void check_backups(ConfigReader& reader, const PoolConfig& pool) {
  const auto is_backup = [](const BackendConfig& b) { return b.backup; };
  if (!pool.backends.empty() && std::ranges::all_of(pool.backends, is_backup))
    reader.error(
        reader.mark(path_of(pool, pool.backends.front()) + "/backup"),
        fmt::format("every backend of pool `{}` is a backup; remove `backup` from those that are to be "
                    "used first",
                    pool.name));
  const std::string path = "pools/" + pool.name + "/backup_below";
  if (reader.source(path) != nullptr && std::ranges::none_of(pool.backends, is_backup))
    reader.error(reader.mark(path),
                 fmt::format("no backend of pool `{}` is a backup: remove `backup_below`, or "
                             "give one `backup: true`",
                             pool.name));
}

}  // namespace

void check_zones(ConfigReader& reader, const Config& config) {
  bool is_used = false;
  for (const PoolConfig& pool : config.pools) {
    check_backups(reader, pool);
    const auto has_zone = [](const BackendConfig& b) { return !b.zone.empty(); };
    const auto first = std::ranges::find_if(pool.backends, has_zone);
    if (first == pool.backends.end()) {
      for (const char* key : {"spill_below", "spill_hold"})
        if (const std::string path = "pools/" + pool.name + "/" + key; reader.source(path) != nullptr)
          reader.error(reader.mark(path),
                       fmt::format("no backend of pool `{}` has a `zone`; remove `{}`", pool.name, key));
      continue;
    }
    is_used = true;
    for (const BackendConfig& backend : pool.backends)
      if (!has_zone(backend))
        reader.error(reader.mark(path_of(pool, backend)),
                     fmt::format("backend `{}` has no `zone`, but `{}` has; give all of a pool one, or none",
                                 backend.name, first->name));
    if (config.zone.empty())
      reader.warning(reader.mark(path_of(pool, *first) + "/zone"),
                     fmt::format("the backends of pool `{}` have zones, but this balancer has none: all are "
                                 "used alike; write `zone: {}` at the top, for example",
                                 pool.name, first->zone));
    else if (std::ranges::none_of(pool.backends,
                                  [&](const BackendConfig& b) { return b.zone == config.zone; }))
      reader.warning(reader.mark("zone"),
                     fmt::format("pool `{}` has no backend in this balancer's zone `{}`: all are used alike",
                                 pool.name, config.zone));
  }
  if (!config.zone.empty() && !is_used)
    reader.warning(reader.mark("zone"), "no backend has a `zone`: this balancer's own means nothing");
}

}  // namespace portico
