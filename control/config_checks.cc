// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>

#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

using namespace std::chrono_literals;

constexpr uint16_t kMysqlPort = 3306;

// Where probes come from: one address of each family.
void read_sources(ConfigReader& reader, const YamlNode& node, const std::string& path, CheckConfig& check) {
  check.source_v4 = check.source_v6 = std::nullopt;
  for (const YamlNode* item : read_items(reader, node, path)) {
    std::string text, problem;
    if (!read_text(reader, *item, path, text)) continue;
    const auto address = parse_host_address(text, problem);
    if (!address) {
      reader.error(item->mark, problem);
      continue;
    }
    auto& place = address->is_v4() ? check.source_v4 : check.source_v6;
    if (place) reader.error(item->mark, "a second source of one family; remove one");
    place = address;
    reader.set_source(path + (address->is_v4() ? "/v4" : "/v6"), {item->mark, {}});
  }
}

// A text that `is_good` to be sent as it is.
template <typename IsGood>
void read_plain(ConfigReader& reader, MapFields& fields, std::string_view key, const char* rule,
                IsGood is_good, std::string& out) {
  if (!fields.text(key, out)) return;
  if (!out.empty() && std::ranges::all_of(out, is_good)) return;
  reader.error(reader.mark(fields.path_of(key)), fmt::format("`{}` is {}", key, rule));
  out.clear();
}

bool is_graphic(char c) {
  return c > ' ' && c <= '~';
}

void read_pattern(ConfigReader& reader, MapFields& fields, std::string_view key, std::string& out) {
  if (!fields.text(key, out)) return;
  const re2::RE2 pattern(out, re2::RE2::Quiet);
  if (pattern.ok() && !out.empty()) return;
  reader.error(reader.mark(fields.path_of(key)), fmt::format("`{}` is no regular expression (RE2): {}", key,
                                                             out.empty() ? "it is empty" : pattern.error()));
}

void read_status(ConfigReader& reader, MapFields& fields, std::vector<StatusRange>& out) {
  const YamlNode* node = fields.find("status");
  if (node == nullptr) return;
  std::string text, joined;
  for (const YamlNode* item : read_items(reader, *node, fields.path_of("status")))
    if (read_text(reader, *item, fields.path_of("status"), text))
      joined += (joined.empty() ? "" : ",") + text;
  if (joined.empty()) return;
  if (const auto ranges = parse_status_set(joined))
    out = *ranges;
  else
    reader.error(node->mark,
                 fmt::format("`{}` is no set of HTTP status codes; write for example 200-299,304", joined));
}

void read_dialogue(ConfigReader& reader, MapFields& fields, DialogueConfig& dialogue) {
  std::string text;
  if (fields.text("send", text)) {
    const auto bytes = parse_bytes(text);
    if (bytes && !bytes->empty())
      dialogue.send = *bytes;
    else
      reader.error(reader.mark(fields.path_of("send")),
                   R"(`send` is empty, or has other escapes than \r, \n, \t, \\ and \xNN)");
  }
  read_pattern(reader, fields, "expect", dialogue.pattern);
  read_pattern(reader, fields, "body", dialogue.pattern);
  fields.choice("method", kHttpMethodChoices, dialogue.method);
  read_plain(reader, fields, "path", "not made of visible ASCII characters without blanks", is_graphic,
             dialogue.path);
  if (!dialogue.path.starts_with('/'))
    reader.error(reader.mark(fields.path_of("path")), "`path` does not begin with `/`; write /health");
  read_plain(reader, fields, "host", "no host name, with :PORT if need be", is_graphic, dialogue.host);
  read_status(reader, fields, dialogue.status);
}

void read_tls(ConfigReader& reader, MapFields& fields, CheckConfig& check) {
  fields.choice("verify", kOnOffChoices, check.tls.verify);
  const auto is_of_name = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
  };
  read_plain(reader, fields, "sni", "no host name: letters, digits, `-` and `.`", is_of_name, check.tls.sni);
  fields.text("ca_file", check.tls.ca_file);
  fields.number("certificate_days", 0, 3650, check.tls.certificate_days);
}

// A key that only some kinds of checks have.
struct KindKey {
  std::string_view key;
  std::vector<CheckKind> kinds;
};

