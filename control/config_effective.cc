// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

// The plainest form that YAML reads back as the same text.
std::string quote(std::string_view text) {
  const auto harmless = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("._/%-:").find(c) != std::string_view::npos;
  };
  const bool null_word = text == "null" || text == "Null" || text == "NULL";
  const bool edges = !text.empty() && text.front() != '-' && text.front() != ':' && text.front() != '%' &&
                     text.back() != ':';
  if (edges && !null_word && text != "." && std::ranges::all_of(text, harmless)) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

// Writes one line per key, with the comment that says where the value is from.
class Writer {
 public:
  explicit Writer(const ConfigReader& reader) : reader_(reader) {}

  // "key:", what follows is indented.
  void open(std::string_view key, const std::string& path) {
    line(quote(key) + ":", path, false);
    ++depth_;
  }
  void close() { --depth_; }
  void value(std::string_view key, std::string_view text, const std::string& path) {
    line(fmt::format("{}: {}", key, quote(text)), path, true);
  }
  void number(std::string_view key, uint64_t number, const std::string& path) {
    value(key, std::to_string(number), path);
  }
  // A number of which 0 is written as a word.
  void number_or(std::string_view word, std::string_view key, uint64_t number, const std::string& path) {
    value(key, number == 0 ? std::string(word) : std::to_string(number), path);
  }
  void item(std::string_view text, const std::string& path) { line("- " + quote(text), path, true); }
  // A list item that is a list itself, in one line.
  void flow_item(const std::vector<std::string>& items, const std::string& path) {
    std::string text;
    for (const std::string& one : items) text += (text.empty() ? "" : ", ") + quote(one);
    line("- [" + text + "]", path, true);
  }
  // The first key of a list item that is a map; the others follow between open_item and close.
  void open_item(std::string_view key, std::string_view text, const std::string& path) {
    line(fmt::format("- {}: {}", key, quote(text)), path, true);
    ++depth_;
  }
  std::string take() { return std::move(out_); }

 private:
  // A container without a source of its own needs no comment: its parts have theirs.
  void line(const std::string& text, const std::string& path, bool is_value) {
    constexpr size_t kCommentColumn = 46;
    const Source* source = reader_.source(path);
    std::string comment;
    if (source == nullptr) {
      comment = is_value ? "default" : "";
    } else if (source->mark.line == 0) {
      comment = source->note;
    } else {
      comment = fmt::format("line {}{}", source->mark.line, source->note.empty() ? "" : ", " + source->note);
    }
    std::string written = std::string(depth_ * 2, ' ') + text;
    if (!comment.empty()) {
      written.resize(std::max(written.size(), kCommentColumn), ' ');
      written += " # " + comment;
    }
    out_ += written + '\n';
  }

  const ConfigReader& reader_;
  std::string out_;
  size_t depth_ = 0;
};

void write_dataplane(Writer& writer, const DataplaneConfig& dataplane) {
  const std::string path = "dataplane";
  writer.open("dataplane", path);
  writer.open("ports", path + "/ports");
  for (size_t i = 0; i < dataplane.ports.size(); ++i) {
    const auto& port = dataplane.ports[i];
    const std::string port_path = fmt::format("{}/ports/#{}", path, i);
    writer.open_item("name", port.name, port_path + "/name");
    writer.value("devargs", port.devargs, port_path + "/devargs");
    writer.number_or("auto", "mtu", port.mtu, port_path + "/mtu");
    writer.close();
  }
  writer.close();
  writer.number_or("auto", "workers", dataplane.workers, path + "/workers");
  writer.value("worker_cpus", dataplane.worker_cpus.empty() ? "auto" : dataplane.worker_cpus,
               path + "/worker_cpus");
  writer.value("idle", to_word(dataplane.idle), path + "/idle");
  writer.value("huge_pages", to_word(dataplane.huge_pages), path + "/huge_pages");
  writer.value("fragments", to_word(dataplane.fragments), path + "/fragments");
  writer.number("flows", dataplane.flows, path + "/flows");
  writer.number_or("auto", "mbufs", dataplane.mbufs, path + "/mbufs");
  writer.number_or("unlimited", "new_flow_rate", dataplane.new_flow_rate, path + "/new_flow_rate");
  writer.number("reset_rate", dataplane.reset_rate, path + "/reset_rate");
  writer.close();
}

void write_nat(Writer& writer, const NatConfig& nat) {
  if (nat.addresses.empty()) return;
  writer.open("nat", "nat");
  writer.open("addresses", "nat/addresses");
  for (size_t i = 0; i < nat.addresses.size(); ++i) {
    writer.item(to_string(nat.addresses[i]), fmt::format("nat/addresses/#{}", i));
  }
  writer.close();
  writer.value("ports", fmt::format("{}-{}", nat.first_port, nat.last_port), "nat/ports");
  writer.close();
}

