// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "contract/limits.h"
#include "contract/validate.h"
#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

using namespace std::chrono_literals;

// One or two addresses, not two of a family.
void read_addresses(ConfigReader& reader, const YamlNode& node, const std::string& path,
                    BackendConfig& backend) {
  bool good = true;
  for (const YamlNode* item : read_items(reader, node, path)) {
    std::string text, problem;
    good = good && read_text(reader, *item, path + "/#0", text);
    const auto address = good ? parse_forwarded_address(text, problem) : std::nullopt;
    if (!problem.empty()) reader.error(item->mark, problem);
    good = good && address.has_value();
    if (!good) break;
    auto& place = address->is_v4() ? backend.v4 : backend.v6;
    reader.set_source(path + (address->is_v4() ? "/v4" : "/v6"), {item->mark, {}});
    if (place) {
      reader.error(item->mark,
                   fmt::format("a second IPv{} address of one backend; remove it, or make it a backend of "
                               "its own",
                               address->is_v4() ? 4 : 6));
    }
    place = address;
  }
  // A backend of which one address is wrong has none, so that no second message is about the missing one.
  if (!good) backend.v4 = backend.v6 = std::nullopt;
}

void read_check_addresses(ConfigReader& reader, const YamlNode& node, const std::string& path,
                          BackendConfig& backend) {
  for (const NamedNode& entry : named_entries(reader, node, path)) {
    std::string text, problem;
    if (!read_text(reader, *entry.value, path + "/" + entry.name, text)) continue;
    if (const auto endpoint = parse_endpoint(text, 0, problem)) {
      backend.check_addresses[entry.name] = *endpoint;
    } else {
      reader.error(entry.value->mark, problem);
    }
  }
}

void read_backend_map(ConfigReader& reader, const NamedNode& entry, const std::string& path,
                      BackendConfig& backend) {
  MapFields fields(reader, *entry.value, path);
  const YamlNode* address = fields.find("address");
  const YamlNode* addresses = fields.find("addresses");
  if (address != nullptr && addresses != nullptr) {
    reader.error(*fields.key_mark("addresses"), "both `address` and `addresses` are given; keep `addresses`");
  } else if (address == nullptr && addresses == nullptr) {
    fields.require("address", entry.mark, "address: 192.0.2.21");
  } else {
    read_addresses(reader, address != nullptr ? *address : *addresses, path + "/addresses", backend);
  }
  fields.number("weight", 0, kMaxWeight, backend.weight);
  std::string problem;
  if (fields.text("zone", backend.zone) && !is_good_name(backend.zone, problem))
    reader.error(reader.mark(path + "/zone"), problem);
  fields.choice("backup", kBoolChoices, backend.backup);
  if (const YamlNode* check_address = fields.find("check_address")) {
    std::string text;
    if (read_text(reader, *check_address, path + "/check_address", text)) {
      backend.check_address = parse_host_address(text, problem);
      if (!backend.check_address) reader.error(check_address->mark, problem);
    }
  }
  if (const YamlNode* node = fields.find("check_addresses")) {
    read_check_addresses(reader, *node, path + "/check_addresses", backend);
  }
  fields.finish();
}

void read_backends(ConfigReader& reader, const YamlNode& node, const std::string& path, PoolConfig& pool) {
  for (const NamedNode& entry : named_entries(reader, node, path)) {
    const std::string backend_path = path + "/" + entry.name;
    BackendConfig backend;
    backend.name = entry.name;
    if (entry.value->kind == YamlNode::Kind::map) {
      read_backend_map(reader, entry, backend_path, backend);
    } else {
      read_addresses(reader, *entry.value, backend_path + "/addresses", backend);
    }
    pool.backends.push_back(std::move(backend));
  }
}

// "50%" or "50"
void read_percent(ConfigReader& reader, MapFields& fields, std::string_view key, uint32_t& out) {
  const YamlNode* node = fields.find(key);
  if (node == nullptr) return;
  YamlNode number = *node;
  if (number.text.ends_with('%')) number.text.pop_back();
  uint64_t percent = 0;
  if (read_number(reader, number, fields.path_of(key), 0, 100, percent)) out = static_cast<uint32_t>(percent);
}

