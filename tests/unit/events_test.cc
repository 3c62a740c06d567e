// SPDX-License-Identifier: Apache-2.0
#include "control/events.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "control/api/feed.h"

namespace portico {
namespace {

using nlohmann::json;

Event event(const std::string& text) {
  return {.at_ms = 5, .kind = Event::Kind::health, .text = text};
}

TEST(Events, ListsWhatCameAfterAnId) {
  EventLog log(1000);
  EXPECT_EQ(log.json_after(0), "[]");
  log.add(event("one"));
  log.add(event("two"));
  const json all = json::parse(log.json_after(0));
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0]["text"], "one");
  EXPECT_EQ(all[0]["kind"], "health");
  const json rest = json::parse(log.json_after(all[0]["id"]));
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0]["text"], "two");
  EXPECT_EQ(log.json_after(log.newest()), "[]");
}

TEST(Events, KeepsTheNewestWhenFull) {
  EventLog log(1000);
  for (size_t i = 0; i < 3 * kMaxEvents; ++i) log.add(event(std::to_string(i)));
  const json all = json::parse(log.json_after(0));
  ASSERT_EQ(all.size(), kMaxEvents);
  EXPECT_EQ(all.back()["text"], std::to_string(3 * kMaxEvents - 1));
  EXPECT_EQ(all.back()["id"], log.newest());
  EXPECT_EQ(all.front()["id"].get<uint64_t>() + kMaxEvents - 1, log.newest());
}

TEST(Events, ReadersMissNothingWhenControlIsStartedAnew) {
  EventLog before(1000);
  before.add(event("one"));
  EventLog after(1500);  // half a second later
  after.add(event("two"));
  EXPECT_EQ(json::parse(after.json_after(before.newest())).size(), 1u);
  EXPECT_EQ(json::parse(after.json_after(99'999)).size(), 1u) << "of a clock that was set back";
}

TEST(Events, BoundsAndEscapesTexts) {
  EventLog log(1000);
  log.add({.text = std::string(100'000, 'x'), .why = "\x1b[2J\xff"});
  const json all = json::parse(log.json_after(0));
  EXPECT_LT(all[0]["text"].get<std::string>().size(), kMaxEventText + 10);
  EXPECT_EQ(all[0]["why"], "\\x1b[2J\\xff");
}

TEST(Feed, PutsJsonOnOneLine) {
  const json value = {{"a", "x\n  y"}, {"b", {1, 2}}, {"c", json::object()}};
  EXPECT_EQ(on_one_line(value.dump(2)).find('\n'), std::string::npos);
  EXPECT_EQ(json::parse(on_one_line(value.dump(2))), value);
}

}  // namespace
}  // namespace portico
