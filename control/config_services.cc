// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <set>

#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

using namespace std::chrono_literals;

void read_listen(ConfigReader& reader, const YamlNode& node, const std::string& path,
                 ServiceConfig& service) {
  for (const YamlNode* item : read_items(reader, node, path)) {
    const std::string item_path = fmt::format("{}/#{}", path, service.listen.size());
    std::string text, problem;
    if (!read_text(reader, *item, item_path, text)) continue;
    auto endpoint = parse_endpoint(text, std::nullopt, problem);
    if (endpoint && !parse_forwarded_address(to_string(endpoint->address), problem)) endpoint.reset();
    if (endpoint) {
      service.listen.push_back(*endpoint);
    } else {
      reader.error(item->mark, problem);
    }
  }
}

// Adds to `seen`, in which no prefix may be twice: it would be both allowed and denied.
void read_prefixes(ConfigReader& reader, const YamlNode& node, const std::string& path, std::string_view hint,
                   std::set<Prefix>& seen, std::vector<Prefix>& prefixes) {
  for (const YamlNode* item : read_items(reader, node, path)) {
    const std::string item_path = fmt::format("{}/#{}", path, prefixes.size());
    std::string text, problem;
    if (!read_text(reader, *item, item_path, text)) continue;
    const auto prefix = parse_prefix(text, problem);
    if (!prefix) {
      reader.error(item->mark, fmt::format("{}{}", problem, hint));
    } else if (!seen.insert(*prefix).second) {
      reader.error(item->mark, fmt::format("`{}` is listed twice; remove one of them", to_string(*prefix)));
    } else {
      prefixes.push_back(*prefix);
    }
  }
}

// `allow: any` or a list of prefixes, and `deny: none` or a list.
void read_access(ConfigReader& reader, MapFields& fields, const std::string& path, ServiceConfig& service) {
  std::set<Prefix> seen;
  const YamlNode* const allow = fields.find("allow");
  if (allow != nullptr && allow->kind == YamlNode::Kind::scalar && allow->text == "any") {
    reader.set_source(path + "/allow", {allow->mark, {}});
  } else if (allow != nullptr) {
    service.allow_any = false;
    read_prefixes(reader, *allow, path + "/allow", ", or `any`", seen, service.allow);
  }
  const YamlNode* const deny = fields.find("deny");
  if (deny != nullptr && deny->kind == YamlNode::Kind::scalar && deny->text == "none")
    reader.set_source(path + "/deny", {deny->mark, {}});
  else if (deny != nullptr)
    read_prefixes(reader, *deny, path + "/deny", ", or `none`", seen, service.deny);
}

void read_limits(ConfigReader& reader, const YamlNode& node, const std::string& path,
                 SourceLimitsConfig& limits) {
  MapFields fields(reader, node, path);
  fields.number_or("unlimited", "new_per_second", 1, kMaxSourceLimit, limits.new_per_second);
  fields.number_or("same", "burst", 1, kMaxSourceLimit, limits.burst);
  fields.number_or("unlimited", "connections", 1, kMaxSourceLimit, limits.connections);
  fields.number("prefix_v4", 1, 32, limits.prefix_v4);
  fields.number("prefix_v6", 1, 128, limits.prefix_v6);
  fields.finish();
  if (limits.burst != 0 && limits.new_per_second == 0)
    reader.error(reader.mark(path + "/burst"), "`burst` has no meaning without `new_per_second`; add it");
  if (limits.new_per_second == 0 && limits.connections == 0)
    reader.warning(node.mark, "`limits` limits nothing; write `new_per_second` or `connections`");
}

ServiceConfig read_service(ConfigReader& reader, const NamedNode& entry, const std::string& path) {
  ServiceConfig service;
  service.name = entry.name;
  MapFields fields(reader, *entry.value, path);
  if (const YamlNode* listen = fields.require("listen", entry.mark, "listen: 203.0.113.10:443")) {
    read_listen(reader, *listen, path + "/listen", service);
  }
  if (const YamlNode* pool = fields.require("pool", entry.mark, "pool: NAME")) {
    read_text(reader, *pool, path + "/pool", service.pool);
  }
  fields.choice("mode", kModeChoices, service.mode);
  fields.choice("proxy_protocol", kProxyProtocolChoices, service.proxy_protocol);
  fields.choice("affinity", kAffinityChoices, service.affinity);
  fields.number("affinity_prefix_v6", 1, 128, service.affinity_prefix_v6);
  fields.number_or("same", "backend_port", 1, 65535, service.backend_port);
  read_access(reader, fields, path, service);
  if (const YamlNode* limits = fields.find("limits"))
    read_limits(reader, *limits, path + "/limits", service.limits);
  fields.duration("idle_timeout", 1s, 24h * 30, service.idle_timeout);
  fields.finish();
  return service;
}

}  // namespace

void read_services(ConfigReader& reader, const YamlNode& node, Config& config) {
  for (const NamedNode& entry : named_entries(reader, node, "services")) {
    config.services.push_back(read_service(reader, entry, "services/" + entry.name));
  }
  size_t listeners = 0;
  for (const ServiceConfig& service : config.services) listeners += service.listen.size();
  if (config.services.size() > kMaxServices) {
    reader.error(node.mark,
                 fmt::format("{} services; at most {} are possible", config.services.size(), kMaxServices));
  }
  if (listeners > kMaxListeners) {
    reader.error(node.mark, fmt::format("{} listeners; at most {} are possible", listeners, kMaxListeners));
  }
}

}  // namespace portico
