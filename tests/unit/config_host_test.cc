// SPDX-License-Identifier: Apache-2.0
// What a configuration's check says of the host: credentials files of the test's own, interfaces and
// addresses in a network namespace of its own. Needs root.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "control/addresses.h"
#include "control/config.h"
#include "tests/unit/net_namespaces.h"

namespace portico {
namespace {

class ConfigOnHost : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    here_.emplace();
    char name[] = "/tmp/portico-config-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
    // Two receive queues at this end, one at the other.
    here_->run(
        "ip link add port0 numrxqueues 2 numtxqueues 2 type veth peer name port1 numrxqueues 1 numtxqueues "
        "1");
    here_->run("ip addr add 203.0.113.1/24 dev port0");
    here_->run("ip addr add 2001:db8::1/64 dev port0 nodad");
  }
  void TearDown() override {
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
  }

  void write(const std::string& name, const std::string& text, mode_t mode) {
    std::ofstream(folder_ + "/" + name) << text;
    ASSERT_EQ(chmod((folder_ + "/" + name).c_str(), mode), 0);
  }
  // What differs from a good configuration.
  struct Parts {
    std::string dataplane = "{ports: [port1]}", nat = "{addresses: [203.0.113.20]}", top,
                listen = "203.0.113.10:443", backend = "192.0.2.21", pool;
  };
  ConfigResult load(const Parts& with) {
    write("f.yaml",
          "version: 1\ndataplane: " + with.dataplane + "\nnat: " + with.nat +
              "\nservices:\n  web: {listen: " + with.listen +
              ", pool: portals}\npools:\n  portals: {backends: {p1: " + with.backend + "}" + with.pool +
              "}\n" + with.top,
          0644);
    return here_->inside([&] { return load_config(folder_ + "/f.yaml", true); });
  }
  ConfigResult load_pool(const std::string& pool) { return load({.pool = pool}); }
  std::string errors(const Parts& with) {
    ConfigResult result = load(with);
    std::erase_if(result.messages, [](const auto& message) { return !message.is_error; });
    return format_messages(result, "f.yaml");
  }

  std::optional<NetNamespace> here_;
  std::string folder_;
};

TEST_F(ConfigOnHost, ExistingInterfaceIsGood) {
  EXPECT_EQ(errors({}), "");
}

TEST_F(ConfigOnHost, MissingInterfaceIsAnError) {
  EXPECT_NE(errors({.dataplane = "{ports: [nosuch0]}"})
                .find("f.yaml:2:21: error: there is no interface `nosuch0` here"),
            std::string::npos);
}

TEST_F(ConfigOnHost, LoopbackIsNoPort) {
  EXPECT_NE(errors({.dataplane = "{ports: [lo]}"}).find("f.yaml:2:21: error: `lo` is this host's loopback"),
            std::string::npos);
}

TEST_F(ConfigOnHost, MissingPciDeviceIsAnError) {
  EXPECT_NE(errors({.dataplane = "{ports: [ffff:ff:1f.7]}"}).find("there is no PCI device"),
            std::string::npos);
}

TEST_F(ConfigOnHost, InterfacesInDpdksArgumentsAreChecked) {
  const auto complaint = [this](const std::string& interface) {
    return errors(
        {.dataplane = "{ports: [{name: wan, devargs: \"net_af_packet0,iface=" + interface + "\"}]}"});
  };
  EXPECT_EQ(complaint("port1"), "");
  EXPECT_EQ(complaint("lo").find("f.yaml:2:21: error: `lo` is this host's loopback"), 0u);
  EXPECT_EQ(complaint("nosuch0").find("f.yaml:2:21: error: there is no interface `nosuch0`"), 0u);
}

