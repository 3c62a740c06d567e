// SPDX-License-Identifier: Apache-2.0
// Each row of the table in docs/health.md, and what happens between them.
#include "control/isolation.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

using namespace std::chrono_literals;
using Gateways = OwnSigns::Gateways;
using LoopBack = OwnSigns::LoopBack;

OwnSigns well() {
  OwnSigns signs;
  signs.loop_back = LoopBack::answers;
  return signs;
}
OwnSigns with(OwnSigns signs, Gateways gateways) {
  signs.gateways = gateways;
  signs.gateway = "198.51.100.1";
  return signs;
}
OwnSigns all_links_lost() {
  OwnSigns signs = well();
  signs.all_links = signs.some_link = "eth0 has no carrier";
  return signs;
}
OwnSigns a_link_lost() {
  OwnSigns signs = well();
  signs.some_link = "eth1 has no carrier";
  return signs;
}
OwnSigns unreachable_by_itself() {
  OwnSigns signs = well();
  signs.loop_back = LoopBack::silent;
  return signs;
}

struct Row {
  const char* name;
  OwnSigns signs;
  Isolation state;
  const char* why;
};

class Judge : public testing::TestWithParam<Row> {};

TEST_P(Judge, SaysWhatSilenceMeans) {
  const Judgement judgement = judge(GetParam().signs);
  EXPECT_STREQ(to_string(judgement.state), to_string(GetParam().state));
  EXPECT_EQ(judgement.why.find(GetParam().why), 0u) << judgement.why;
}

const Row kRows[] = {
    {"all_well", well(), Isolation::backends_down, ""},
    {"all_well_and_a_gateway_answers", with(well(), Gateways::answer), Isolation::backends_down, ""},
    {"no_link", all_links_lost(), Isolation::cut_off, "eth0 has no carrier"},
    {"no_link_but_a_gateway", with(all_links_lost(), Gateways::answer), Isolation::cut_off, "eth0"},
    {"no_gateway", with(well(), Gateways::silent), Isolation::cut_off,
     "gateway 198.51.100.1 does not answer"},
    {"no_loop_back", unreachable_by_itself(), Isolation::cut_off, "control cannot reach itself"},
    {"no_loop_back_but_a_gateway", with(unreachable_by_itself(), Gateways::answer), Isolation::cut_off, ""},
    {"one_link_lost", a_link_lost(), Isolation::cut_off, "eth1 has no carrier"},
    {"one_link_lost_but_a_gateway", with(a_link_lost(), Gateways::answer), Isolation::backends_down, ""},
    {"one_link_lost_and_no_gateway", with(a_link_lost(), Gateways::silent), Isolation::cut_off, "eth1"},
    {"gateway_asked", with(well(), Gateways::asked), Isolation::examining, ""},
    {"one_link_lost_and_gateway_asked", with(a_link_lost(), Gateways::asked), Isolation::cut_off, "eth1"},
    {"loop_back_asked", OwnSigns{}, Isolation::examining, ""},
};
INSTANTIATE_TEST_SUITE_P(Rows, Judge, testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.name); });

class IsolationWatchTest : public testing::Test {
 protected:
  // After so much time more, nobody answering.
  Isolation silent(std::chrono::seconds later, const OwnSigns& signs) { return take(true, later, signs); }
  Isolation answered(std::chrono::seconds later) { return take(false, later, {}); }
  Isolation take(bool is_silence, std::chrono::seconds later, const OwnSigns& signs) {
    changed_ = watch_.note(is_silence, signs, now_ += later);
    return watch_.state();
  }

  IsolationWatch watch_;
  IsolationWatch::Clock::time_point now_{std::chrono::hours(1)};
  bool changed_ = false;
};

TEST_F(IsolationWatchTest, IsConnectedWhileSomebodyAnswersWhateverTheOwnSideIs) {
  EXPECT_EQ(take(false, 0s, all_links_lost()), Isolation::connected);
  EXPECT_FALSE(changed_);
  EXPECT_FALSE(watch_.keeps_table() || watch_.is_returning());
}

TEST_F(IsolationWatchTest, ExaminesItsOwnSideFirstButNotForEver) {
  const OwnSigns asked = with(well(), Gateways::asked);
  EXPECT_EQ(silent(0s, asked), Isolation::examining);
  EXPECT_TRUE(changed_ && watch_.keeps_table());
  EXPECT_EQ(silent(3s, with(well(), Gateways::answer)), Isolation::backends_down);
  EXPECT_FALSE(watch_.keeps_table());
  EXPECT_EQ(silent(1s, asked), Isolation::backends_down) << "asked anew: what was known stays";
  EXPECT_EQ(silent(1s, with(well(), Gateways::silent)), Isolation::cut_off);
  answered(1s);
  silent(20s, asked);
  EXPECT_EQ(silent(4s, asked), Isolation::examining);
  EXPECT_EQ(silent(1s, asked), Isolation::backends_down);
}

TEST_F(IsolationWatchTest, StaysCutOffForAWhileAfterItsOwnSideIsMended) {
  EXPECT_EQ(silent(0s, all_links_lost()), Isolation::cut_off);
  EXPECT_EQ(watch_.why(), "eth0 has no carrier");
  EXPECT_EQ(silent(9s, well()), Isolation::cut_off);
  EXPECT_EQ(watch_.why(), "eth0 has no carrier");
  EXPECT_EQ(silent(3s, with(well(), Gateways::asked)), Isolation::cut_off) << "it is not known to be mended";
  EXPECT_EQ(silent(1s, well()), Isolation::backends_down);
}

TEST_F(IsolationWatchTest, GivesNobodyUpUntilAllHaveHadTheTimeToReturn) {
  silent(0s, all_links_lost());
  EXPECT_EQ(answered(60s), Isolation::connected);
  EXPECT_TRUE(changed_ && watch_.is_returning());
  EXPECT_FALSE(watch_.keeps_table());
  answered(9s);
  EXPECT_FALSE(changed_);
  answered(1s);
  EXPECT_TRUE(changed_);
  EXPECT_FALSE(watch_.is_returning());
  silent(0s, well());
  EXPECT_EQ(watch_.state(), Isolation::backends_down);
  answered(1s);
  EXPECT_FALSE(watch_.is_returning()) << "it was not cut off";
}

}  // namespace
}  // namespace portico
