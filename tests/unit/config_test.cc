// SPDX-License-Identifier: Apache-2.0
// What a configuration comes to: short and long forms, defaults, what is implied, and the effective text.
#include "control/config.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "contract/limits.h"
#include "control/config_text.h"

namespace portico {
namespace {

using namespace std::chrono_literals;

constexpr char kShortest[] = R"(version: 1
dataplane: {ports: [enp3s0f0]}
nat: {addresses: [203.0.113.20]}
services:
  portal-https: {listen: 203.0.113.10:443, pool: portals}
  portal-mysql: {listen: 203.0.113.10:3306, pool: portals, allow: [192.0.2.0/24]}
pools:
  portals:
    backends: {portal-1: 192.0.2.21, portal-2: 192.0.2.22}
)";

constexpr char kLongest[] = R"(version: 1
instance: edge-1
zone: north
vip_address: external
hash_key: 00112233445566778899aabbccddeeff
dataplane:
  ports:
    - {name: enp3s0f0, devargs: "start_queue=4", mtu: 9000}
    - 0000:03:00.1
  worker_cpus: 2,4-5
  idle: poll
  huge_pages: off
  flows: 65536
  mbufs: 32768
  new_flow_rate: 100000
  reset_rate: 500
nat:
  addresses: [203.0.113.20, "2001:db8::20"]
  ports: 2048-4095
tunnel:
  sources: [198.51.100.0/26, "2001:db8:5::/64"]
  gue_port: 6081
services:
  web:
    listen: [203.0.113.10:80, 203.0.113.10:443, "[2001:db8::10]:443"]
    pool: portals
    proxy_protocol: v2
    affinity: client
    affinity_prefix_v6: 56
    allow: any
    deny: [198.51.100.0/24, "2001:db8:bad::/48"]
    idle_timeout: 10m
    limits: {new_per_second: 50, connections: 900, prefix_v4: 24, prefix_v6: 48}
  direct:
    listen: 203.0.113.11:80
    pool: portals
    mode: dsr-l2
  tunneled:
    listen: 203.0.113.12:80
    pool: portals
    mode: dsr-ipip
  second-chance: {listen: 203.0.113.13:80, pool: portals, mode: dsr-gue}
  gateway: {listen: 203.0.113.14:80, pool: portals, mode: dnat, backend_port: 8080}
pools:
  portals:
    backends:
      portal-1:
        addresses: [192.0.2.21, "2001:db8::21"]
        weight: 50
        zone: north
        check_address: 10.0.0.21
      portal-2:
        addresses: [192.0.2.22, "2001:db8::22"]
        check_addresses: {database: 10.0.0.22:3307, apache: "2001:db8:1::22"}
        zone: south
        backup: true
    check: {interval: 100ms, fast_interval: 20ms, fall: 3, credentials: check.cnf}
    checks:
      apache: 443
      database: {kind: mysql, port: 3306, interval: 1s, timeout: 500ms, rise: 4}
      cache: {port: 6379, send: '\x01 "PING\r\n\\', expect: "^[+]PONG", source: [192.0.2.9, "2001:db8::9"]}
      page: {kind: http, port: 80, method: GET, path: /health, status: "200-299,304", body: "(?i)ok"}
      app: {kind: https, port: 443, host: "portal.example.com:443", status: [200, 204], ca_file: ca.pem}
      certificate: {kind: tls, port: 443, verify: off, sni: a.example, certificate_days: 30}
    all_down: reset
    on_backend_down: keep
    min_healthy: 50%
    spill_below: 70%
    spill_hold: 1m
    backup_below: 20%
    table_size: 1009
    reset_after: 1m30s
    second_chance: false
    earlier_sets: [[portal-1, portal-2], [portal-1]]
    slow_start: 30s
    flap_limit: 5
    flap_half_life: 10m
    passive: off
)";

Config parse_good(const std::string& text) {
  const ConfigResult result = parse_config(text, "test.yaml");
  EXPECT_TRUE(result.config) << format_messages(result, "test.yaml");
  return result.config.value_or(Config{});
}