void read_table_size(ConfigReader& reader, MapFields& fields, PoolConfig& pool) {
  if (!fields.number("table_size", kMinLookupSize, kMaxLookupSize, pool.table_size)) return;
  if (is_prime(pool.table_size)) return;
  uint32_t next = pool.table_size;
  while (!is_prime(next) && next < kMaxLookupSize) ++next;
  reader.error(reader.mark(fields.path_of("table_size")),
               fmt::format("`table_size` is {}, which is not prime; write {}", pool.table_size, next));
}

// Lists of names of the pool's own backends.
void read_earlier_sets(ConfigReader& reader, const YamlNode& node, const std::string& path,
                       PoolConfig& pool) {
  reader.set_source(path, {node.mark, {}});
  for (const YamlNode* set : read_items(reader, node, path)) {
    std::vector<std::string>& names = pool.earlier_sets.emplace_back();
    for (const YamlNode* item : read_items(reader, *set, path)) {
      std::string name;
      if (!read_text(reader, *item, path + "/#0", name)) continue;
      if (std::ranges::find(pool.backends, name, &BackendConfig::name) == pool.backends.end())
        reader.error(item->mark,
                     fmt::format("pool `{}` has no backend `{}`; keep it under `backends`, with `weight: 0`, "
                                 "until its connections are over, or leave it out here",
                                 pool.name, name));
      names.push_back(name);
    }
  }
  if (pool.earlier_sets.size() >= kMaxFallbackColumns)
    reader.error(node.mark, fmt::format("{} earlier sets; at most {} are possible: remove the last ones",
                                        pool.earlier_sets.size(), kMaxFallbackColumns - 1));
}

void read_pool(ConfigReader& reader, const NamedNode& entry, ConfigDraft& draft) {
  const std::string path = "pools/" + entry.name;
  PoolConfig pool;
  pool.name = entry.name;
  MapFields fields(reader, *entry.value, path);
  if (const YamlNode* node = fields.require("backends", entry.mark, "backends: {NAME: ADDRESS}")) {
    read_backends(reader, *node, path + "/backends", pool);
  }
  CheckConfig& defaults = draft.check_defaults[pool.name];
  if (const YamlNode* node = fields.find("check")) {
    MapFields check(reader, *node, path + "/check");
    read_check_timing(reader, check, defaults);
    check.finish();
  }
  if (const YamlNode* node = fields.find("checks")) {
    reader.set_source(path + "/checks", {node->mark, {}});
    for (const NamedNode& check : named_entries(reader, *node, path + "/checks")) {
      pool.checks.push_back(read_check(reader, check, path, defaults));
    }
  }
  fields.choice("all_down", kAllDownChoices, pool.all_down);
  fields.choice("on_backend_down", kOnBackendDownChoices, pool.on_backend_down);
  read_percent(reader, fields, "min_healthy", pool.min_healthy_percent);
  read_percent(reader, fields, "spill_below", pool.spill_below_percent);
  fields.duration("spill_hold", 0s, 1h, pool.spill_hold);
  read_percent(reader, fields, "backup_below", pool.backup_below_percent);
  read_table_size(reader, fields, pool);
  fields.choice("second_chance", kBoolChoices, pool.second_chance);
  if (const YamlNode* sets = fields.find("earlier_sets"))
    read_earlier_sets(reader, *sets, path + "/earlier_sets", pool);
  fields.duration("reset_after", 0s, 24h, pool.reset_after);
  fields.duration("slow_start", 0s, 1h, pool.slow_start);
  fields.number_or("off", "flap_limit", 2, 100, pool.flap_limit);
  fields.duration("flap_half_life", 1s, 24h, pool.flap_half_life);
  fields.choice("passive", kPassiveChoices, pool.passive_probe);
  fields.finish();
  draft.config.pools.push_back(std::move(pool));
}

}  // namespace

void read_pools(ConfigReader& reader, const YamlNode& node, ConfigDraft& draft) {
  for (const NamedNode& entry : named_entries(reader, node, "pools")) read_pool(reader, entry, draft);
  size_t backends = 0;
  for (const PoolConfig& pool : draft.config.pools) backends += pool.backends.size();
  if (draft.config.pools.size() > kMaxPools) {
    reader.error(node.mark,
                 fmt::format("{} pools; at most {} are possible", draft.config.pools.size(), kMaxPools));
  }
  if (backends > kMaxBackends) {
    reader.error(node.mark, fmt::format("{} backends; at most {} are possible", backends, kMaxBackends));
  }
}

}  // namespace portico
