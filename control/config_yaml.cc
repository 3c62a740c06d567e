// SPDX-License-Identifier: Apache-2.0
#include "control/config_yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <sstream>

namespace portico {

namespace {

Mark from_yaml(const YAML::Mark& mark) {
  return mark.is_null() ? Mark{} : Mark{mark.line + 1, mark.column + 1};
}

// Builds the tree from the parser's events. `open_` is the path from the root to the container being filled.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(YamlNode::Kind::null, mark, {}); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    throw YAML::ParserException(mark, "aliases are not supported; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string& value) override {
    add(YamlNode::Kind::scalar, mark, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::list, mark);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    open(YamlNode::Kind::map, mark);
  }
  void OnMapEnd() override { close(); }

 private:
  void add(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& text) {
    YamlNode node;
    node.kind = kind;
    node.mark = from_yaml(mark);
    node.text = text;
    attach(std::move(node), mark);
  }

  void open(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.mark = from_yaml(mark);
    open_.push_back(std::move(node));
    if (awaits_key(open_.size() - 1)) throw YAML::ParserException(mark, "a key must be a plain word");
  }

  void close() {
    YamlNode node = std::move(open_.back());
    open_.pop_back();
    attach(std::move(node), YAML::Mark::null_mark());
  }

  // Whether the container above position `depth` of `open_` is a map whose next node is a key.
  bool awaits_key(size_t depth) const {
    if (depth == 0) return false;
    const YamlNode& parent = open_[depth - 1];
    return parent.kind == YamlNode::Kind::map && parent.keys.size() == parent.items.size();
  }

  void attach(YamlNode node, const YAML::Mark& mark) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    if (!awaits_key(open_.size())) {
      open_.back().items.push_back(std::move(node));
      return;
    }
    if (node.kind != YamlNode::Kind::scalar) throw YAML::ParserException(mark, "a key must be a plain word");
    open_.back().keys.push_back(std::move(node));
  }

  YamlNode root_;
  std::vector<YamlNode> open_;
};

}  // namespace

std::string describe(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::null:
      return "nothing";
    case YamlNode::Kind::scalar:
      return "a single value";
    case YamlNode::Kind::list:
      return "a list";
    case YamlNode::Kind::map:
      return "a map";
  }
  return {};
}

std::variant<YamlNode, ConfigMessage> parse_yaml(const std::string& text) {
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    TreeBuilder builder;
    if (!parser.HandleNextDocument(builder))
      return ConfigMessage{true, 0, 0, "the file is empty; start with `version: 1`"};
    YamlNode root = builder.take_root();
    TreeBuilder second;
    if (parser.HandleNextDocument(second)) {
      const Mark mark = second.take_root().mark;
      return ConfigMessage{true, mark.line, mark.column, "a second document (`---`); a configuration is one"};
    }
    return root;
  } catch (const YAML::Exception& e) {
    const Mark mark = from_yaml(e.mark);
    return ConfigMessage{true, mark.line, mark.column,
                         fmt::format("not valid YAML: {}; look at the indentation, brackets and quotes here "
                                     "(an IPv6 listener needs quotes: \"[2001:db8::10]:443\")",
                                     e.msg)};
  }
}

}  // namespace portico