TEST(Config, ShortestFormImpliesTheRest) {
  const Config config = parse_good(kShortest);
  ASSERT_EQ(config.services.size(), 2u);
  const ServiceConfig& https = config.services[0];
  EXPECT_EQ(https.name, "portal-https");
  EXPECT_EQ(format_endpoint(https.listen.at(0)), "203.0.113.10:443");
  EXPECT_EQ(https.mode, Mode::nat);
  EXPECT_EQ(https.affinity, Affinity::connection);
  EXPECT_EQ(https.backend_port, 0);
  EXPECT_EQ(https.idle_timeout, 2h + 4min);
  EXPECT_EQ(https.limits, SourceLimitsConfig{});
  EXPECT_TRUE(https.allow_any);
  EXPECT_TRUE(https.deny.empty());
  EXPECT_FALSE(config.services[1].allow_any);
  EXPECT_EQ(to_string(config.services[1].allow.at(0)), "192.0.2.0/24");
  const PoolConfig& pool = config.pools.at(0);
  EXPECT_EQ(pool.all_down, AllDown::keep_last);
  EXPECT_EQ(pool.on_backend_down, OnBackendDown::automatic);
  EXPECT_EQ(pool.table_size, 65537u);
  ASSERT_EQ(pool.backends.size(), 2u);
  EXPECT_EQ(pool.backends[1].name, "portal-2");
  EXPECT_EQ(to_string(pool.backends[1].v4.value()), "192.0.2.22");
  EXPECT_EQ(pool.backends[1].weight, 100u);
  EXPECT_EQ(config.dataplane.idle, IdleMode::adaptive);
  EXPECT_EQ(config.dataplane.workers, 0u);
  EXPECT_EQ(config.vip_address, VipAddress::managed);
  EXPECT_FALSE(config.instance.empty());
}

TEST(Config, ImpliesOneCheckPerServicePort) {
  const Config config = parse_good(kShortest);
  const auto& checks = config.pools.at(0).checks;
  ASSERT_EQ(checks.size(), 2u);
  EXPECT_EQ(checks[0].name, "tcp-443");
  EXPECT_EQ(checks[0].kind, CheckKind::tcp);
  EXPECT_EQ(checks[0].port, 443);
  EXPECT_EQ(checks[1].name, "mysql-3306");
  EXPECT_EQ(checks[1].kind, CheckKind::mysql);
  EXPECT_EQ(checks[1].interval, 2s);
  EXPECT_EQ(checks[1].fast_interval, 200ms);
  EXPECT_EQ(checks[1].timeout, 1s);
  EXPECT_EQ(checks[1].fall, 2u);
  EXPECT_EQ(checks[1].rise, 2u);
}

TEST(Config, ImpliedCheckGoesToTheBackendPort) {
  const Config config = parse_good(std::string(kShortest).replace(std::string(kShortest).find("443, pool"), 9,
                                                                  "443, backend_port: 8443, pool"));
  EXPECT_EQ(config.pools.at(0).checks.at(0).port, 8443);
}

TEST(Config, ChecksSpeakTheProxyProtocolOfTheirPort) {
  const Config config = parse_good(R"(version: 1
dataplane: {ports: [e0]}
nat: {addresses: [203.0.113.20]}
services:
  web: {listen: 203.0.113.10:443, backend_port: 8443, pool: portals, proxy_protocol: v2}
  plain: {listen: 203.0.113.10:80, pool: portals}
  quiet: {listen: 203.0.113.10:81, pool: portals, proxy_protocol: v2}
pools:
  portals:
    backends: {p1: 192.0.2.21}
    checks: {web: 8443, plain: 80, quiet: {port: 81, proxy_protocol: none}, other: {port: 82, proxy_protocol: v2}}
)");
  EXPECT_EQ(config.services[0].proxy_protocol, ProxyProtocol::v2);
  EXPECT_EQ(config.services[1].proxy_protocol, ProxyProtocol::none);
  const auto& checks = config.pools[0].checks;
  EXPECT_EQ(checks.at(0).proxy_protocol, ProxyProtocol::v2);
  EXPECT_EQ(checks.at(1).proxy_protocol, ProxyProtocol::none);
  EXPECT_EQ(checks.at(2).proxy_protocol, ProxyProtocol::none);
  EXPECT_EQ(checks.at(3).proxy_protocol, ProxyProtocol::v2);
}

TEST(Config, PoolWideCheckKeysReachImpliedChecks) {
  const Config config = parse_good(std::string(kShortest) + "    check: {interval: 100ms, fall: 1}\n");
  for (const CheckConfig& check : config.pools.at(0).checks) {
    EXPECT_EQ(check.interval, 100ms);
    EXPECT_EQ(check.fall, 1u);
    EXPECT_EQ(check.fast_interval, 100ms) << "no longer than the interval";
  }
}

