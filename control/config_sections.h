// SPDX-License-Identifier: Apache-2.0
// The passes that turn a YAML tree into a checked Config. All complaints go to the reader; what could not be
// read keeps its default, so that later passes can go on.
#pragma once

#include <map>
#include <string>

#include "control/config_reader.h"

namespace portico {

// What the passes hand to each other: the configuration so far, and the `check` defaults of each pool by its
// name.
struct ConfigDraft {
  Config config;
  std::map<std::string, CheckConfig> check_defaults;
};

// The keys under `dataplane`, `nat` and `tunnel`.
void read_dataplane(ConfigReader& reader, const YamlNode& node, DataplaneConfig& dataplane);
void read_nat(ConfigReader& reader, const YamlNode& node, NatConfig& nat);
void read_tunnel(ConfigReader& reader, const YamlNode& node, TunnelConfig& tunnel);

// The maps under `services` and `pools`.
void read_services(ConfigReader& reader, const YamlNode& node, Config& config);
void read_pools(ConfigReader& reader, const YamlNode& node, ConfigDraft& draft);

// The keys that a check and a pool's `check` share.
void read_check_timing(ConfigReader& reader, MapFields& fields, CheckConfig& check);
// One entry of `checks`: a port, or a map.
CheckConfig read_check(ConfigReader& reader, const NamedNode& entry, const std::string& pool_path,
                       const CheckConfig& defaults);

// Gives every pool without `checks` one check per backend port of its services.
void add_implied_checks(ConfigReader& reader, ConfigDraft& draft);

// Whether the service reaches its backends on this port of theirs.
bool uses_port(const ServiceConfig& service, uint16_t port);

// Gives checks of ports that services of their pool reach with the PROXY protocol the same, unless they say
// otherwise. After add_implied_checks().
void settle_proxy_protocol(ConfigReader& reader, ConfigDraft& draft);

// Finishes a check whose own keys have been read: values that it takes over from `check` of its pool, the
// fast interval that follows the interval, and the relations between them. `path` is the check's.
void settle_check(ConfigReader& reader, const std::string& path, const std::string& defaults_path,
                  CheckConfig& check);

// What one section says about another: families, addresses, references, limits.
void cross_check(ConfigReader& reader, const ConfigDraft& draft);
// The part of it that is about `tunnel`: sources are apart from all other addresses, and there where services
// need them.
void check_tunnel(ConfigReader& reader, const Config& config);
// The part of it that is about mode dnat: how many backends, and that their replies tell listeners apart.
void check_dnat(ConfigReader& reader, const Config& config);

// The part of it that is about zones and backups.
void check_zones(ConfigReader& reader, const Config& config);

// What depends on this host: interfaces, CPUs, credentials files (which are read into the checks). A
// relative file name counts from `directory`.
void check_host(ConfigReader& reader, const std::string& directory, Config& config);

// The whole configuration as YAML, each value with its source.
std::string effective_yaml(const ConfigReader& reader, const Config& config, const std::string& file_name);

}  // namespace portico