void write_tunnel(Writer& writer, const TunnelConfig& tunnel) {
  if (!tunnel.v4 && !tunnel.v6) return;
  writer.open("tunnel", "tunnel");
  writer.open("sources", "tunnel/sources");
  if (tunnel.v4) writer.item(to_string(*tunnel.v4), "tunnel/sources/v4");
  if (tunnel.v6) writer.item(to_string(*tunnel.v6), "tunnel/sources/v6");
  writer.close();
  writer.number("gue_port", tunnel.gue_port, "tunnel/gue_port");
  writer.close();
}

void write_prefixes(Writer& writer, const std::string& name, const std::vector<Prefix>& prefixes,
                    const std::string& path) {
  writer.open(name, path + "/" + name);
  for (size_t i = 0; i < prefixes.size(); ++i)
    writer.item(to_string(prefixes[i]), fmt::format("{}/{}/#{}", path, name, i));
  writer.close();
}

void write_limits(Writer& writer, const SourceLimitsConfig& limits, const std::string& path) {
  if (limits == SourceLimitsConfig{}) return;
  writer.open("limits", path);
  writer.number_or("unlimited", "new_per_second", limits.new_per_second, path + "/new_per_second");
  writer.number_or("same", "burst", limits.burst, path + "/burst");
  writer.number_or("unlimited", "connections", limits.connections, path + "/connections");
  writer.number("prefix_v4", limits.prefix_v4, path + "/prefix_v4");
  writer.number("prefix_v6", limits.prefix_v6, path + "/prefix_v6");
  writer.close();
}

void write_service(Writer& writer, const ServiceConfig& service) {
  const std::string path = "services/" + service.name;
  writer.open(service.name, path);
  writer.open("listen", path + "/listen");
  for (size_t i = 0; i < service.listen.size(); ++i) {
    writer.item(format_endpoint(service.listen[i]), fmt::format("{}/listen/#{}", path, i));
  }
  writer.close();
  writer.value("pool", service.pool, path + "/pool");
  writer.value("mode", to_word(service.mode), path + "/mode");
  writer.value("proxy_protocol", to_word(service.proxy_protocol), path + "/proxy_protocol");
  writer.value("affinity", to_word(service.affinity), path + "/affinity");
  writer.number("affinity_prefix_v6", service.affinity_prefix_v6, path + "/affinity_prefix_v6");
  writer.number_or("same", "backend_port", service.backend_port, path + "/backend_port");
  if (service.allow_any)
    writer.value("allow", "any", path + "/allow");
  else
    write_prefixes(writer, "allow", service.allow, path);
  if (service.deny.empty())
    writer.value("deny", "none", path + "/deny");
  else
    write_prefixes(writer, "deny", service.deny, path);
  write_limits(writer, service.limits, path + "/limits");
  writer.value("idle_timeout", format_duration(service.idle_timeout), path + "/idle_timeout");
  writer.close();
}

void write_backend(Writer& writer, const BackendConfig& backend, const std::string& path) {
  writer.open(backend.name, path);
  writer.open("addresses", path + "/addresses");
  if (backend.v4) writer.item(to_string(*backend.v4), path + "/addresses/v4");
  if (backend.v6) writer.item(to_string(*backend.v6), path + "/addresses/v6");
  writer.close();
  writer.number("weight", backend.weight, path + "/weight");
  if (!backend.zone.empty()) writer.value("zone", backend.zone, path + "/zone");
  writer.value("backup", to_word(backend.backup), path + "/backup");
  if (backend.check_address) {
    writer.value("check_address", to_string(*backend.check_address), path + "/check_address");
  }
  if (!backend.check_addresses.empty()) {
    writer.open("check_addresses", path + "/check_addresses");
    for (const auto& [name, endpoint] : backend.check_addresses) {
      writer.value(quote(name), format_endpoint(endpoint), fmt::format("{}/check_addresses/{}", path, name));
    }
    writer.close();
  }
  writer.close();
}

void write_dialogue(Writer& writer, const CheckConfig& check, const std::string& path) {
  const DialogueConfig& dialogue = check.dialogue;
  if (check.kind == CheckKind::tcp && !dialogue.pattern.empty()) {
    if (!dialogue.send.empty()) writer.value("send", format_bytes(dialogue.send), path + "/send");
    writer.value("expect", dialogue.pattern, path + "/expect");
  }
  if (check.kind != CheckKind::http && check.kind != CheckKind::https) return;
  writer.value("method", to_word(dialogue.method), path + "/method");
  writer.value("path", dialogue.path, path + "/path");
  if (!dialogue.host.empty()) writer.value("host", dialogue.host, path + "/host");
  writer.value("status", format_status_set(dialogue.status), path + "/status");
  if (!dialogue.pattern.empty()) writer.value("body", dialogue.pattern, path + "/body");
}

void write_tls(Writer& writer, const CheckConfig& check, const std::string& path) {
  if (check.kind != CheckKind::https && check.kind != CheckKind::tls) return;
  writer.value("verify", word_of(kOnOffChoices, check.tls.verify), path + "/verify");
  if (!check.tls.sni.empty()) writer.value("sni", check.tls.sni, path + "/sni");
  if (!check.tls.ca_file.empty()) writer.value("ca_file", check.tls.ca_file, path + "/ca_file");
  writer.number("certificate_days", check.tls.certificate_days, path + "/certificate_days");
}