TEST(Config, LongFormSaysEverything) {
  const Config config = parse_good(kLongest);
  EXPECT_EQ(config.instance, "edge-1");
  EXPECT_EQ(config.hash_key[0], 0x0011223344556677u);
  EXPECT_EQ(config.hash_key[1], 0x8899aabbccddeeffu);
  EXPECT_EQ(config.dataplane.ports.at(0).mtu, 9000u);
  EXPECT_EQ(config.dataplane.ports.at(1).name, "0000:03:00.1");
  EXPECT_EQ(config.dataplane.workers, 3u) << "one per CPU named";
  EXPECT_EQ(config.dataplane.huge_pages, HugePages::off);
  EXPECT_EQ(config.nat.first_port, 2048);
  EXPECT_EQ(config.services.at(0).listen.size(), 3u);
  EXPECT_EQ(config.services.at(0).limits,
            (SourceLimitsConfig{.new_per_second = 50, .connections = 900, .prefix_v4 = 24, .prefix_v6 = 48}));
  EXPECT_EQ(config.services.at(1).mode, Mode::dsr_l2);
  EXPECT_EQ(config.services.at(2).mode, Mode::dsr_ipip);
  EXPECT_EQ(config.services.at(3).mode, Mode::dsr_gue);
  EXPECT_EQ(config.services.at(4).mode, Mode::dnat);
  EXPECT_EQ(config.services.at(4).backend_port, 8080);
  EXPECT_EQ(config.tunnel.gue_port, 6081);
  EXPECT_FALSE(config.pools.at(0).second_chance);
  EXPECT_EQ(config.pools.at(0).earlier_sets,
            (std::vector<std::vector<std::string>>{{"portal-1", "portal-2"}, {"portal-1"}}));
  EXPECT_EQ(to_string(config.tunnel.v4.value()), "198.51.100.0/26");
  EXPECT_EQ(to_string(config.tunnel.v6.value()), "2001:db8:5::/64");
  const PoolConfig& pool = config.pools.at(0);
  EXPECT_EQ(to_string(pool.backends.at(0).v6.value()), "2001:db8::21");
  EXPECT_EQ(to_string(pool.backends.at(0).check_address.value()), "10.0.0.21");
  EXPECT_EQ(pool.backends.at(1).check_addresses.at("database").port, 3307);
  EXPECT_EQ(pool.backends.at(1).check_addresses.at("apache").port, 0);
  EXPECT_EQ(pool.min_healthy_percent, 50u);
  EXPECT_EQ(config.zone, "north");
  EXPECT_EQ(pool.backends.at(0).zone, "north");
  EXPECT_FALSE(pool.backends.at(0).backup);
  EXPECT_TRUE(pool.backends.at(1).backup);
  EXPECT_EQ(pool.spill_below_percent, 70u);
  EXPECT_EQ(pool.spill_hold, 1min);
  EXPECT_EQ(pool.backup_below_percent, 20u);
  EXPECT_EQ(pool.reset_after, 90s);
  EXPECT_FALSE(pool.passive_probe);
}

TEST(Config, ChecksTakeWhatTheyDoNotSayFromThePool) {
  const PoolConfig pool = parse_good(kLongest).pools.at(0);
  const CheckConfig& apache = pool.checks.at(0);
  EXPECT_EQ(apache.kind, CheckKind::tcp);
  EXPECT_EQ(apache.interval, 100ms);
  EXPECT_EQ(apache.credentials_file, "") << "credentials are for mysql checks";
  const CheckConfig& database = pool.checks.at(1);
  EXPECT_EQ(database.interval, 1s);
  EXPECT_EQ(database.fast_interval, 20ms);
  EXPECT_EQ(database.fall, 3u);
  EXPECT_EQ(database.rise, 4u);
  EXPECT_EQ(database.credentials_file, "check.cnf");
}

// Everything below the comments, which name other lines the second time.
std::string without_comments(const std::string& text) {
  std::istringstream lines(text);
  std::string line, out;
  while (std::getline(lines, line)) {
    line = line.substr(0, line.find(" # "));
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return out;
}

TEST(Config, EffectiveTextIsTheSameConfiguration) {
  for (const char* text : {kShortest, kLongest}) {
    const ConfigResult first = parse_config(text, "test.yaml");
    const ConfigResult second = parse_config(first.effective, "test.yaml");
    ASSERT_TRUE(second.config) << format_messages(second, "effective") << first.effective;
    EXPECT_EQ(without_comments(second.effective), without_comments(first.effective));
    EXPECT_TRUE(*first.config == *second.config) << first.effective;
  }
}

TEST(Config, EffectiveTextNamesSources) {
  const std::string text = parse_config(kShortest, "test.yaml").effective;
  const auto line_with = [&](const std::string& words) {
    const size_t at = text.find(words);
    return at == std::string::npos ? "" : text.substr(at, text.find('\n', at) - at);
  };
  EXPECT_NE(line_with("- 203.0.113.10:443").find("# line 5"), std::string::npos) << text;
  EXPECT_NE(line_with("mode: nat").find("# default"), std::string::npos);
  EXPECT_NE(line_with("tcp-443:").find("# implied by service portal-https"), std::string::npos);
  EXPECT_NE(line_with("kind: mysql").find("# implied by port 3306"), std::string::npos);
}

TEST(Config, EffectiveTextQuotesWhatYamlReadsOtherwise) {
  const ConfigResult first = parse_config(R"(version: 1
dataplane: {ports: [{name: net_af_packet0, devargs: 'iface=e0, "q": \1 # x'}]}
services: {"null": {listen: 203.0.113.10:443, pool: "1", mode: dsr-l2}}
pools: {"1": {backends: {"NULL": 192.0.2.21}, checks: {"no": 80}}}
)",
                                          "test.yaml");
  ASSERT_TRUE(first.config) << format_messages(first, "test.yaml");
  const ConfigResult second = parse_config(first.effective, "test.yaml");
  ASSERT_TRUE(second.config) << format_messages(second, "effective") << first.effective;
  EXPECT_TRUE(*first.config == *second.config) << first.effective;
}