void keep_to_kind(ConfigReader& reader, const std::string& path, const CheckConfig& check) {
  using enum CheckKind;
  static const std::vector<KindKey> kKeys = {{"send", {tcp}},
                                             {"expect", {tcp}},
                                             {"method", {http, https}},
                                             {"path", {http, https}},
                                             {"host", {http, https}},
                                             {"status", {http, https}},
                                             {"body", {http, https}},
                                             {"verify", {https, tls}},
                                             {"sni", {https, tls}},
                                             {"ca_file", {https, tls}},
                                             {"certificate_days", {https, tls}}};
  for (const KindKey& each : kKeys) {
    const std::string at = fmt::format("{}/{}", path, each.key);
    if (reader.source(at) == nullptr || std::ranges::count(each.kinds, check.kind) > 0) continue;
    std::vector<std::string_view> words;
    for (const CheckKind kind : each.kinds) words.push_back(to_word(kind));
    reader.error(reader.mark(at), fmt::format("`{}` is for checks of kind {}; this one is {}", each.key,
                                              join_choices(words), to_word(check.kind)));
  }
  if (!check.dialogue.send.empty() && check.dialogue.pattern.empty())
    reader.error(reader.mark(path + "/send"),
                 "`send` without `expect` tells nothing; say what answer is right");
  if (check.dialogue.method == HttpMethod::head && !check.dialogue.pattern.empty())
    reader.error(reader.mark(path + "/body"), "an answer to HEAD has no body; write `method: GET`");
}

// "portal.example.com" of "portal.example.com:443"; nothing if it is an address.
std::string name_of_host(const std::string& host) {
  const std::string name = host.substr(0, host.rfind(':'));
  return host.starts_with('[') || Address::parse(name) ? "" : name;
}

void settle_tls(ConfigReader& reader, const std::string& path, CheckConfig& check) {
  if (check.kind != CheckKind::https && check.kind != CheckKind::tls) return;
  const bool has_sni = reader.source(path + "/sni") != nullptr;
  if (!has_sni && check.kind == CheckKind::https) {
    check.tls.sni = name_of_host(check.dialogue.host);
    if (!check.tls.sni.empty()) reader.set_source(path + "/sni", {{}, "implied by host"});
  }
  if (check.tls.verify && check.tls.sni.empty() && !has_sni)
    reader.error(reader.mark(path),
                 "the certificate is compared with a name: write `sni: NAME`, or `verify: off` to take any");
  if (!check.tls.verify && !check.tls.ca_file.empty())
    reader.error(reader.mark(path + "/ca_file"), "`ca_file` has no effect with `verify: off`; remove one");
}

}  // namespace

void read_check_timing(ConfigReader& reader, MapFields& fields, CheckConfig& check) {
  fields.duration("interval", 10ms, 1h, check.interval);
  fields.duration("fast_interval", 10ms, 1h, check.fast_interval);
  fields.duration("timeout", 10ms, 1min, check.timeout);
  fields.number("fall", 1, 100, check.fall);
  fields.number("rise", 1, 100, check.rise);
  fields.text("credentials", check.credentials_file);
  if (const YamlNode* node = fields.find("source"))
    read_sources(reader, *node, fields.path_of("source"), check);
}

namespace {

void settle_kind(ConfigReader& reader, const std::string& path, CheckConfig& check) {
  if (reader.source(path + "/kind") != nullptr || check.port == 0) return;
  check.kind = check.port == kMysqlPort ? CheckKind::mysql : CheckKind::tcp;
  reader.set_source(path + "/kind", {{}, fmt::format("implied by port {}", check.port)});
}

}  // namespace

CheckConfig read_check(ConfigReader& reader, const NamedNode& entry, const std::string& pool_path,
                       const CheckConfig& defaults) {
  const std::string path = pool_path + "/checks/" + entry.name;
  CheckConfig check = defaults;
  check.name = entry.name;
  if (entry.value->kind == YamlNode::Kind::scalar) {
    uint64_t port = 0;
    if (read_number(reader, *entry.value, path + "/port", 1, 65535, port))
      check.port = static_cast<uint16_t>(port);
  } else {
    MapFields fields(reader, *entry.value, path);
    fields.choice("kind", kCheckKindChoices, check.kind);
    fields.require("port", entry.mark, "port: 443");
    fields.number("port", 1, 65535, check.port);
    fields.choice("proxy_protocol", kProxyProtocolChoices, check.proxy_protocol);
    read_check_timing(reader, fields, check);
    read_dialogue(reader, fields, check.dialogue);
    read_tls(reader, fields, check);
    fields.finish();
  }
  settle_kind(reader, path, check);
  keep_to_kind(reader, path, check);
  settle_tls(reader, path, check);
  settle_check(reader, path, pool_path + "/check", check);
  return check;
}

