// SPDX-License-Identifier: Apache-2.0
#include "control/own_side.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

using namespace std::chrono_literals;
using Clock = OwnSide::Clock;

class OwnSideTest : public ::testing::Test {
 protected:
  OwnSideTest() {
    PoolConfig portals{.name = "portals"}, others{.name = "others"};
    portals.backends = {{.name = "portal-1", .v4 = kNear, .v6 = kNear6}, {.name = "portal-2", .v4 = kFar}};
    others.backends = {{.name = "other-1", .v4 = kNear}};
    config_.pools = {portals, others};
    config_.dataplane.ports = {{.name = "eth0"}, {.name = "wan", .devargs = "0000:03:00.0"}};
    own_side_.follow(config_);
  }
  std::string why(Clock::time_point since) { return own_side_.why_deaf("portals", since); }

  const Address kNear = *Address::parse("198.18.1.1"), kNear6 = *Address::parse("2001:db8:1::1");
  const Address kFar = *Address::parse("198.18.2.1");
  const Clock::time_point start_ = Clock::now();
  Config config_;
  uint64_t version_ = 1;
  size_t questions_ = 0, looks_ = 0, verified_ = 0;
  const OwnSide::Gateway kRouter{2, *Address::parse("198.18.1.254")};
  const OwnSide::Gateway kUplink{3, *Address::parse("198.18.2.254")};
  std::map<Address, OwnSide::Gateway> behind_;
  std::set<OwnSide::Gateway> port_gateways_;
  std::map<OwnSide::Gateway, OwnSide::Presence> presence_;
  std::map<Address, int> devices_ = {{kNear, 2}, {kNear6, 2}, {kFar, 3}};
  std::map<int, std::string> names_ = {{2, "eth0"}, {3, "wan"}};
  std::map<int, Clock::time_point> up_ = {{2, start_}, {3, start_}};
  OwnSide own_side_{
      {.look = [this] { ++looks_; },
       .version = [this] { return version_; },
       .device_to = [this](const Address& to) -> std::optional<int> {
         ++questions_;
         return devices_.contains(to) ? std::optional(devices_.at(to)) : std::nullopt;
       },
       .is_up_since = [this](int device, auto since) { return up_.contains(device) && up_[device] <= since; },
       .interface_of = [this](int device) { return names_[device]; },
       .gateway_to = [this](const Address& to) -> std::optional<OwnSide::Gateway> {
         return behind_.contains(to) ? std::optional(behind_.at(to)) : std::nullopt;
       },
       .gateways = [this] { return port_gateways_; },
       .presence = [this](const OwnSide::Gateway& gateway) { return presence_[gateway]; },
       .verify = [this](const OwnSide::Gateway&) { ++verified_; }}};
};

TEST_F(OwnSideTest, IsDeafWhereNoWayHadCarrierAllTheTime) {
  up_.erase(3);
  EXPECT_EQ(why(start_), "") << "portal-1 can be heard";
  up_.erase(2);
  EXPECT_EQ(why(start_), "wan has no carrier");
  EXPECT_EQ(own_side_.why_deaf("others", start_), "eth0 has no carrier");
  up_[2] = start_ + 5s;
  EXPECT_NE(why(start_ + 4s), "") << "carrier came back in the middle";
  EXPECT_EQ(why(start_ + 5s), "");
  EXPECT_EQ(own_side_.why_deaf("nobody", start_), "");
}

TEST_F(OwnSideTest, ATapHearsOnlyThroughADataplaneThatForwards) {
  up_.erase(2);
  EXPECT_EQ(why(start_ + 9s), "no dataplane forwards for wan");
  own_side_.note_forwarding(true, start_ + 1s);
  own_side_.note_forwarding(true, start_ + 2s);
  EXPECT_NE(why(start_), "");
  EXPECT_EQ(why(start_ + 1s), "");
  own_side_.note_forwarding(false, start_ + 3s);
  EXPECT_NE(why(start_ + 2s), "");
  up_[2] = start_;
  EXPECT_EQ(why(start_ + 2s), "") << "eth0 needs no dataplane";
}

TEST_F(OwnSideTest, ABackendThatNeverHadARouteIsAMatterOfConfiguration) {
  up_.clear();
  devices_.erase(kFar);
  EXPECT_EQ(why(start_), "eth0 has no carrier") << "portal-1 alone counts";
  devices_.clear();
  ++version_;
  OwnSide late = own_side_;
  late.follow(config_);
  EXPECT_EQ(late.why_deaf("portals", start_), "eth0 has no carrier") << "it had one";
}

TEST_F(OwnSideTest, RemembersThePortWhoseRoutesWentWithItsCarrier) {
  own_side_.note_forwarding(true, start_);
  EXPECT_EQ(why(start_), "");
  up_ = {{9, start_}};
  names_[9] = "mgmt0";
  devices_ = {{kNear, 9}, {kFar, 9}};  // by the default route; none for IPv6
  ++version_;
  EXPECT_EQ(why(start_), "wan has no carrier");
  names_[4] = "eth0";  // a second uplink is another matter: it can be heard by that
  up_[4] = start_;
  devices_[kNear] = 4;
  ++version_;
  EXPECT_EQ(why(start_), "");
  up_[2] = up_[3] = start_;
  devices_ = {{kNear, 9}, {kFar, 9}};
  ++version_;
  EXPECT_EQ(why(start_), "") << "there is carrier: whoever changed the routes wanted it so";
}