TEST(Config, LargestConfigurationOfTheContractIsRead) {
  std::ostringstream text;
  text << "version: 1\ndataplane: {ports: [e0]}\nservices:\n";
  for (int i = 0; i < 1024; ++i) {
    const int low = i % 250 + 1, high = i / 250;
    text << "  s" << i << ": {listen: 198.18." << high << "." << low << ":80, pool: p" << i % 256
         << ", mode: dsr-l2, allow: [";
    for (int j = 0; j < 128; ++j) text << "10." << j << "." << low << ".0/24, ";
    text << "]}\n";
  }
  text << "pools:\n";
  for (int i = 0; i < 256; ++i) {
    text << "  p" << i << ":\n    backends:\n";
    for (int j = 1; j <= 16; ++j) text << "      b" << j << ": 198.19." << i << "." << j << "\n";
  }
  const Config config = parse_good(text.str());
  EXPECT_EQ(config.services.size(), kMaxServices);
  EXPECT_EQ(config.services.back().allow.size() * config.services.size(), kMaxAccessPrefixes);
  EXPECT_EQ(config.pools.size(), kMaxPools);
  EXPECT_EQ(config.pools.back().backends.size() * config.pools.size(), kMaxBackends);
}

TEST(Config, UnreadableFileIsOneMessage) {
  const ConfigResult result = load_config("/nonexistent/portico.yaml", false);
  EXPECT_FALSE(result.config);
  EXPECT_EQ(format_messages(result, "f.yaml"), "f.yaml: error: cannot be read: No such file or directory\n");
}

// Examples are read by people who copy them: each parses.
TEST(Config, OnlyARegularFileOfSomeSizeIsRead) {
  EXPECT_EQ(load_config("/dev/zero", false).messages.at(0).text, "is not a regular file");
  const std::string fifo = testing::TempDir() + "portico-config-" + std::to_string(getpid());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(load_config(fifo, false).messages.at(0).text, "is not a regular file");
  std::filesystem::remove(fifo);
  std::ofstream(fifo).put('x');
  std::filesystem::resize_file(fifo, uint64_t{1} << 40);
  EXPECT_NE(load_config(fifo, false).messages.at(0).text.find("larger than 16 MiB"), std::string::npos);
  std::filesystem::remove(fifo);
}

TEST(Config, ExampleFilesParse) {
  const std::filesystem::path folder = std::filesystem::path(PORTICO_SOURCE_ROOT) / "examples";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no examples";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".yaml" || entry.path().stem() == "agent") continue;  // another program's
    const ConfigResult result = load_config(entry.path(), false);
    EXPECT_TRUE(result.config) << format_messages(result, entry.path());
  }
}

// A ```yaml block of the reference is a whole configuration; fragments there are ```text.
TEST(Config, YamlBlocksOfTheReferenceParse) {
  std::ifstream file(std::string(PORTICO_SOURCE_ROOT) + "/docs/configuration.md");
  ASSERT_TRUE(file);
  std::string line, block;
  int blocks = 0;
  bool inside = false;
  while (std::getline(file, line)) {
    if (line == "```yaml") {
      inside = true;
      block.clear();
    } else if (inside && line == "```") {
      inside = false;
      ++blocks;
      const ConfigResult result = parse_config(block, "block");
      EXPECT_TRUE(result.config) << format_messages(result, "block") << block;
    } else if (inside) {
      block += line + "\n";
    }
  }
  EXPECT_GE(blocks, 3);
}

}  // namespace
}  // namespace portico