void write_check(Writer& writer, const CheckConfig& check, const std::string& path) {
  writer.open(check.name, path);
  writer.value("kind", to_word(check.kind), path + "/kind");
  writer.number("port", check.port, path + "/port");
  writer.value("proxy_protocol", to_word(check.proxy_protocol), path + "/proxy_protocol");
  writer.value("interval", format_duration(check.interval), path + "/interval");
  writer.value("fast_interval", format_duration(check.fast_interval), path + "/fast_interval");
  writer.value("timeout", format_duration(check.timeout), path + "/timeout");
  writer.number("fall", check.fall, path + "/fall");
  writer.number("rise", check.rise, path + "/rise");
  if (!check.credentials_file.empty()) {
    writer.value("credentials", check.credentials_file, path + "/credentials");
  }
  write_dialogue(writer, check, path);
  write_tls(writer, check, path);
  if (check.source_v4 || check.source_v6) {
    writer.open("source", path + "/source");
    if (check.source_v4) writer.item(to_string(*check.source_v4), path + "/source/v4");
    if (check.source_v6) writer.item(to_string(*check.source_v6), path + "/source/v6");
    writer.close();
  }
  writer.close();
}

void write_earlier_sets(Writer& writer, const PoolConfig& pool, const std::string& path) {
  if (pool.earlier_sets.empty()) return;
  writer.open("earlier_sets", path);
  for (const auto& set : pool.earlier_sets) writer.flow_item(set, path);
  writer.close();
}

// Where they mean something.
void write_tiers(Writer& writer, const PoolConfig& pool, const std::string& path) {
  if (std::ranges::any_of(pool.backends, [](const auto& backend) { return !backend.zone.empty(); })) {
    writer.value("spill_below", fmt::format("{}%", pool.spill_below_percent), path + "/spill_below");
    writer.value("spill_hold", format_duration(pool.spill_hold), path + "/spill_hold");
  }
  if (std::ranges::any_of(pool.backends, &BackendConfig::backup))
    writer.value("backup_below", fmt::format("{}%", pool.backup_below_percent), path + "/backup_below");
}

void write_pool(Writer& writer, const PoolConfig& pool) {
  const std::string path = "pools/" + pool.name;
  writer.open(pool.name, path);
  writer.open("backends", path + "/backends");
  for (const BackendConfig& backend : pool.backends) {
    write_backend(writer, backend, path + "/backends/" + backend.name);
  }
  writer.close();
  if (!pool.checks.empty()) {
    writer.open("checks", path + "/checks");
    for (const CheckConfig& check : pool.checks) write_check(writer, check, path + "/checks/" + check.name);
    writer.close();
  }
  writer.value("all_down", to_word(pool.all_down), path + "/all_down");
  writer.value("on_backend_down", to_word(pool.on_backend_down), path + "/on_backend_down");
  writer.value("min_healthy", fmt::format("{}%", pool.min_healthy_percent), path + "/min_healthy");
  write_tiers(writer, pool, path);
  writer.number("table_size", pool.table_size, path + "/table_size");
  writer.value("second_chance", to_word(pool.second_chance), path + "/second_chance");
  write_earlier_sets(writer, pool, path + "/earlier_sets");
  writer.value("reset_after", format_duration(pool.reset_after), path + "/reset_after");
  writer.value("slow_start", format_duration(pool.slow_start), path + "/slow_start");
  writer.number_or("off", "flap_limit", pool.flap_limit, path + "/flap_limit");
  writer.value("flap_half_life", format_duration(pool.flap_half_life), path + "/flap_half_life");
  writer.value("passive", word_of(kPassiveChoices, pool.passive_probe), path + "/passive");
  writer.close();
}

}  // namespace

std::string effective_yaml(const ConfigReader& reader, const Config& config, const std::string& file_name) {
  Writer writer(reader);
  writer.number("version", 1, "version");
  writer.value("instance", config.instance, "instance");
  if (!config.zone.empty()) writer.value("zone", config.zone, "zone");
  writer.value("vip_address", to_word(config.vip_address), "vip_address");
  writer.value("hash_key", fmt::format("{:016x}{:016x}", config.hash_key[0], config.hash_key[1]), "hash_key");
  write_dataplane(writer, config.dataplane);
  write_nat(writer, config.nat);
  write_tunnel(writer, config.tunnel);
  writer.open("services", "services");
  for (const ServiceConfig& service : config.services) write_service(writer, service);
  writer.close();
  writer.open("pools", "pools");
  for (const PoolConfig& pool : config.pools) write_pool(writer, pool);
  writer.close();
  return fmt::format("# What {} comes to. hash_key is a secret.\n", file_name) + writer.take();
}

}  // namespace portico
