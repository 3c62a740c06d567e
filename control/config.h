// SPDX-License-Identifier: Apache-2.0
// A configuration as people wrote it, with every default filled in. Pure data: what the YAML file says,
// checked.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "contract/address.h"
#include "contract/layout.h"

namespace portico {

using Milliseconds = std::chrono::milliseconds;

enum class VipAddress : uint8_t { managed, external };
enum class OnBackendDown : uint8_t { automatic, reset, keep };
enum class AllDown : uint8_t { keep_last, reset, drop };
enum class CheckKind : uint8_t { tcp, mysql, http, https, tls };
enum class HttpMethod : uint8_t { get, head, options };

struct Endpoint {
  Address address;
  uint16_t port = 0;

  auto operator<=>(const Endpoint&) const = default;
};

// Status codes of HTTP, both ends included, 100..599.
struct StatusRange {
  uint16_t first = 0, last = 0;

  bool operator==(const StatusRange&) const = default;
};

// What a check says to the server and expects of its answer.
struct DialogueConfig {
  std::string send;  // tcp; empty: nothing
  std::string
      pattern;  // RE2 syntax; tcp: of the first 4 KiB, http and https: of the first 64 KiB of the body
  HttpMethod method = HttpMethod::get;
  std::string path = "/";
  std::string host;  // empty: the target's address
  std::vector<StatusRange> status = success();

  static std::vector<StatusRange> success() { return {{200, 399}}; }

  bool operator==(const DialogueConfig&) const = default;
};

// TLS of a check of kind https or tls.
struct TlsConfig {
  bool verify = true;              // the chain and the name; never empty `sni` then
  std::string sni;                 // the name asked for and compared; empty: none
  std::string ca_file;             // empty: the system's
  std::string ca_pem;              // what is in it
  uint32_t certificate_days = 14;  // a warning when fewer are left; 0: none

  bool operator==(const TlsConfig&) const = default;
};

// One check of every backend of a pool. A backend is healthy when all of its pool's checks pass.
struct CheckConfig {
  std::string name;
  CheckKind kind = CheckKind::tcp;
  uint16_t port = 0;                // on the backend
  Milliseconds interval{2000};      // between probes while the state is settled
  Milliseconds fast_interval{200};  // between probes while it is changing
  Milliseconds timeout{1000};       // of one probe, connect and answer together
  uint32_t fall = 2;                // failures in a row until down; a refused port counts at once
  uint32_t rise = 2;                // successes in a row until up
  ProxyProtocol proxy_protocol = ProxyProtocol::none;  // v2: a header for LOCAL comes first
  std::string user, password;  // mysql; read from credentials_file; empty: a refused login means alive
  std::string credentials_file;
  DialogueConfig dialogue;
  TlsConfig tls;
  std::optional<Address> source_v4, source_v6;  // where probes come from; absent: the kernel chooses

  bool operator==(const CheckConfig&) const = default;
};

struct BackendConfig {
  std::string name;
  std::optional<Address> v4, v6;         // at least one
  uint32_t weight = 100;                 // 0..1000
  std::string zone;                      // empty: none, as all of the pool
  bool backup = false;                   // used when too few others are usable
  std::optional<Address> check_address;  // all checks go here instead (the database behind another firewall)
  std::map<std::string, Endpoint>
      check_addresses;  // by check name: this check goes there; port 0: the check's own

  bool operator==(const BackendConfig&) const = default;
};

struct PoolConfig {
  std::string name;
  std::vector<BackendConfig> backends;  // in the order of the file
  std::vector<CheckConfig> checks;      // implied: one per backend port of the pool's services
  AllDown all_down = AllDown::keep_last;
  OnBackendDown on_backend_down = OnBackendDown::automatic;
  uint32_t min_healthy_percent = 0;  // below it all backends but held ones are used; 0: off
  // The own zone's usable part of its weight, below which other zones help, and for how long it must be back
  // until they no longer do. The primary backends' usable part, below which backups help; 0: none is usable.
  uint32_t spill_below_percent = 50, backup_below_percent = 0;
  Milliseconds spill_hold{30000};
  uint32_t table_size = kDefaultLookupSize;
  bool second_chance = true;  // mode dsr-gue: packets name further backends that may have their connection
  // Backends by name that were all of the pool's before, the latest set first; see docs/configuration.md.
  std::vector<std::vector<std::string>> earlier_sets;
  Milliseconds reset_after{300000};  // flows allowed to finish are reset after this
  Milliseconds slow_start{0};        // a backend that returns gets its weight in steps for so long
  uint32_t flap_limit = 0;           // flap_damping.h; 0: off
  Milliseconds flap_half_life{300000};
  bool passive_probe = true;  // what the dataplane sees of a backend triggers probes (passive_signals.h)

