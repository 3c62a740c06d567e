// SPDX-License-Identifier: Apache-2.0
// A builder with the host, ids and operators that it asks, for tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "contract/publisher.h"
#include "control/builder.h"

namespace portico::test {

inline Address v4(uint32_t n) {
  return *Address::parse("198.18." + std::to_string(n / 200) + "." + std::to_string(1 + n % 200));
}
inline Address v6(uint32_t n) {
  return *Address::parse("2001:db8::" + std::to_string(1 + n));
}

// A host whose every destination is a neighbour on the first port, or has none.
struct FakeKernel {
  std::set<Address> unreachable;
  std::vector<PortRoute> port_routes;
  std::set<uint16_t> vlans;
  std::set<Address> own;

  KernelView view() {
    return {.next_hop = [this](const Address& to) -> std::optional<NextHop> {
              if (unreachable.contains(to)) return std::nullopt;
              return NextHop{.interface = "eth0",
                             .ifindex = 2,
                             .neighbour = to,
                             .on_link = true,
                             .resolved = true,
                             .mac = {2, 0, 0, 0, 0, 1},
                             .source_mac = {2, 0, 0, 0, 0, 2},
                             .mtu = 1500};
            },
            .routes = [this] { return port_routes; },
            .vlans = [this](const std::string&) { return vlans; },
            .own = [this] { return own; }};
  }
};

class BuilderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/portico-builder-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  const TableContent& build(const Config& config, const std::set<std::string>* changed_pools = nullptr) {
    return build(config, builder_, changed_pools);
  }
  const TableContent& build(const Config& config, Builder& builder,
                            const std::set<std::string>* changed_pools) {
    std::set<Address> addresses;
    for (const auto& pool : config.pools)
      for (const auto& backend : pool.backends)
        for (const auto& address : {backend.v4, backend.v6})
          if (address) addresses.insert(*address);
    for (const auto& record : ids_.retired_backends())
      for (const auto& address : {record.address_v4, record.address_v6})
        if (!address.is_none()) addresses.insert(address);
    routing_ = hops_.build(kernel_.view(), {"eth0"}, addresses);
    return builder.build({.config = config,
                          .ids = ids_,
                          .operators = operators_,
                          .routing = routing_,
                          .health =
                              [this](const std::string& pool, const std::string& backend) {
                                const auto it = health_.find({pool, backend});
                                return it == health_.end() ? BackendView{} : it->second;
                              },
                          .config_version = 1,
                          .now_ns = now_ns_,
                          .changed_pools = changed_pools,
                          .is_cut_off = is_cut_off_,
                          .is_returning = is_returning_});
  }

  std::filesystem::path dir_;
  FakeKernel kernel_;
  Ids ids_;
  OperatorState operators_{"/nonexistent/operator.json"};
  NextHopTable hops_;
  Routing routing_;
  Builder builder_;
  std::map<OperatorState::Key, BackendView> health_;
  uint64_t now_ns_ = 1;
  bool is_cut_off_ = false, is_returning_ = false;
};

inline Config two_portals() {
  Config config;
  config.instance = "edge-1";
  config.dataplane.ports.push_back({.name = "eth0"});
  config.nat.addresses.push_back(v4(900));
  PoolConfig pool{.name = "portals"};
  pool.table_size = 4099;
  for (uint32_t i = 1; i <= 2; ++i) {
    BackendConfig backend;
    backend.name = "portal-" + std::to_string(i);
    backend.v4 = v4(i);
    pool.backends.push_back(backend);
  }
  config.pools.push_back(pool);
  ServiceConfig service{.name = "web", .listen = {{v4(800), 80}}, .pool = "portals"};
  config.services.push_back(service);
  return config;
}

inline size_t slots(const TableContent& content, uint16_t id) {
  const auto& lookup = content.pools[0].lookup;
  return static_cast<size_t>(std::count(lookup.begin(), lookup.end(), id));
}

}  // namespace portico::test