TEST_F(ConfigOnHost, WorkersAreAsManyAsQueues) {
  const auto complaint = [this](const char* dataplane) { return errors({.dataplane = dataplane}); };
  EXPECT_EQ(complaint("{ports: [port1], workers: 1}"), "");
  EXPECT_EQ(
      complaint("{ports: [port1], workers: 2}"),
      "f.yaml:2:38: error: 2 workers for the 1 receive queue of `port1`; each worker polls one queue of each "
      "port: set `workers: 1`, or `ethtool -L port1 rx 2 tx 2`\n");
  EXPECT_EQ(
      complaint("{ports: [port0], workers: 1}"),
      "f.yaml:2:38: error: 1 worker for the 2 receive queues of `port0`; each worker polls one queue of each "
      "port: set `workers: 2`, or `ethtool -L port0 rx 1 tx 1`\n");
  EXPECT_EQ(complaint("{ports: [port1], worker_cpus: \"0-1\"}").find("f.yaml:2:42: error: 2 workers"), 0u)
      << complaint("{ports: [port1], worker_cpus: \"0-1\"}");
  EXPECT_EQ(complaint("{ports: [port1, port0]}").find("f.yaml:2:28: error: 1 worker for the 2 receive"), 0u)
      << complaint("{ports: [port1, port0]}");
  EXPECT_EQ(complaint("{ports: [{name: wan, devargs: \"net_af_packet0,iface=port1\"}], workers: 2}"), "")
      << "what arguments say is for DPDK to judge";
}

TEST_F(ConfigOnHost, OwnAddressesAreForNothingElse) {
  const std::string own = "error: this host has the address itself (203.0.113.1/24 on port0)";
  EXPECT_EQ(errors({.nat = "{addresses: [203.0.113.20, 203.0.113.1]}"}).find("f.yaml:3:33: " + own), 0u);
  EXPECT_EQ(errors({.listen = "203.0.113.1:443"}).find("f.yaml:5:17: " + own), 0u);
  EXPECT_EQ(errors({.backend = "203.0.113.1"}).find("f.yaml:7:28: " + own), 0u)
      << errors({.backend = "203.0.113.1"});
  EXPECT_NE(errors({.nat = "{addresses: [203.0.113.20, \"2001:db8::1\"]}"}).find("(2001:db8::1/64 on port0)"),
            std::string::npos);
}

TEST_F(ConfigOnHost, ListenersThatAnotherInstallsMayBeThere) {
  EXPECT_EQ(errors({.top = "vip_address: external\n", .listen = "203.0.113.1:443"}), "");
}

TEST_F(ConfigOnHost, WhatPorticoInstalledIsNotTheHosts) {
  const std::vector<Address> installed = {*Address::parse("203.0.113.10"), *Address::parse("203.0.113.20")};
  const std::vector<std::string> ports = {"port0"};
  here_->inside([&] { ASSERT_FALSE(Addresses("another instance").apply(installed, ports)); });
  EXPECT_EQ(errors({}), "");
}

TEST_F(ConfigOnHost, CredentialsAreRead) {
  write("check.cnf", "# of the check\n[client]\nuser = \"prober\"\npassword=a=b c\n", 0600);
  const ConfigResult result = load_pool(", checks: {db: {port: 3306, credentials: check.cnf}}");
  ASSERT_TRUE(result.config) << format_messages(result, "f");
  EXPECT_EQ(result.config->pools[0].checks[0].user, "prober");
  EXPECT_EQ(result.config->pools[0].checks[0].password, "a=b c");
  EXPECT_EQ(result.effective.find("a=b c"), std::string::npos) << "the effective text holds no password";
}

TEST_F(ConfigOnHost, OpenCredentialsAreAnError) {
  write("check.cnf", "user=prober\n", 0644);
  EXPECT_NE(format_messages(load_pool(", checks: {db: {port: 3306, credentials: check.cnf}}"), "f")
                .find("is open to everybody"),
            std::string::npos);
}

TEST_F(ConfigOnHost, MissingCredentialsAreAnError) {
  const std::string text =
      format_messages(load_pool(", checks: {db: {port: 3306, credentials: check.cnf}}"), "f");
  EXPECT_NE(text.find("check.cnf: No such file or directory"), std::string::npos) << text;
}

TEST_F(ConfigOnHost, CredentialsWithoutUserAreAnError) {
  write("check.cnf", "password=x\n", 0600);
  EXPECT_NE(format_messages(load_pool(", checks: {db: {port: 3306, credentials: check.cnf}}"), "f")
                .find("has no user"),
            std::string::npos);
}

}  // namespace
}  // namespace portico
