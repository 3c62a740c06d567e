// SPDX-License-Identifier: Apache-2.0
// A small table that keeps every rule, for tests to break one at a time; big ones for sizes and times; and a
// directory that goes away with the test.
#pragma once

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "contract/snapshot.h"

namespace portico::test {

class TempDir {
 public:
  TempDir() {
    const char* base = std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp";  // tmpfs, as in life
    std::string pattern = std::string(base) + "/portico-test-XXXXXX";
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp " + pattern);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline Address address(const char* text) {
  return Address::parse(text).value();
}

template <size_t N>
void set_text(char (&field)[N], const std::string& text) {
  std::memset(field, 0, N);
  text.copy(field, N - 1);
}

// Host n of 198.18.0.0/15, n below 2^17.
inline Address v4_host(uint32_t n) {
  char text[32];
  std::snprintf(text, sizeof text, "198.%u.%u.%u", 18 + (n >> 16 & 1), n >> 8 & 0xff, n & 0xff);
  return address(text);
}

inline BackendRecord sample_backend(uint16_t id, uint16_t pool) {
  BackendRecord b{};
  b.id = id;
  b.pool = pool;
  b.weight = 100;
  b.disposition = static_cast<uint8_t>(BackendDisposition::forward);
  b.next_hop_v4 = 0;
  b.next_hop_v6 = kNone;
  b.address_v4 = v4_host(0x10000u + id);
  set_text(b.name, "backend-" + std::to_string(id));
  return b;
}

// A pool whose slots name its backends in turn: no Maglev, but within the rules.
inline TableContent::Pool sample_pool(uint16_t id, uint16_t first_backend, uint16_t backends,
                                      uint32_t slots) {
  TableContent::Pool pool;
  pool.record.id = id;
  pool.record.disposition = static_cast<uint8_t>(PoolDisposition::serve);
  pool.record.lookup_size = slots;
  set_text(pool.record.name, "pool-" + std::to_string(id));
  for (uint16_t i = 0; i < backends; ++i)
    pool.backends.push_back(sample_backend(static_cast<uint16_t>(first_backend + i), id));
  if (backends > 0)
    for (uint32_t slot = 0; slot < slots; ++slot)
      pool.lookup.push_back(static_cast<uint16_t>(first_backend + slot % backends));
  return pool;
}

inline ServiceRecord sample_service(uint16_t id, uint16_t pool) {
  ServiceRecord s{};
  s.id = id;
  s.pool = pool;
  s.access_list = kNone;
  s.mode = static_cast<uint8_t>(Mode::nat);
  s.affinity = static_cast<uint8_t>(Affinity::connection);
  s.affinity_prefix_v6 = 64;
  s.idle_timeout_ms = 7440000;
  s.source_prefix_v4 = 32;
  s.source_prefix_v6 = 64;
  set_text(s.name, "service-" + std::to_string(id));
  return s;
}

inline SettingsRecord sample_settings() {
  SettingsRecord s{};
  s.hash_key[0] = 1;
  s.hash_key[1] = 2;
  s.workers = 1;
  s.flows = 1u << 20;
  s.idle = static_cast<uint8_t>(IdleMode::adaptive);
  s.huge_pages = static_cast<uint8_t>(HugePages::off);
  s.reset_rate = 1000;
  s.timeout_syn_ms = 30000;
  s.timeout_closing_ms = 10000;
  s.timeout_half_closed_ms = 240000;
  s.gue_port = kDefaultGuePort;
  s.fragments = static_cast<uint8_t>(Fragments::reassemble);
  set_text(s.instance, "edge-1");
  return s;
}

inline NextHopRecord sample_next_hop(const Address& neighbour) {
  NextHopRecord h{};
  h.address = neighbour;
  const uint8_t mac[6] = {2, 0, 0, 0, 0, 1}, source[6] = {2, 0, 0, 0, 0, 2};
  std::memcpy(h.mac, mac, 6);
  std::memcpy(h.source_mac, source, 6);
  h.mtu = 1500;
  h.resolved = 1;
  return h;
}

// Two services, three pools (one without a usable backend), both families, routes, access lists, NAT.
inline TableContent sample_content() {
  TableContent c;
  c.config_version = 1;
  c.settings = sample_settings();
  PortRecord port{};
  set_text(port.name, "eth0");
  port.queues = 1;
  port.mtu = 1500;
  c.ports = {port, port};
  set_text(c.ports[1].name, "eth1");
  c.services = {sample_service(3, 1), sample_service(7, 2)};
  c.services[1].access_list = 5;
  c.listeners = {{address("198.18.0.10"), 443, 3, 0},
                 {address("198.18.0.10"), 3306, 7, 0},
                 {address("2001:db8::10"), 443, 3, 0}};
  c.pools = {sample_pool(1, 10, 3, 251), sample_pool(2, 20, 2, 257), sample_pool(4, 0, 0, 251)};
  c.pools[0].backends[1].address_v6 = address("2001:db8::21");
  c.pools[0].backends[1].next_hop_v6 = 1;
  c.pools[0].backends[2].reset_count = 2;
  c.pools[0].backends[2].reset_ports[0] = 80;
  c.pools[0].backends[2].reset_ports[1] = 443;
  c.next_hops = {sample_next_hop(address("198.18.0.1")), sample_next_hop(address("2001:db8::1"))};
  c.next_hops[1].port = 1;
  c.routes = {{address("0.0.0.0"), 0, 0, 0, 0, 0},
              {address("198.18.0.0"), 24, 1, kNone, 0, 0},
              {address("2001:db8::"), 32, 0, 1, 1, 0}};
  c.access = {{address("198.18.1.0"), 5, 24, 1, 0}, {address("198.18.1.128"), 5, 25, 0, 0}};
  c.nat = {{address("198.18.0.20"), 1024, 65535, 0}, {address("2001:db8::20"), 1024, 65535, 0}};
  c.vlans = {{0, 5}, {1, 5}, {1, 77}};
  c.own = {{address("198.18.0.2")}, {address("2001:db8::2")}};
  return c;
}

// `pools` pools of `slots` slots and `backends` backends in all, one service each.
inline TableContent big_content(uint16_t pools, uint32_t slots, uint16_t backends) {
  TableContent c = sample_content();
  c.services.clear();
  c.listeners.clear();
  c.access.clear();
  c.pools.clear();
  const auto each = static_cast<uint16_t>(backends / pools);
  for (uint16_t i = 0; i < pools; ++i) {
    c.pools.push_back(sample_pool(i, static_cast<uint16_t>(i * each), each, slots));
    c.services.push_back(sample_service(i, i));
    c.listeners.push_back({v4_host(1024u + i), 443, i, 0});
  }
  return c;
}

}  // namespace portico::test
