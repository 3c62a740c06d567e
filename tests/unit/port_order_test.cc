// SPDX-License-Identifier: Apache-2.0
#include "control/port_order.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

using Ports = std::vector<DataplaneConfig::Port>;

Ports ports(std::initializer_list<const char*> names) {
  Ports list;
  for (const char* name : names) list.push_back({name, "", 0});
  return list;
}

std::vector<std::string> names(const Ports& list) {
  std::vector<std::string> result;
  for (const auto& port : list) result.push_back(port.name);
  return result;
}

TEST(PortOrder, KeepsRunningIndexesAndAppendsNewPorts) {
  Ports wanted = ports({"dmz", "lan", "wan"});
  EXPECT_EQ(keep_port_order({"wan", "lan"}, ports({"wan", "lan"}), wanted), std::nullopt);
  EXPECT_EQ(names(wanted), (std::vector<std::string>{"wan", "lan", "dmz"}));
}

TEST(PortOrder, IsTheFilesWithoutADataplane) {
  Ports wanted = ports({"lan", "wan"});
  EXPECT_EQ(keep_port_order({}, ports({"wan", "lan"}), wanted), std::nullopt);
  EXPECT_EQ(names(wanted), (std::vector<std::string>{"lan", "wan"}));
}

TEST(PortOrder, RefusesToTakeARunningPortAway) {
  Ports wanted = ports({"wan", "renamed"});
  const auto error = keep_port_order({"wan", "lan"}, ports({"wan", "lan"}), wanted);
  ASSERT_TRUE(error);
  EXPECT_NE(error->find("`lan`"), std::string::npos) << *error;
  EXPECT_NE(error->find("restart of the dataplane"), std::string::npos) << *error;
  EXPECT_EQ(names(wanted), (std::vector<std::string>{"wan", "renamed"}));
}

TEST(PortOrder, RefusesOtherDevargsOfARunningPort) {
  const Ports before = {{"wan", "net_af_packet0,iface=wan0", 0}};
  Ports wanted = {{"wan", "net_af_packet0,iface=wan1", 0}};
  EXPECT_TRUE(keep_port_order({"wan"}, before, wanted));
  wanted = before;
  EXPECT_EQ(keep_port_order({"wan"}, before, wanted), std::nullopt);
}

}  // namespace
}  // namespace portico
