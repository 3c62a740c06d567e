// SPDX-License-Identifier: Apache-2.0
#include "control/config_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "control/printable.h"

namespace portico {

namespace {

// The name of a value for messages; an item goes by its list's name.
std::string_view last_part(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash != std::string_view::npos && path.substr(slash).starts_with("/#"))
    return last_part(path.substr(0, slash));
  return path.substr(slash + 1);
}

// Complains unless the node is a scalar of characters that show.
bool is_text(ConfigReader& reader, const YamlNode& node, const std::string& path, std::string_view expected) {
  if (node.kind != YamlNode::Kind::scalar) {
    reader.error(node.mark,
                 fmt::format("`{}` is {}; write {}", last_part(path), describe(node.kind), expected));
    return false;
  }
  const bool printable = is_printable(node.text);
  if (!printable) {
    reader.error(
        node.mark,
        fmt::format("`{}` contains control characters, or other characters that do not show, or is not "
                    "UTF-8; write {}",
                    last_part(path), expected));
  }
  return printable;
}

// Reports keys that stand twice.
void report_duplicates(ConfigReader& reader, const YamlNode& node) {
  for (size_t i = 0; i < node.keys.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (node.keys[i].text != node.keys[j].text) continue;
      reader.error(node.keys[i].mark, fmt::format("`{}` is already given on line {}; remove one of them",
                                                  node.keys[i].text, node.keys[j].mark.line));
      break;
    }
  }
}

}  // namespace

Mark ConfigReader::mark(std::string path) const {
  while (true) {
    const Source* found = source(path);
    if (found != nullptr && found->mark.line > 0) return found->mark;
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return {};
    path.resize(slash);
  }
}

bool ConfigReader::has_errors() const {
  return std::ranges::any_of(messages_, &ConfigMessage::is_error);
}