TEST_F(OwnSideTest, SilenceCountsSoonAfterTheFirstAnswerOnceCarrierIsBack) {
  own_side_.note_forwarding(true, start_ - 1h);
  up_ = {{2, start_ - 1h}, {3, start_ - 1h}};
  own_side_.note_answer("portals", start_);
  EXPECT_EQ(own_side_.why_unheard("portals", start_), "") << "it was never lost";
  const auto back = start_ + 60s;
  up_ = {{2, back}, {3, back}};
  const auto unheard = [&](auto began) { return own_side_.why_unheard("portals", began); };
  EXPECT_EQ(unheard(back - 1s), "wan has no carrier");
  EXPECT_EQ(unheard(back + 3s), "wan has no carrier until a moment ago") << "nobody has answered since";
  own_side_.note_answer("portals", back + 4s);
  EXPECT_NE(unheard(back + 4s), "") << "the others' addresses may not be known yet";
  own_side_.note_answer("portals", back + 5s);
  EXPECT_EQ(unheard(back + 4s + OwnSide::kResolving), "") << "that counts from the first answer on";
  EXPECT_EQ(own_side_.why_unheard("others", back + 6s), "eth0 has no carrier until a moment ago");
  EXPECT_EQ(own_side_.why_unheard("others", back + OwnSide::kSettling), "");

  const auto again = back + 6s;
  up_ = {{2, again}, {3, again}};
  EXPECT_NE(unheard(again + 2s), "") << "answers of before count no more";
  own_side_.note_answer("portals", again + 2s);
  EXPECT_NE(unheard(again + 3s), "");
  EXPECT_EQ(unheard(again + 2s + OwnSide::kResolving), "");
}

TEST_F(OwnSideTest, WithoutAnyWayEverNobodyIsSpared) {
  devices_.clear();
  up_.clear();
  EXPECT_EQ(why(start_), "");
}

TEST_F(OwnSideTest, AsksForWaysOnlyWhenTheyMayHaveChanged) {
  own_side_.note_forwarding(true, start_);
  why(start_);
  const size_t asked = questions_;
  for (int i = 0; i < 100; ++i) why(start_);
  EXPECT_EQ(questions_, asked);
  EXPECT_GT(looks_, 0u);
  devices_[kFar] = 2;
  up_.erase(2);
  EXPECT_EQ(why(start_), "") << "the kernel has not told";
  ++version_;
  EXPECT_EQ(why(start_), "eth0 has no carrier");
  names_[2] = "eth7";
  config_.dataplane.ports = {{.name = "eth7"}};
  own_side_.follow(config_);
  EXPECT_EQ(why(start_), "eth7 has no carrier");
}

TEST_F(OwnSideTest, TellsOneLostLinkFromAll) {
  own_side_.note_forwarding(true, start_ - 1h);
  EXPECT_EQ(own_side_.signs(start_).some_link, "");
  up_.erase(3);
  EXPECT_EQ(own_side_.signs(start_).some_link, "wan has no carrier");
  EXPECT_EQ(own_side_.signs(start_).all_links, "");
  up_.erase(2);
  EXPECT_NE(own_side_.signs(start_).all_links, "");
}

TEST_F(OwnSideTest, AsksTheGatewaysAnewBeforeItBelievesThem) {
  using enum OwnSigns::Gateways;
  using enum OwnSide::Presence;
  EXPECT_EQ(own_side_.signs(start_).gateways, none);
  behind_ = {{kNear, kRouter}};
  port_gateways_ = {kUplink};
  presence_ = {{kRouter, there}, {kUplink, lost}};
  ++version_;
  EXPECT_EQ(own_side_.signs(start_).gateways, asked) << "it was there before";
  EXPECT_EQ(verified_, 1u) << "the uplink's says nothing where backends are behind another";
  EXPECT_EQ(own_side_.signs(start_ + 200ms).gateways, answer);
  EXPECT_EQ(verified_, 1u);
  presence_[kRouter] = unknown;
  EXPECT_EQ(own_side_.signs(start_ + 1s).gateways, asked);
  EXPECT_EQ(verified_, 2u);
  presence_[kRouter] = lost;
  EXPECT_EQ(own_side_.signs(start_ + 2s).gateways, silent);
  EXPECT_EQ(own_side_.signs(start_ + 2s).gateway, "198.18.1.254");
  presence_[kRouter] = there;
  own_side_.forget_gateways();
  EXPECT_EQ(own_side_.signs(start_ + 9s).gateways, asked) << "another silence, another question";
}

TEST_F(OwnSideTest, AGatewayThatLeadsToNoBackendSpeaksAgainstTheOwnSideOnly) {
  using enum OwnSigns::Gateways;
  port_gateways_ = {kUplink};
  presence_ = {{kUplink, OwnSide::Presence::there}};
  own_side_.signs(start_);
  EXPECT_EQ(own_side_.signs(start_ + 1s).gateways, none);
  presence_ = {{kUplink, OwnSide::Presence::lost}};
  EXPECT_EQ(own_side_.signs(start_ + 2s).gateways, silent);
}

}  // namespace
}  // namespace portico
