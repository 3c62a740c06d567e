// SPDX-License-Identifier: Apache-2.0
#include "control/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "control/config_names.h"
#include "control/config_sections.h"
#include "control/printable.h"

namespace portico {

namespace {

// More than the largest configuration within contract/limits.h needs.
constexpr size_t kMaxFileSize = 16u << 20;
constexpr const char* kTooLarge = "the file is larger than 16 MiB; that is no configuration";

std::string host_name() {
  char name[kNameSize] = {};
  std::string problem;
  if (gethostname(name, sizeof name - 1) != 0 || !is_good_name(name, problem)) return "portico";
  return name;
}

void read_version(ConfigReader& reader, MapFields& fields, Mark root) {
  const YamlNode* node = fields.require("version", root, "version: 1");
  if (node == nullptr) return;
  std::string version;
  if (!read_text(reader, *node, "version", version) || version == "1") return;
  reader.error(node->mark, fmt::format("`version` is `{}`; this program reads version 1", version));
}

void read_instance(ConfigReader& reader, MapFields& fields, Config& config) {
  std::string problem;
  if (!fields.text("instance", config.instance)) {
    config.instance = host_name();
    reader.set_source("instance", {{}, "default, the host's name"});
  } else if (!is_good_name(config.instance, problem)) {
    reader.error(reader.mark("instance"), problem);
  }
}

void read_zone(ConfigReader& reader, MapFields& fields, Config& config) {
  std::string problem;
  if (fields.text("zone", config.zone) && !is_good_name(config.zone, problem))
    reader.error(reader.mark("zone"), problem);
}

void read_hash_key(ConfigReader& reader, MapFields& fields, Config& config) {
  std::string text;
  if (fields.text("hash_key", text)) {
    if (parse_hash_key(text, config.hash_key)) return;
    reader.error(reader.mark("hash_key"),
                 "`hash_key` is not 32 hexadecimal digits; make one with `openssl rand -hex 16`");
  } else if (fields.find("hash_key") == nullptr) {
    reader.warning(
        {},
        "no `hash_key`: whoever knows this program can aim connections at one backend; make one with "
        "`openssl rand -hex 16`, the same on all balancers of a group");
  }
}

ConfigDraft read_tree(ConfigReader& reader, const YamlNode& root) {
  ConfigDraft draft;
  MapFields fields(reader, root, "");
  if (root.kind != YamlNode::Kind::map) return draft;
  const Mark start = root.mark;
  read_version(reader, fields, start);
  read_instance(reader, fields, draft.config);
  read_zone(reader, fields, draft.config);
  fields.choice("vip_address", kVipAddressChoices, draft.config.vip_address);
  read_hash_key(reader, fields, draft.config);
  if (const YamlNode* node = fields.require("dataplane", start, "dataplane: {ports: [enp3s0f0]}")) {
    read_dataplane(reader, *node, draft.config.dataplane);
  }
  if (const YamlNode* node = fields.find("nat")) {
    reader.set_source("nat", {*fields.key_mark("nat"), {}});
    read_nat(reader, *node, draft.config.nat);
  }
  if (const YamlNode* node = fields.find("tunnel")) {
    reader.set_source("tunnel", {*fields.key_mark("tunnel"), {}});
    read_tunnel(reader, *node, draft.config.tunnel);
  }
  if (const YamlNode* node =
          fields.require("services", start, "services: {NAME: {listen: ADDRESS:PORT, pool: NAME}}")) {
    reader.set_source("services", {*fields.key_mark("services"), {}});
    read_services(reader, *node, draft.config);
  }
  if (const YamlNode* node = fields.require("pools", start, "pools: {NAME: {backends: {NAME: ADDRESS}}}")) {
    read_pools(reader, *node, draft);
  }
  fields.finish();
  add_implied_checks(reader, draft);
  settle_proxy_protocol(reader, draft);
  cross_check(reader, draft);
  return draft;
}

ConfigResult failure(std::string text) {
  ConfigResult result;
  result.messages.push_back({true, 0, 0, std::move(text)});
  return result;
}

// `directory`: where credentials files are looked for; null: the host is left out.
// Messages quote what the file says.
void make_printable(ConfigResult& result) {
  for (ConfigMessage& message : result.messages) message.text = to_printable(message.text);
}

ConfigResult parse(const std::string& text, const std::string& name, const std::string* directory) {
  if (text.size() > kMaxFileSize) return failure(kTooLarge);
  auto tree = parse_yaml(text);
  ConfigResult result;
  result.text = text;
  if (auto* message = std::get_if<ConfigMessage>(&tree)) {
    result.messages.push_back(std::move(*message));
    make_printable(result);
    return result;
  }
  ConfigReader reader;
  ConfigDraft draft = read_tree(reader, std::get<YamlNode>(tree));
  if (directory != nullptr) check_host(reader, *directory, draft.config);
  if (!reader.has_errors()) {
    result.effective = effective_yaml(reader, draft.config, name);
    result.config = std::move(draft.config);
  }
  result.messages = reader.take_messages();
  make_printable(result);
  return result;
}

}  // namespace

ConfigResult load_config(const std::string& path, bool check_system) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return failure("is a directory; name a file");
  // A FIFO would keep the reader waiting, a device never end.
  const bool there = std::filesystem::exists(path, error);
  if (there && !std::filesystem::is_regular_file(path, error)) return failure("is not a regular file");
  if (there && std::filesystem::file_size(path, error) > kMaxFileSize && !error) return failure(kTooLarge);
  std::ifstream file(path, std::ios::binary);
  if (!file) return failure(fmt::format("cannot be read: {}", std::strerror(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  if (check_system) return read_config(text.str(), path);
  return parse(text.str(), path, nullptr);
}

ConfigResult read_config(const std::string& text, const std::string& path) {
  const std::string directory = std::filesystem::path(path).parent_path();
  return parse(text, path, &directory);
}

ConfigResult parse_config(const std::string& text, const std::string& name) {
  return parse(text, name, nullptr);
}

std::vector<std::string> ConfigResult::warnings() const {
  std::vector<std::string> texts;
  for (const ConfigMessage& message : messages)
    if (!message.is_error) texts.push_back(message.text);
  return texts;
}

std::string format_messages(const ConfigResult& result, const std::string& path) {
  std::string text;
  for (const ConfigMessage& message : result.messages) {
    text += to_printable(path);
    if (message.line > 0) text += fmt::format(":{}:{}", message.line, message.column);
    text += fmt::format(": {}: {}\n", message.is_error ? "error" : "warning", message.text);
  }
  return text;
}

}  // namespace portico
