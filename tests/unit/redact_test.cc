// SPDX-License-Identifier: Apache-2.0
#include "control/cli/redact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>

namespace portico::cli {
namespace {

// With ' for ", which reads better here.
std::string text_of(const nlohmann::ordered_json& value) {
  std::string text = value.dump();
  std::ranges::replace(text, '"', '\'');
  return text;
}

std::string redacted(const std::string& text) {
  Scrubber scrubber;
  return text_of(redact_config(std::get<YamlNode>(parse_yaml(text)), scrubber));
}

TEST(Redact, KeysThatThereAreNotHideAllBelowThem) {
  EXPECT_EQ(redacted("instance: a\nlogin: {name: hunter2, list: [hunter2]}\n"),
            "{'instance':'a','(redacted)':{'name':'(redacted)','(redacted)':['(redacted)']}}");
  // A forgotten blank makes a key of a value.
  EXPECT_EQ(redacted("{instance: a, hash_key:5f1d6c3ab2e04d7798c1a6f0e2b35d48}"),
            "{'instance':'a','(redacted)':null}");
}

TEST(Redact, NamesOfPeopleAreShownWithWhatMayStandThere) {
  EXPECT_EQ(redacted("pools: {web: {backends: {send: 192.0.2.1, b: {address: '2001:db8::1'}, c: a word}}}"),
            "{'pools':{'web':{'backends':{'send':'192.0.2.1','b':{'address':'2001:db8::1'},"
            "'c':'(redacted)'}}}}");
  EXPECT_EQ(redacted("pools: {web: {checks: {a: 80, b: {kind: http, path: /x, host: h}}}}"),
            "{'pools':{'web':{'checks':{'a':'80','b':{'kind':'http','path':'(redacted)','host':'h'}}}}}");
  EXPECT_EQ(redacted("services: {'no name': {pool: x}}"),
            "{'services':{'(redacted)':{'pool':'(redacted)'}}}");
}

TEST(Redact, WhatWasTakenOutIsTakenOutElsewhere) {
  Scrubber scrubber;
  for (const char* secret : {"AUTH hunter2", "AUTH hunter2 and more", "abc"}) scrubber.add(secret);
  EXPECT_EQ(scrubber.clean("x AUTH hunter2 and more, AUTH hunter2AUTH hunter2; abc"),
            "x (redacted), (redacted)(redacted); abc");
  EXPECT_EQ(text_of(scrubber.clean_json({{"AUTH hunter2", {"AUTH hunter2", 1}}})),
            "{'(redacted)':['(redacted)',1]}");
}

// Each property of the schema, with whether its values are secrets.
void each_property(const nlohmann::json& schema, const std::function<void(const std::string&, bool)>& visit) {
  if (schema.is_object() && schema.contains("properties"))
    for (const auto& [key, property] : schema["properties"].items())
      visit(key, property.contains("writeOnly"));
  if (schema.is_structured())
    for (const auto& part : schema) each_property(part, visit);
}

TEST(Redact, KnowsEachKeyOfTheSchema) {
  std::ifstream file(std::string(PORTICO_SOURCE_ROOT) + "/control/schema/config.schema.json");
  int seen = 0;
  each_property(nlohmann::json::parse(file), [&](const std::string& key, bool is_secret) {
    EXPECT_EQ(is_harmless_key(key), !is_secret) << key;
    ++seen;
  });
  EXPECT_GT(seen, 60);
}

TEST(Redact, CommandLinesShowNoSecretWords) {
  EXPECT_EQ(redact_words("quiet  db_PASSWORD=abc iommu=pt token=\n"),
            "quiet db_PASSWORD=(redacted) iommu=pt token=(redacted)\n");
}

}  // namespace
}  // namespace portico::cli
