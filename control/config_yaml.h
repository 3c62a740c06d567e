// SPDX-License-Identifier: Apache-2.0
// A YAML document as a plain tree that keeps the place of every key and value, duplicates included
// (yaml-cpp's own nodes drop them from sight). Aliases and a second document are refused: each value of a
// configuration has one place.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "control/config.h"

namespace portico {

// A place in the file. Both count from 1; 0: the file as a whole.
struct Mark {
  int line = 0, column = 0;
};

struct YamlNode {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  Mark mark;
  std::string text;             // scalar
  std::vector<YamlNode> keys;   // map: the scalars before the colons
  std::vector<YamlNode> items;  // list: the items; map: the values, one per key
};

// What a node is, for messages: "a list", "a map", "nothing", "a value".
std::string describe(YamlNode::Kind kind);

// The document, or the one syntax error that ended the reading.
std::variant<YamlNode, ConfigMessage> parse_yaml(const std::string& text);

}  // namespace portico