std::vector<ConfigMessage> ConfigReader::take_messages() {
  std::ranges::stable_sort(messages_, [](const ConfigMessage& a, const ConfigMessage& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  // One value that several others inherit is one mistake.
  const auto same = [](const ConfigMessage& a, const ConfigMessage& b) {
    return a.line == b.line && a.column == b.column && a.text == b.text;
  };
  messages_.erase(std::unique(messages_.begin(), messages_.end(), same), messages_.end());
  return std::move(messages_);
}

bool read_text(ConfigReader& reader, const YamlNode& node, const std::string& path, std::string& out) {
  if (!is_text(reader, node, path, "a text")) return false;
  if (node.text.size() >= kTextSize) {
    reader.error(node.mark, fmt::format("`{}` has {} characters; at most {} are possible", last_part(path),
                                        node.text.size(), kTextSize - 1));
    return false;
  }
  out = node.text;
  reader.set_source(path, {node.mark, {}});
  return true;
}

bool read_number(ConfigReader& reader, const YamlNode& node, const std::string& path, uint64_t least,
                 uint64_t most, uint64_t& out) {
  const std::string expected = fmt::format("a whole number from {} to {}", least, most);
  if (!is_text(reader, node, path, expected)) return false;
  const auto value = parse_number(node.text);
  if (!value || *value < least || *value > most) {
    reader.error(node.mark, fmt::format("`{}` is `{}`; write {}", last_part(path), node.text, expected));
    return false;
  }
  out = *value;
  reader.set_source(path, {node.mark, {}});
  return true;
}

bool read_duration(ConfigReader& reader, const YamlNode& node, const std::string& path, Milliseconds least,
                   Milliseconds most, Milliseconds& out) {
  const std::string expected = fmt::format("a duration from {} to {}, such as 100ms, 2s or 2h4m",
                                           format_duration(least), format_duration(most));
  if (!is_text(reader, node, path, expected)) return false;
  const auto value = parse_duration(node.text);
  if (!value || *value < least || *value > most) {
    reader.error(node.mark, fmt::format("`{}` is `{}`; write {}", last_part(path), node.text, expected));
    return false;
  }
  out = *value;
  reader.set_source(path, {node.mark, {}});
  return true;
}

bool read_word(ConfigReader& reader, const YamlNode& node, const std::string& path,
               std::span<const std::string_view> words, size_t& index) {
  const std::string expected = join_choices(words);
  if (!is_text(reader, node, path, expected)) return false;
  const auto found = std::ranges::find(words, node.text);
  if (found == words.end()) {
    const auto meant = closest(node.text, words);
    reader.error(node.mark, fmt::format("`{}` is `{}`; write {}{}", last_part(path), node.text, expected,
                                        meant ? fmt::format(" (did you mean `{}`?)", *meant) : ""));
    return false;
  }
  index = static_cast<size_t>(found - words.begin());
  reader.set_source(path, {node.mark, {}});
  return true;
}

std::vector<const YamlNode*> read_items(ConfigReader& reader, const YamlNode& node, const std::string& path) {
  std::vector<const YamlNode*> items;
  if (node.kind == YamlNode::Kind::list) {
    for (const YamlNode& item : node.items) items.push_back(&item);
    if (items.empty()) {
      reader.error(node.mark, fmt::format("`{}` is an empty list; write at least one item", last_part(path)));
    }
  } else if (node.kind == YamlNode::Kind::null) {
    reader.error(node.mark, fmt::format("`{}` is empty; write a value or a list", last_part(path)));
  } else {
    items.push_back(&node);
  }
  if (!items.empty()) reader.set_source(path, {node.mark, {}});
  return items;
}

MapFields::MapFields(ConfigReader& reader, const YamlNode& node, std::string path)
    : reader_(reader), node_(node), path_(std::move(path)) {
  if (node_.kind != YamlNode::Kind::map) {
    const std::string_view name = path_.empty() ? "the configuration" : last_part(path_);
    reader_.error(node_.mark,
                  fmt::format("`{}` is {}; write a map of keys and values", name, describe(node_.kind)));
  }
  report_duplicates(reader_, node_);
}

const YamlNode* MapFields::node_of(std::string_view key) const {
  for (size_t i = 0; i < node_.keys.size(); ++i) {
    if (node_.keys[i].text == key) return &node_.items[i];
  }
  return nullptr;
}

const Mark* MapFields::key_mark(std::string_view key) const {
  for (const YamlNode& node : node_.keys) {
    if (node.text == key) return &node.mark;
  }
  return nullptr;
}

const YamlNode* MapFields::find(std::string_view key) {
  if (std::ranges::find(known_, key) == known_.end()) known_.push_back(key);
  return node_of(key);
}

const YamlNode* MapFields::require(std::string_view key, Mark owner, std::string_view example) {
  const YamlNode* node = find(key);
  if (node == nullptr && node_.kind == YamlNode::Kind::map) {
    reader_.error(owner, fmt::format("`{}` is missing; add `{}`", key, example));
  }
  return node;
}

bool MapFields::text(std::string_view key, std::string& out) {
  const YamlNode* node = find(key);
  return node != nullptr && read_text(reader_, *node, path_of(key), out);
}

bool MapFields::duration(std::string_view key, Milliseconds least, Milliseconds most, Milliseconds& out) {
  const YamlNode* node = find(key);
  return node != nullptr && read_duration(reader_, *node, path_of(key), least, most, out);
}

void MapFields::finish() {
  for (const YamlNode& key : node_.keys) {
    if (std::ranges::find(known_, key.text) != known_.end()) continue;
    const auto meant = closest(key.text, known_);
    const std::string hint = meant ? fmt::format("did you mean `{}`?", *meant)
                                   : fmt::format("the keys here are {}", join_choices(known_));
    reader_.error(key.mark, fmt::format("unknown key `{}`; {}", key.text, hint));
  }
}

std::vector<NamedNode> named_entries(ConfigReader& reader, const YamlNode& node, const std::string& path) {
  std::vector<NamedNode> entries;
  if (node.kind != YamlNode::Kind::map || node.keys.empty()) {
    reader.error(node.mark,
                 fmt::format("`{}` is {}; write a map from names to what they name", last_part(path),
                             node.kind == YamlNode::Kind::map ? "empty" : describe(node.kind)));
    return entries;
  }
  std::map<std::string_view, int> line_of;
  for (size_t i = 0; i < node.keys.size(); ++i) {
    const YamlNode& key = node.keys[i];
    const auto [first, is_new] = line_of.emplace(key.text, key.mark.line);
    std::string problem;
    if (!is_new) {
      reader.error(key.mark, fmt::format("`{}` is already defined on line {}; rename or remove one of them",
                                         key.text, first->second));
    } else if (!is_good_name(key.text, problem)) {
      reader.error(key.mark, problem);
    } else {
      reader.set_source(path + "/" + key.text, {key.mark, {}});
      entries.push_back({key.text, key.mark, &node.items[i]});
    }
  }
  return entries;
}

}  // namespace portico