bool uses_port(const ServiceConfig& service, uint16_t port) {
  if (service.backend_port != 0) return service.backend_port == port;
  return std::ranges::count(service.listen, port, &Endpoint::port) > 0;
}

void settle_check(ConfigReader& reader, const std::string& path, const std::string& defaults_path,
                  CheckConfig& check) {
  const auto take_over = [&](const std::string& key) {
    const Source* source = reader.source(defaults_path + key);
    if (reader.source(path + key) == nullptr && source != nullptr)
      reader.set_source(path + key, {source->mark, "check"});
  };
  for (const char* key : {"/interval", "/fast_interval", "/timeout", "/fall", "/rise"}) take_over(key);
  if (reader.source(path + "/source") == nullptr)
    for (const char* key : {"/source/v4", "/source/v6"}) take_over(key);
  if (check.kind == CheckKind::mysql) {
    take_over("/credentials");
  } else if (reader.source(path + "/credentials") != nullptr) {
    reader.error(reader.mark(path + "/credentials"),
                 "`credentials` are for mysql checks; remove them or write "
                 "`kind: mysql`");
  } else {
    check.credentials_file.clear();
  }
  if (check.fast_interval <= check.interval) return;
  if (reader.source(path + "/fast_interval") == nullptr) {
    check.fast_interval = check.interval;
    reader.set_source(path + "/fast_interval", {{}, "default, no longer than interval"});
    return;
  }
  reader.error(reader.mark(path + "/fast_interval"),
               fmt::format("`fast_interval` {} is longer than the check's `interval` {}; make it shorter",
                           format_duration(check.fast_interval), format_duration(check.interval)));
}

// A server that is told clients' addresses on a port drops connections that do not begin with a header.
void settle_proxy_protocol(ConfigReader& reader, ConfigDraft& draft) {
  for (PoolConfig& pool : draft.config.pools) {
    for (CheckConfig& check : pool.checks) {
      const std::string path = fmt::format("pools/{}/checks/{}/proxy_protocol", pool.name, check.name);
      if (reader.source(path) != nullptr) continue;
      const auto service = std::ranges::find_if(draft.config.services, [&](const ServiceConfig& s) {
        return s.pool == pool.name && s.proxy_protocol != ProxyProtocol::none && uses_port(s, check.port);
      });
      if (service == draft.config.services.end()) continue;
      check.proxy_protocol = service->proxy_protocol;
      reader.set_source(path, {{}, "implied by service " + service->name});
    }
  }
}

void add_implied_checks(ConfigReader& reader, ConfigDraft& draft) {
  for (PoolConfig& pool : draft.config.pools) {
    const std::string path = "pools/" + pool.name;
    if (reader.source(path + "/checks") != nullptr) continue;
    const auto add = [&](uint16_t port, const std::string& service) {
      if (std::ranges::count(pool.checks, port, &CheckConfig::port) > 0) return;
      CheckConfig check = draft.check_defaults[pool.name];
      check.port = port;
      check.name = fmt::format("{}-{}", port == kMysqlPort ? "mysql" : "tcp", port);
      const std::string check_path = path + "/checks/" + check.name;
      reader.set_source(check_path, {{}, "implied by service " + service});
      reader.set_source(check_path + "/port", {{}, "implied by service " + service});
      settle_kind(reader, check_path, check);
      settle_check(reader, check_path, path + "/check", check);
      pool.checks.push_back(std::move(check));
    };
    for (const ServiceConfig& service : draft.config.services) {
      if (service.pool != pool.name) continue;
      for (const Endpoint& listen : service.listen) {
        add(service.backend_port != 0 ? service.backend_port : listen.port, service.name);
      }
    }
  }
}

}  // namespace portico
