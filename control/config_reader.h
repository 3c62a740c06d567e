// SPDX-License-Identifier: Apache-2.0
// Reads typed values out of a YAML tree, collecting every complaint instead of stopping at the first, and
// remembering where each value of the configuration came from.
//
// A value is named by its path, the keys from the root with '/' between; list items are numbered from 0:
// "services/portal/listen/#0".
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "control/config.h"
#include "control/config_text.h"
#include "control/config_yaml.h"

namespace portico {

// Where a value is from: a line of the file, or the reason for its default.
struct Source {
  Mark mark;
  std::string note;  // "default", "implied by service portal", ...
};

class ConfigReader {
 public:
  void error(Mark mark, std::string text) {
    messages_.push_back({true, mark.line, mark.column, std::move(text)});
  }
  void warning(Mark mark, std::string text) {
    messages_.push_back({false, mark.line, mark.column, std::move(text)});
  }

  void set_source(const std::string& path, Source source) { sources_[path] = std::move(source); }
  const Source* source(const std::string& path) const {
    const auto found = sources_.find(path);
    return found == sources_.end() ? nullptr : &found->second;
  }
  // The place of a value, or of the nearest container above it that has one.
  Mark mark(std::string path) const;

  bool has_errors() const;
  // All messages so far, by place.
  std::vector<ConfigMessage> take_messages();

 private:
  std::vector<ConfigMessage> messages_;
  std::map<std::string, Source> sources_;
};

// Each reads one node into `out` and remembers its source, or complains and leaves `out` alone.
// `path` is the value's path; its last part names it in messages.
bool read_text(ConfigReader& reader, const YamlNode& node, const std::string& path, std::string& out);
bool read_number(ConfigReader& reader, const YamlNode& node, const std::string& path, uint64_t least,
                 uint64_t most, uint64_t& out);
bool read_duration(ConfigReader& reader, const YamlNode& node, const std::string& path, Milliseconds least,
                   Milliseconds most, Milliseconds& out);
// The index of the node's text in `words`.
bool read_word(ConfigReader& reader, const YamlNode& node, const std::string& path,
               std::span<const std::string_view> words, size_t& index);
// A scalar as a list of one, or the items of a list, which must not be empty. Complains and returns nothing
// otherwise.
std::vector<const YamlNode*> read_items(ConfigReader& reader, const YamlNode& node, const std::string& path);

// The keys of one map. Duplicate keys and values that are not a map are reported at once, keys that nobody
// asked for by finish().
class MapFields {
 public:
  // `node` must outlive this.
  MapFields(ConfigReader& reader, const YamlNode& node, std::string path);

  // The value of a key, or null. The key is from then on a known one.
  const YamlNode* find(std::string_view key);
  // The same; complains at `owner` if the key is missing.
  const YamlNode* require(std::string_view key, Mark owner, std::string_view example);
  // Where the key stands; null if absent.
  const Mark* key_mark(std::string_view key) const;
  std::string path_of(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "/" + std::string(key);
  }

  // Typed values by key; true if present and well-formed.
  bool text(std::string_view key, std::string& out);
  template <typename T>
  bool number(std::string_view key, uint64_t least, uint64_t most, T& out) {
    const YamlNode* node = find(key);
    uint64_t value = 0;
    if (node == nullptr || !read_number(reader_, *node, path_of(key), least, most, value)) return false;
    out = static_cast<T>(value);
    return true;
  }
  // A number, or `word`, which stands for 0.
  template <typename T>
  bool number_or(std::string_view word, std::string_view key, uint64_t least, uint64_t most, T& out) {
    const YamlNode* node = find(key);
    if (node == nullptr || node->kind != YamlNode::Kind::scalar || node->text != word)
      return number(key, least, most, out);
    out = 0;
    reader_.set_source(path_of(key), {node->mark, {}});
    return true;
  }
  bool duration(std::string_view key, Milliseconds least, Milliseconds most, Milliseconds& out);
  template <typename Choices, typename T>
  bool choice(std::string_view key, const Choices& choices, T& out) {
    const YamlNode* node = find(key);
    if (node == nullptr) return false;
    std::vector<std::string_view> words;
    for (const auto& choice : choices) words.push_back(choice.word);
    size_t index = 0;
    if (!read_word(reader_, *node, path_of(key), words, index)) return false;
    out = choices[index].value;
    return true;
  }

  // Reports the keys that nobody asked for.
  void finish();

 private:
  const YamlNode* node_of(std::string_view key) const;

  ConfigReader& reader_;
  const YamlNode& node_;
  std::string path_;
  std::vector<std::string_view> known_;
};

// One entry of a map from names that people choose.
struct NamedNode {
  std::string name;
  Mark mark;
  const YamlNode* value;
};
// The entries of such a map, in the file's order. Reports bad and repeated names, which are left out, and an
// empty map.
std::vector<NamedNode> named_entries(ConfigReader& reader, const YamlNode& node, const std::string& path);

}  // namespace portico
