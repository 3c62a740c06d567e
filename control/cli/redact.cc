// SPDX-License-Identifier: Apache-2.0
#include "control/cli/redact.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "control/config_text.h"

namespace portico::cli {

namespace {

using nlohmann::ordered_json;

constexpr size_t kLeastSecret = 6;

// All keys of the configuration but those whose values may be secrets: hash_key; send, expect, body and path
// (tests compare this with the schema).
constexpr std::string_view kHarmless[] = {
    "version", "instance", "zone", "vip_address", "dataplane", "nat", "tunnel", "services", "pools",
    // dataplane, nat, tunnel
    "ports", "name", "devargs", "mtu", "workers", "worker_cpus", "idle", "huge_pages", "flows", "mbufs",
    "new_flow_rate", "reset_rate", "fragments", "addresses", "sources", "gue_port",
    // services
    "listen", "pool", "mode", "proxy_protocol", "affinity", "affinity_prefix_v6", "backend_port", "allow",
    "deny", "limits", "new_per_second", "burst", "connections", "prefix_v4", "prefix_v6", "idle_timeout",
    // pools
    "backends", "address", "weight", "check_address", "check_addresses", "check", "checks", "all_down",
    "on_backend_down", "min_healthy", "table_size", "second_chance", "earlier_sets", "reset_after",
    "slow_start", "flap_limit", "flap_half_life", "passive", "backup", "spill_below", "spill_hold",
    "backup_below",
    // checks
    "kind", "port", "interval", "fast_interval", "timeout", "fall", "rise", "credentials", "source", "method",
    "host", "status", "verify", "sni", "ca_file", "certificate_days"};

// Maps from names that people choose.
constexpr std::string_view kOfNames[] = {"services", "pools", "backends", "checks", "check_addresses"};

bool is_name(const std::string& text) {
  std::string problem;
  return is_good_name(text, problem);
}

// An address or a port, the short form of what has a name.
bool is_address(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) {
    return std::isxdigit(c) != 0 ||
           std::string_view(".:[]").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

class Redactor {
 public:
  explicit Redactor(Scrubber& scrubber) : scrubber_(scrubber) {}

  enum class Kind { secret, harmless, map_of_names, named };

  ordered_json redact(const YamlNode& node, Kind kind) {
    switch (node.kind) {
      case YamlNode::Kind::null:
        return nullptr;
      case YamlNode::Kind::scalar:
        return kind == Kind::harmless || (kind == Kind::named && is_address(node.text)) ? node.text
                                                                                        : take_out(node.text);
      case YamlNode::Kind::list: {
        ordered_json list = ordered_json::array();
        for (const YamlNode& item : node.items) list.push_back(redact(item, kind));
        return list;
      }
      case YamlNode::Kind::map:
        return redact_map(node, kind);
    }
    return nullptr;
  }

 private:
  ordered_json redact_map(const YamlNode& node, Kind kind) {
    ordered_json map = ordered_json::object();
    for (size_t i = 0; i < node.keys.size(); ++i) {
      const std::string& key = node.keys[i].text;
      const bool is_shown =
          kind == Kind::map_of_names ? is_name(key) : is_harmless_key(key) || is_secret_key(key);
      map[is_shown ? key : take_out(key)] = redact(node.items[i], kind_below(key, kind));
    }
    return map;
  }

  static bool is_secret_key(std::string_view key) {
    return key == "hash_key" || key == "send" || key == "expect" || key == "body" || key == "path";
  }

  static Kind kind_below(const std::string& key, Kind kind) {
    if (kind == Kind::secret) return Kind::secret;
    if (kind == Kind::map_of_names) return is_name(key) ? Kind::named : Kind::secret;
    if (std::ranges::find(kOfNames, key) != std::end(kOfNames)) return Kind::map_of_names;
    return is_harmless_key(key) ? Kind::harmless : Kind::secret;
  }

  std::string take_out(const std::string& text) {
    scrubber_.add(text);
    return std::string(kRedacted);
  }

  Scrubber& scrubber_;
};

}  // namespace

void Scrubber::add(const std::string& secret) {
  if (secret.size() < kLeastSecret || secret == kRedacted) return;
  // Longer ones first: one may begin another.
  const auto place = std::ranges::find_if(secrets_, [&](const auto& s) { return s.size() < secret.size(); });
  if (std::ranges::find(secrets_, secret) == secrets_.end()) secrets_.insert(place, secret);
}

std::string Scrubber::clean(std::string text) const {
  for (const std::string& secret : secrets_)
    for (size_t at = 0; (at = text.find(secret, at)) != std::string::npos; at += kRedacted.size())
      text.replace(at, secret.size(), kRedacted);
  return text;
}

ordered_json Scrubber::clean_json(const ordered_json& value) const {
  if (value.is_string()) return clean(value.get<std::string>());
  ordered_json out = value;
  if (value.is_array()) {
    for (ordered_json& item : out) item = clean_json(item);
  } else if (value.is_object()) {
    out = ordered_json::object();
    for (const auto& [key, item] : value.items()) out[clean(key)] = clean_json(item);
  }
  return out;
}

ordered_json redact_config(const YamlNode& root, Scrubber& scrubber) {
  return Redactor(scrubber).redact(root, Redactor::Kind::harmless);
}

bool is_harmless_key(std::string_view key) {
  return std::ranges::find(kHarmless, key) != std::end(kHarmless);
}

std::string redact_words(const std::string& line) {
  std::istringstream words(line);
  std::string out;
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    std::string name = word.substr(0, equals);
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto says = [&](const char* part) { return name.find(part) != std::string::npos; };
    if (equals != std::string::npos && (says("pass") || says("secret") || says("token") || says("key")))
      word = word.substr(0, equals + 1) + std::string(kRedacted);
    out += (out.empty() ? "" : " ") + word;
  }
  return out + "\n";
}

}  // namespace portico::cli
