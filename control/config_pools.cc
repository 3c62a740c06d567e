// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "contract/validate.h"
#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

using namespace std::chrono_literals;

constexpr uint16_t kMysqlPort = 3306;

// The keys that a check and a pool's `check` share.
void read_check_timing(MapFields& fields, CheckConfig& check) {
  fields.duration("interval", 10ms, 1h, check.interval);
  fields.duration("fast_interval", 10ms, 1h, check.fast_interval);
  fields.duration("timeout", 10ms, 1min, check.timeout);
  fields.number("fall", 1, 100, check.fall);
  fields.number("rise", 1, 100, check.rise);
  fields.text("credentials", check.credentials_file);
}

void settle_kind(ConfigReader& reader, const std::string& path, CheckConfig& check) {
  if (reader.source(path + "/kind") != nullptr || check.port == 0) return;
  check.kind = check.port == kMysqlPort ? CheckKind::mysql : CheckKind::tcp;
  reader.set_source(path + "/kind", {{}, fmt::format("implied by port {}", check.port)});
}

// One entry of `checks`: a port, or a map.
CheckConfig read_check(ConfigReader& reader, const NamedNode& entry, const std::string& pool_path,
                       const CheckConfig& defaults) {
  const std::string path = pool_path + "/checks/" + entry.name;
  CheckConfig check = defaults;
  check.name = entry.name;
  if (entry.value->kind == YamlNode::Kind::scalar) {
    uint64_t port = 0;
    if (read_number(reader, *entry.value, path + "/port", 1, 65535, port))
      check.port = static_cast<uint16_t>(port);
  } else {
    MapFields fields(reader, *entry.value, path);
    fields.choice("kind", kCheckKindChoices, check.kind);
    fields.require("port", entry.mark, "port: 443");
    fields.number("port", 1, 65535, check.port);
    fields.choice("proxy_protocol", kProxyProtocolChoices, check.proxy_protocol);
    read_check_timing(fields, check);
    fields.finish();
  }
  settle_kind(reader, path, check);
  settle_check(reader, path, pool_path + "/check", check);
  return check;
}

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
  fields.number("weight", 0, 1000, backend.weight);
  if (const YamlNode* check_address = fields.find("check_address")) {
    std::string text, problem;
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
void read_min_healthy(ConfigReader& reader, MapFields& fields, PoolConfig& pool) {
  const YamlNode* node = fields.find("min_healthy");
  if (node == nullptr) return;
  YamlNode number = *node;
  if (number.text.ends_with('%')) number.text.pop_back();
  uint64_t percent = 0;
  if (read_number(reader, number, fields.path_of("min_healthy"), 0, 100, percent))
    pool.min_healthy_percent = static_cast<uint32_t>(percent);
}

void read_table_size(ConfigReader& reader, MapFields& fields, PoolConfig& pool) {
  if (!fields.number("table_size", kMinLookupSize, kMaxLookupSize, pool.table_size)) return;
  if (is_prime(pool.table_size)) return;
  uint32_t next = pool.table_size;
  while (!is_prime(next) && next < kMaxLookupSize) ++next;
  reader.error(reader.mark(fields.path_of("table_size")),
               fmt::format("`table_size` is {}, which is not prime; write {}", pool.table_size, next));
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
    read_check_timing(check, defaults);
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
  read_min_healthy(reader, fields, pool);
  read_table_size(reader, fields, pool);
  fields.duration("reset_after", 0s, 24h, pool.reset_after);
  fields.finish();
  draft.config.pools.push_back(std::move(pool));
}

}  // namespace

bool uses_port(const ServiceConfig& service, uint16_t port) {
  if (service.backend_port != 0) return service.backend_port == port;
  return std::ranges::count(service.listen, port, &Endpoint::port) > 0;
}

void settle_check(ConfigReader& reader, const std::string& path, const std::string& defaults_path,
                  CheckConfig& check) {
  const auto take_over = [&](const std::string& key) {
    const Source* source = reader.source(defaults_path + key);
    if (reader.source(path + key) == nullptr && source != nullptr)
      reader.set_source(path + key, {source->mark, "check"});
  };
  for (const char* key : {"/interval", "/fast_interval", "/timeout", "/fall", "/rise"}) take_over(key);
  if (check.kind == CheckKind::mysql) {
    take_over("/credentials");
  } else if (reader.source(path + "/credentials") != nullptr) {
    reader.error(reader.mark(path + "/credentials"),
                 "`credentials` are for mysql checks; remove them or write "
                 "`kind: mysql`");
  } else {
    check.credentials_file.clear();
  }
  if (check.fast_interval <= check.interval) return;
  if (reader.source(path + "/fast_interval") == nullptr) {
    check.fast_interval = check.interval;
    reader.set_source(path + "/fast_interval", {{}, "default, no longer than interval"});
    return;
  }
  reader.error(reader.mark(path + "/fast_interval"),
               fmt::format("`fast_interval` {} is longer than the check's `interval` {}; make it shorter",
                           format_duration(check.fast_interval), format_duration(check.interval)));
}

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

// A server that is told clients' addresses on a port drops connections that do not begin with a header.
void settle_proxy_protocol(ConfigReader& reader, ConfigDraft& draft) {
  for (PoolConfig& pool : draft.config.pools) {
    for (CheckConfig& check : pool.checks) {
      const std::string path = fmt::format("pools/{}/checks/{}/proxy_protocol", pool.name, check.name);
      if (reader.source(path) != nullptr) continue;
      const auto service = std::ranges::find_if(draft.config.services, [&](const ServiceConfig& s) {
        return s.pool == pool.name && s.proxy_protocol != ProxyProtocol::none && uses_port(s, check.port);
      });
      if (service == draft.config.services.end()) continue;
      check.proxy_protocol = service->proxy_protocol;
      reader.set_source(path, {{}, "implied by service " + service->name});
    }
  }
}

void add_implied_checks(ConfigReader& reader, ConfigDraft& draft) {
  for (PoolConfig& pool : draft.config.pools) {
    const std::string path = "pools/" + pool.name;
    if (reader.source(path + "/checks") != nullptr) continue;
    const auto add = [&](uint16_t port, const std::string& service) {
      if (std::ranges::count(pool.checks, port, &CheckConfig::port) > 0) return;
      CheckConfig check = draft.check_defaults[pool.name];
      check.port = port;
      check.name = fmt::format("{}-{}", port == kMysqlPort ? "mysql" : "tcp", port);
      const std::string check_path = path + "/checks/" + check.name;
      reader.set_source(check_path, {{}, "implied by service " + service});
      reader.set_source(check_path + "/port", {{}, "implied by service " + service});
      settle_kind(reader, check_path, check);
      settle_check(reader, check_path, path + "/check", check);
      pool.checks.push_back(std::move(check));
    };
    for (const ServiceConfig& service : draft.config.services) {
      if (service.pool != pool.name) continue;
      for (const Endpoint& listen : service.listen) {
        add(service.backend_port != 0 ? service.backend_port : listen.port, service.name);
      }
    }
  }
}

}  // namespace portico