  bool operator==(const PoolConfig&) const = default;
};

// What the clients of one source prefix may have of a service.
struct SourceLimitsConfig {
  uint32_t new_per_second = 0;             // connections; 0: any number
  uint32_t burst = 0;                      // new ones at once; 0: as many as new_per_second
  uint32_t connections = 0;                // at a time; 0: any number
  uint8_t prefix_v4 = 32, prefix_v6 = 64;  // bits

  bool operator==(const SourceLimitsConfig&) const = default;
};

struct ServiceConfig {
  std::string name;
  std::vector<Endpoint> listen;  // at least one
  std::string pool;
  Mode mode = Mode::nat;
  ProxyProtocol proxy_protocol = ProxyProtocol::none;
  Affinity affinity = Affinity::connection;
  uint8_t affinity_prefix_v6 = 64;  // bits
  uint16_t backend_port = 0;        // 0: the listener's port
  // Of the prefixes of `allow` and `deny` that a client is in, the longest decides.
  bool allow_any = true;  // false: only `allow`
  std::vector<Prefix> allow, deny;
  SourceLimitsConfig limits;
  Milliseconds idle_timeout{7440000};  // 2 h 4 min, RFC 5382 section 5

  bool operator==(const ServiceConfig&) const = default;
};

struct DataplaneConfig {
  struct Port {
    std::string name;     // interface name, PCI address, or a DPDK vdev such as net_af_packet0
    std::string devargs;  // DPDK arguments; empty: implied by the name
    uint32_t mtu = 0;     // 0: the device's

    bool operator==(const Port&) const = default;
  };
  std::vector<Port> ports;
  uint32_t workers = 0;     // 0: one per queue the hardware suggests (AF_XDP: 1)
  std::string worker_cpus;  // "2,3"; empty: chosen
  IdleMode idle = IdleMode::adaptive;
  HugePages huge_pages = HugePages::required;
  Fragments fragments = Fragments::reassemble;
  uint32_t flows = 1048576;     // over all workers, per family and mode
  uint32_t mbufs = 0;           // 0: chosen
  uint32_t new_flow_rate = 0;   // per worker and second; 0: no limit
  uint32_t reset_rate = 10000;  // per worker and second

  bool operator==(const DataplaneConfig&) const = default;
};

struct NatConfig {
  std::vector<Address> addresses;
  uint16_t first_port = 1024, last_port = 65535;

  bool operator==(const NatConfig&) const = default;
};

// Prefixes of which the outer source addresses of tunnels are, at most one of each family, and the UDP port
// of portals in mode dsr-gue.
struct TunnelConfig {
  std::optional<Prefix> v4, v6;
  uint16_t gue_port = kDefaultGuePort;

  bool operator==(const TunnelConfig&) const = default;
};

// Of tunnels to the backend: a family is possible if the backend has an address of it and the tunnels a
// source.
std::optional<Family> outer_family(const TunnelConfig& tunnel, const BackendConfig& backend, Family inner);

struct Config {
  std::string instance;  // default: the host's name
  std::string zone;      // where the balancer is; empty: no zone is nearer than others
  VipAddress vip_address = VipAddress::managed;
  uint64_t hash_key[2] = {0,
                          0};  // from `hash_key: 32 hex digits`; default: fixed, documented, with a warning
  DataplaneConfig dataplane;
  NatConfig nat;
  TunnelConfig tunnel;
  std::vector<ServiceConfig> services;  // in the order of the file
  std::vector<PoolConfig> pools;

  bool operator==(const Config&) const = default;
};

// One complaint about a configuration file. Line and column count from 1; 0: the file as a whole.
struct ConfigMessage {
  bool is_error = true;  // else a warning
  int line = 0, column = 0;
  std::string text;  // what is wrong and how to mend it
};

struct ConfigResult {
  std::optional<Config> config;         // absent if there is any error
  std::vector<ConfigMessage> messages;  // all errors and warnings, by line
  std::string text;                     // the file as it was read
  std::string effective;  // YAML with every value, and a comment on each that says where it is from

  // The texts of the warnings.
  std::vector<std::string> warnings() const;
};

// Reads and checks a configuration file. Never throws for what the file says; an unreadable file is one
// message. `check_system`: also check what depends on this host (interfaces exist, credentials files are
// readable).
ConfigResult load_config(const std::string& path, bool check_system);

// The same for a text that stands for the file: what it names is looked for where the file is.
ConfigResult read_config(const std::string& text, const std::string& path);

// The same for text, without looking at this host; `name` stands for the file in messages.
ConfigResult parse_config(const std::string& text, const std::string& name);

// The kernel's interface of a dataplane port: the one it attaches to, or the tap that stands for it. A port
// without either has its name, which no interface has.
std::string interface_of(const DataplaneConfig::Port& port);

// "file:line:column: error: text", one line per message.
std::string format_messages(const ConfigResult& result, const std::string& path);

}  // namespace portico
