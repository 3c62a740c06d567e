// SPDX-License-Identifier: Apache-2.0
// Keeps secrets out of what is passed on. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "control/config_yaml.h"

namespace portico::cli {

inline constexpr std::string_view kRedacted = "(redacted)";

// Texts that must not appear, wherever they stand.
class Scrubber {
 public:
  // One shorter than 6 bytes is left out: it would stand in many words that are none.
  void add(const std::string& secret);
  std::string clean(std::string text) const;
  // Every text in it, keys included.
  nlohmann::ordered_json clean_json(const nlohmann::ordered_json& value) const;

 private:
  std::vector<std::string> secrets_;
};

// A configuration without comments, and with kRedacted in place of each value that is not of a key known to
// be harmless: `hash_key`, what checks send and expect, whatever stands under a key that there is none. What
// was taken out is added to `scrubber`.
nlohmann::ordered_json redact_config(const YamlNode& root, Scrubber& scrubber);

// Whether values of the key `key` are shown.
bool is_harmless_key(std::string_view key);

// The value behind `NAME=` in each word whose name says that it is a secret; for command lines.
std::string redact_words(const std::string& line);

}  // namespace portico::cli
