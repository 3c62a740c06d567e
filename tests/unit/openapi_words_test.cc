// SPDX-License-Identifier: Apache-2.0
// The words that control/schema/openapi.json lists are those of the code.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "control/checks/check_state.h"
#include "control/checks/health.h"
#include "control/config_names.h"
#include "control/events.h"
#include "control/isolation.h"
#include "control/operator_state.h"
#include "control/plan.h"
#include "control/pool_rules.h"
#include "control/schema/schemas.h"

namespace portico {
namespace {

using Words = std::set<std::string>;

// Those of a member: "Backend/properties/admin".
Words listed(const std::string& place) {
  const auto document = nlohmann::json::parse(openapi_document());
  const nlohmann::json::json_pointer path("/components/schemas/" + place + "/enum");
  return document.at(path).get<Words>();
}

// Those of an enumeration's values from the first to `last`.
template <typename T>
Words words_to(T last) {
  Words words;
  for (int i = 0; i <= static_cast<int>(last); ++i) words.insert(std::string(to_string(static_cast<T>(i))));
  return words;
}

template <typename T, size_t N>
Words words_of_choices(const Choice<T> (&choices)[N]) {
  Words words;
  for (const auto& choice : choices) words.insert(std::string(choice.word));
  return words;
}

TEST(OpenApi, ListsTheWordsOfEnumerations) {
  EXPECT_EQ(listed("Check/properties/state"), words_to(CheckState::recovering));
  EXPECT_EQ(listed("Backend/properties/health"), words_to(HealthState::down));
  EXPECT_EQ(listed("Backend/properties/admin"), words_to(Admin::held));
  EXPECT_EQ(listed("Isolation/properties/state"), words_to(Isolation::cut_off));
  EXPECT_EQ(listed("Plan/properties/services/items/properties/change"), words_to(Change::changed));
  EXPECT_EQ(listed("Event/properties/kind"), words_to(Event::Kind::health));
  EXPECT_EQ(listed("Event/properties/level"), words_to(Event::Level::error));
  Words pool = words_to(PoolState::drop);
  pool.insert("unknown");  // while the first table is held back
  EXPECT_EQ(listed("Pool/properties/state"), pool);
}

TEST(OpenApi, ListsTheWordsOfTheConfiguration) {
  EXPECT_EQ(listed("Service/properties/mode"), words_of_choices(kModeChoices));
  EXPECT_EQ(listed("Service/properties/proxy_protocol"), words_of_choices(kProxyProtocolChoices));
  EXPECT_EQ(listed("Check/properties/kind"), words_of_choices(kCheckKindChoices));
  EXPECT_EQ(listed("Explanation/properties/affinity"), words_of_choices(kAffinityChoices));
}

// docs/health.md has a row for each state of a backend.
TEST(OpenApi, ListsTheStatesOfABackend) {
  std::ifstream file(std::string(PORTICO_SOURCE_ROOT) + "/docs/health.md");
  Words rows;
  bool is_there = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("## ")) is_there = line == "## States of a backend";
    if (is_there && line.starts_with("| `")) rows.insert(line.substr(3, line.find('`', 3) - 3));
  }
  EXPECT_EQ(listed("Backend/properties/state"), rows);
}

}  // namespace
}  // namespace portico
