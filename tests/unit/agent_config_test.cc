// SPDX-License-Identifier: Apache-2.0
// One case per mistake in the agent's configuration: the text has `@@` where the message must point.
#include "agent/config.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

struct Case {
  const char* name;
  std::string text;
  std::string message;  // a part of it
  bool is_error = true;
};

const std::string kTop = "version: 1\ninterface: eth0\n";
const std::string kVips = "vips: [203.0.113.10, \"2001:db8::10\"]\n";
const std::string kBalancers = "balancers: [198.51.100.0/26]\n";
const std::string kGood = kTop + kVips + kBalancers;

const std::vector<Case> kCases = {
    {"Empty", "", "is empty"},
    {"Syntax", "version: 1\nvips: [\n", "not valid YAML"},
    {"NoVersion", "@@interface: eth0\n" + kVips + kBalancers, "version"},
    {"OtherVersion", "version: @@2\ninterface: eth0\n" + kVips + kBalancers, "reads version 1"},
    {"NoInterface", "@@version: 1\n" + kVips + kBalancers, "interface"},
    {"NoVips", "@@" + kTop + kBalancers, "vips"},
    {"NoBalancers", "@@" + kTop + kVips, "balancers"},
    {"UnknownKey", kGood + "@@balancer: 1\n", "balancers"},
    {"BadVip", kTop + "vips: [@@203.0.113.300]\n" + kBalancers, "203.0.113.300"},
    {"Loopback", kTop + "vips: [\"@@::1\"]\n" + kBalancers, "loopback"},
    {"VipTwice", kTop + "vips: [203.0.113.10, @@203.0.113.10]\n" + kBalancers, "twice"},
    {"HostBits", kTop + kVips + "balancers: [@@198.51.100.1/26]\n", "198.51.100.1/26"},
    {"Everybody", kTop + kVips + "balancers: [@@0.0.0.0/0]\n", "everybody"},
    {"Everybody6", kTop + kVips + "balancers: [@@\"::/0\"]\n", "everybody"},
    {"TunnelKind", kGood + "tunnels: [ipip, @@gre]\n", "`gre` is no kind of tunnel"},
    {"Attach", kGood + "attach: @@offload\n", "native"},
    {"Port", kGood + "gue_port: @@0\n", "gue_port"},
    {"Mtu", kGood + "mtu: @@68\n", "mtu"},
    {"Switch", kGood + "clamp_mss: @@maybe\n", "clamp_mss"},
    {"RelativePath", kGood + "metrics_file: @@agent.prom\n", "absolute"},
    {"InstanceName", kGood + "instance: @@a/b\n", "a/b"},
    {"NoPeers", kGood + "second_chance: @@true\n", "needs `peers`"},
    {"NoGue", kGood + "peers: [192.0.2.21]\ntunnels: @@[ipip]\nsecond_chance: true\n", "gue"},
    {"PeerIsVip", kGood + "peers: @@[203.0.113.10]\n", "is a VIP"},
    {"PeerIsBalancer", kTop + kVips + "balancers: @@[192.0.2.0/24]\npeers: [192.0.2.21]\n", "no balancer",
     false},
};

// The place of `@@`, which is taken out: "LINE:COLUMN"; "" if there is none.
std::string take_mark(std::string& text) {
  size_t at = text.find("@@");
  if (at == std::string::npos) return "";
  text.erase(at, 2);
  if (at > 0 && text[at] != '"' && text[at - 1] == '"') --at;  // a quoted value begins at its quote
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(at), '\n');
  const size_t begin = at == 0 ? std::string::npos : text.rfind('\n', at - 1);
  return std::to_string(line) + ":" + std::to_string(at - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

TEST(AgentConfig, EachMistakeIsToldWithItsPlace) {
  for (const Case& each : kCases) {
    std::string text = each.text;
    const std::string place = take_mark(text);
    const auto result = parse_agent_config(text, "agent.yaml", false);
    SCOPED_TRACE(std::string(each.name) + ": " + result.messages);
    EXPECT_EQ(!result.config, each.is_error);
    const size_t found = result.messages.find(each.message);
    ASSERT_NE(found, std::string::npos);
    const size_t begin = found == 0 ? 0 : result.messages.rfind('\n', found) + 1;
    const std::string line = result.messages.substr(begin, result.messages.find('\n', found) - begin);
    const std::string start = "agent.yaml:" + (place.empty() ? "" : place + ":");
    EXPECT_TRUE(line.starts_with(start)) << line << " does not begin with " << start;
    EXPECT_NE(line.find(each.is_error ? " error: " : " warning: "), std::string::npos);
  }
}

TEST(AgentConfig, AllMistakesAreToldAtOnce) {
  const auto result =
      parse_agent_config("version: 1\nvips: [1]\nbalancers: [2]\nattach: 3\nextra: 4\n", "a", false);
  EXPECT_FALSE(result.config);
  EXPECT_EQ(std::count(result.messages.begin(), result.messages.end(), '\n'), 5) << result.messages;
}

TEST(AgentConfig, DefaultsFollowFromWhatIsThere) {
  const auto plain = parse_agent_config(kGood, "a", false).config;
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->instance, "eth0");
  EXPECT_EQ(plain->replies_leave_by, "eth0");
  EXPECT_TRUE(plain->ipip && plain->gue && plain->clamp_mss);
  EXPECT_EQ(plain->gue_port, 6080);
  EXPECT_FALSE(plain->second_chance);
  EXPECT_TRUE(parse_agent_config(kGood + "peers: [192.0.2.21]\n", "a", false).config->second_chance);
  EXPECT_FALSE(
      parse_agent_config(kGood + "peers: [192.0.2.21]\ntunnels: ipip\n", "a", false).config->second_chance);
}

TEST(AgentConfig, TheMssLeavesRoomForTheWidestTunnel) {
  const auto mss = [](const std::string& text, Family inner) {
    return highest_mss(*parse_agent_config(text, "a", false).config, 1500, inner);
  };
  const std::string v6 = kTop + kVips + "balancers: [198.51.100.0/26, \"2001:db8:5::/64\"]\n";
  EXPECT_EQ(mss(kGood + "tunnels: ipip\n", Family::v4), 1500 - 20 - 40);
  EXPECT_EQ(mss(kGood + "tunnels: ipip\n", Family::v6), 1500 - 20 - 60);
  EXPECT_EQ(mss(v6 + "tunnels: ipip\n", Family::v4), 1500 - 40 - 40);
  EXPECT_EQ(mss(kGood, Family::v4), 1500 - 20 - 12 - 40);
  EXPECT_EQ(mss(kGood + "peers: [192.0.2.21]\n", Family::v4), 1500 - 20 - 12 - 16 - 40);
  EXPECT_EQ(mss(v6 + "peers: [192.0.2.21]\n", Family::v6), 1500 - 40 - 12 - 52 - 60);
  EXPECT_EQ(mss(kGood + "clamp_mss: false\n", Family::v4), 0);
}

TEST(AgentConfig, TheExampleIsRight) {
  const auto result = load_agent_config(PORTICO_SOURCE_ROOT "/examples/agent.yaml", false);
  EXPECT_TRUE(result.config);
  EXPECT_EQ(result.messages, "");
}

}  // namespace
}  // namespace portico
