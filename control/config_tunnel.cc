// SPDX-License-Identifier: Apache-2.0
// `tunnel`: what services in tunnels need, and whether it is the balancer's to use.
#include <fmt/format.h>

#include <algorithm>

#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

int family_number(Family family) {
  return static_cast<int>(family);
}

bool overlap(const Prefix& a, const Prefix& b) {
  return a.address.family() == b.address.family() && (a.contains(b.address) || b.contains(a.address));
}

// What no packet that is forwarded comes from (IANA's special-purpose registries).
const char* reason_against(const Prefix& prefix) {
  static const std::pair<Prefix, const char*> kForeign[] = {
      {*Prefix::parse("0.0.0.0/8"), "the unspecified address or \"this network\""},
      {*Prefix::parse("127.0.0.0/8"), "loopback addresses"},
      {*Prefix::parse("169.254.0.0/16"), "link-local addresses"},
      {*Prefix::parse("224.0.0.0/3"), "multicast or reserved addresses"},
      {*Prefix::parse("::/8"), "unspecified, loopback or embedded IPv4 addresses"},
      {*Prefix::parse("fe80::/10"), "link-local addresses"},
      {*Prefix::parse("ff00::/8"), "multicast addresses"}};
  for (const auto& [foreign, what] : kForeign)
    if (overlap(prefix, foreign)) return what;
  return nullptr;
}

void read_source(ConfigReader& reader, const YamlNode& item, const std::string& text, TunnelConfig& tunnel) {
  std::string problem;
  const auto prefix = parse_prefix(text, problem);
  if (!prefix) return reader.error(item.mark, problem);
  if (const char* const what = reason_against(*prefix)) {
    return reader.error(
        item.mark, fmt::format("`{}` has {}, which no host answers from; write a prefix that is routed to "
                               "this balancer",
                               to_string(*prefix), what));
  }
  auto& place = prefix->address.is_v4() ? tunnel.v4 : tunnel.v6;
  if (place) {
    return reader.error(item.mark, fmt::format("a second IPv{} prefix; one of each family is possible",
                                               family_number(prefix->address.family())));
  }
  place = *prefix;
  reader.set_source(prefix->address.is_v4() ? "tunnel/sources/v4" : "tunnel/sources/v6", {item.mark, {}});
}

std::string source_path(const Prefix& source) {
  return source.address.is_v4() ? "tunnel/sources/v4" : "tunnel/sources/v6";
}

// A packet that comes from an address of ours, or from the backend's own, is a forgery to who gets it.
void check_apart(ConfigReader& reader, const Config& config, const Prefix& source) {
  const auto complain = [&](const Address& address, const std::string& whose) {
    if (!source.contains(address)) return;
    reader.error(reader.mark(source_path(source)),
                 fmt::format("{} has {}, {}; the sources of tunnels must be nobody else's", to_string(source),
                             to_string(address), whose));
  };
  for (const ServiceConfig& service : config.services)
    for (const Endpoint& listen : service.listen)
      complain(listen.address, fmt::format("a listener of service `{}`", service.name));
  for (const Address& address : config.nat.addresses) complain(address, "a NAT address");
  for (const PoolConfig& pool : config.pools)
    for (const BackendConfig& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address) complain(*address, fmt::format("the address of backend `{}`", backend.name));
}

// Each backend of a service in tunnels needs an address of a family that has sources.
void check_reach(ConfigReader& reader, const Config& config, const ServiceConfig& service) {
  const auto pool = std::ranges::find(config.pools, service.pool, &PoolConfig::name);
  if (pool == config.pools.end()) return;
  for (const BackendConfig& backend : pool->backends) {
    const bool unread = !backend.v4 && !backend.v6;
    if (unread || outer_family(config.tunnel, backend, Family::v4)) continue;
    reader.error(
        reader.mark(fmt::format("pools/{}/backends/{}", pool->name, backend.name)),
        fmt::format("backend `{}` has no IPv{} address, but the tunnels of service `{}` have sources of that "
                    "family only; add a prefix to `tunnel: sources`, or an address to the backend",
                    backend.name, backend.v4 ? 6 : 4, service.name));
  }
}

}  // namespace

std::optional<Family> outer_family(const TunnelConfig& tunnel, const BackendConfig& backend, Family inner) {
  return outer_family(inner, backend.v4 && tunnel.v4, backend.v6 && tunnel.v6);
}

void read_tunnel(ConfigReader& reader, const YamlNode& node, TunnelConfig& tunnel) {
  MapFields fields(reader, node, "tunnel");
  if (const YamlNode* sources = fields.require("sources", node.mark, "sources: [198.51.100.0/26]")) {
    const std::string path = fields.path_of("sources");
    for (const YamlNode* item : read_items(reader, *sources, path)) {
      std::string text;
      if (read_text(reader, *item, path + "/#0", text)) read_source(reader, *item, text, tunnel);
    }
  }
  fields.number("gue_port", 1, 65535, tunnel.gue_port);
  fields.finish();
}

void check_tunnel(ConfigReader& reader, const Config& config) {
  for (const auto& source : {config.tunnel.v4, config.tunnel.v6})
    if (source) check_apart(reader, config, *source);
  const bool is_there = reader.source("tunnel") != nullptr;
  const bool has_sources = config.tunnel.v4 || config.tunnel.v6;
  bool is_used = false;
  for (const ServiceConfig& service : config.services) {
    if (!is_tunnel(service.mode)) continue;
    is_used = true;
    if (has_sources)
      check_reach(reader, config, service);
    else if (!is_there)
      reader.error(
          reader.mark("services/" + service.name + "/mode"),
          fmt::format("mode {} needs outer source addresses of the balancer's own; add `tunnel: {{sources: "
                      "[198.51.100.0/26]}}` with a prefix that is routed here",
                      to_word(service.mode)));
  }
  if (!is_used && is_there && !config.services.empty())
    reader.warning(reader.mark("tunnel"), "no service uses mode dsr-ipip or dsr-gue; `tunnel` has no effect");
}

}  // namespace portico
