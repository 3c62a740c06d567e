// SPDX-License-Identifier: Apache-2.0
#include "control/cli/top.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace portico::cli {
namespace {

using nlohmann::json;

json backend(const std::string& name, const std::string& health, const std::string& admin, double share,
             uint64_t flows, double bits) {
  return {{"name", name},
          {"health", health},
          {"admin", admin},
          {"share", share},
          {"flows", flows},
          {"bits_per_second", bits},
          {"new_per_second", bits / 1000},
          {"checks", {{{"latency_us", flows}}}}};
}

json status() {
  return {{"services", {{{"name", "web"}, {"level", "degraded"}, {"flows", 5}}}},
          {"pools",
           {{{"name", "b"},
             {"backends",
              {backend("two", "up", "active", 0.2, 100, 1e6), backend("one", "down", "active", 0, 7, 0)}}},
            {{"name", "a"},
             {"backends",
              {backend("three", "up", "drained", 0, 2000, 5e6),
               backend("four", "up", "active", 0.8, 3, 2e6)}}}}}};
}

std::string names(std::string_view order) {
  std::string out;
  const json reading = top_reading(status(), order);
  for (const json& row : reading.at("backends"))
    out += row.at("pool").get<std::string>() + "/" + row.at("name").get<std::string>() + " ";
  return out;
}

TEST(Top, OrdersAreWhatTheySay) {
  EXPECT_EQ(names("pool"), "a/four a/three b/one b/two ");
  EXPECT_EQ(names("state"), "b/one a/three a/four b/two ");
  EXPECT_EQ(names("share"), "a/four b/two a/three b/one ");
  EXPECT_EQ(names("flows"), "a/three b/two b/one a/four ");
  EXPECT_EQ(names("new"), "a/three a/four b/two b/one ");
  EXPECT_EQ(names("bits"), "a/three a/four b/two b/one ");
  EXPECT_EQ(names("check"), "a/three b/two b/one a/four ");
}

TEST(Top, RowsSayWhatBackendsDo) {
  TopState state{.order = "flows", .selected = "b/two", .head = "edge-1\n", .prompt = ""};
  EXPECT_EQ(top_screen(top_reading(status(), state.order), state, 24, 72, Style(false)),
            "edge-1\n"
            "SERVICE  FLOWS  NEW/s  BIT/s\n"
            "web          5      0      0\n"
            "\n"
            "   BACKEND  STATE    SHARE  FLOWS  NEW/s  BIT/s   CHECK\n"
            "   a/three  DRAINED     0%  2,000  5,000   5.0M  2.0 ms\n"
            ">  b/two    UP         20%    100  1,000   1.0M  0.1 ms\n"
            "   b/one    DOWN        0%      7      0      0  0.0 ms\n"
            "   a/four   UP         80%      3  2,000   2.0M  0.0 ms\n"
            "up/down: choose   s: order   d: drain   h: hold   r: resume   space: now\n");
}

TEST(Top, AnyScreenHasTheChosenBackendAndNoMoreThanItsRows) {
  json many = {{"pools", {{{"name", "p"}, {"backends", json::array()}}}}, {"services", json::array()}};
  for (int i = 0; i < 500; ++i)
    many["pools"][0]["backends"].push_back(backend("b" + std::to_string(1000 + i), "up", "active", 0, 1, 0));
  const json reading = top_reading(many, "pool");
  for (const size_t rows : {7, 8, 24, 60}) {
    for (const char* chosen : {"p/b1000", "p/b1250", "p/b1499"}) {
      TopState state{.order = "pool", .selected = chosen, .head = "head\n", .prompt = ""};
      const std::string screen = top_screen(reading, state, rows, 80, Style(true));
      EXPECT_LE(static_cast<size_t>(std::ranges::count(screen, '\n')), rows);
      EXPECT_NE(screen.find(std::string(">  ") + chosen), std::string::npos) << rows << screen;
    }
  }
  EXPECT_EQ(top_neighbour(reading, "p/b1499", 1), "p/b1499");
  EXPECT_EQ(top_neighbour(reading, "p/b1499", -1), "p/b1498");
  EXPECT_EQ(top_neighbour(reading, "gone", 1), "p/b1001");
}

TEST(Top, AStatusOfNothingIsShown) {
  TopState state;
  const json reading = top_reading(json::object(), "pool");
  EXPECT_NE(top_screen(reading, state, 1, 1, Style(false)), "");
  EXPECT_EQ(state.selected, "");
}

TEST(Top, CutsCharactersNotColours) {
  EXPECT_EQ(cut_line("abc", 2), "ab");
  EXPECT_EQ(cut_line("\x1b[32mab\x1b[0mc", 1), "\x1b[32ma\x1b[0m");
  EXPECT_EQ(cut_line("\xc3\xa4\xc3\xb6x", 2), "\xc3\xa4\xc3\xb6");
}

}  // namespace
}  // namespace portico::cli
