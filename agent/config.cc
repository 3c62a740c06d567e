// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bpf/agent_maps.h"
#include "bpf/gue.h"
#include "contract/interface_facts.h"
#include "control/config_reader.h"
#include "control/printable.h"

namespace portico {

namespace {

constexpr size_t kMaxFileSize = 1u << 20;
constexpr uint32_t kMinMtu = 576, kMaxMtu = 65535;
constexpr uint32_t kIpv4Header = 20, kIpv6Header = 40, kTcpHeader = 20, kUdpHeader = 8;

struct WayWord {
  std::string_view word;
  AttachWay value;
};
constexpr WayWord kWays[] = {{"auto", AttachWay::automatic},
                             {"native", AttachWay::native},
                             {"generic", AttachWay::generic},
                             {"tc", AttachWay::tc}};
struct SwitchWord {
  std::string_view word;
  bool value;
};
constexpr SwitchWord kSwitches[] = {{"true", true}, {"false", false}};

// Calls `take` with each item's text and place; complains of what is not a text, and of more than `most`.
template <typename Take>
void read_list(ConfigReader& reader, const YamlNode* node, const std::string& path, size_t most,
               const Take& take) {
  if (node == nullptr) return;
  reader.set_source(path, {node->mark, {}});
  const auto items = read_items(reader, *node, path);
  if (items.size() > most) return reader.error(node->mark, fmt::format("more than {} items", most));
  for (const YamlNode* item : items) {
    std::string text;
    if (read_text(reader, *item, path + "/#0", text)) take(text, item->mark);
  }
}

std::vector<Address> read_addresses(ConfigReader& reader, const YamlNode* node, const std::string& path,
                                    size_t most) {
  std::vector<Address> result;
  read_list(reader, node, path, most, [&](const std::string& text, Mark mark) {
    std::string problem;
    const auto address = parse_forwarded_address(text, problem);
    if (!address) return reader.error(mark, problem);
    if (std::ranges::find(result, *address) != result.end())
      return reader.error(mark, fmt::format("`{}` stands here twice", text));
    result.push_back(*address);
  });
  return result;
}

void read_balancers(ConfigReader& reader, const YamlNode* node, AgentConfig& config) {
  read_list(reader, node, "balancers", AGENT_MAX_BALANCERS, [&](const std::string& text, Mark mark) {
    std::string problem;
    const auto prefix = parse_prefix(text, problem);
    if (!prefix) return reader.error(mark, problem);
    if (prefix->length == 0)
      return reader.error(
          mark, fmt::format("`{}` is everybody: whoever reaches this host could send packets to the "
                            "VIPs past every firewall; write the balancers' tunnel sources",
                            text));
    config.balancers.push_back(*prefix);
  });
}

void read_tunnels(ConfigReader& reader, const YamlNode* node, AgentConfig& config) {
  if (node == nullptr) return;
  config.ipip = config.gue = false;
  read_list(reader, node, "tunnels", 2, [&](const std::string& text, Mark mark) {
    if (text != "ipip" && text != "gue")
      return reader.error(mark, fmt::format("`{}` is no kind of tunnel; write ipip or gue", text));
    (text == "ipip" ? config.ipip : config.gue) = true;
  });
}

void read_names(ConfigReader& reader, MapFields& fields, Mark root, AgentConfig& config) {
  std::string problem;
  if (const YamlNode* node = fields.require("version", root, "version: 1")) {
    std::string version;
    if (read_text(reader, *node, "version", version) && version != "1")
      reader.error(node->mark, fmt::format("`version` is `{}`; this program reads version 1", version));
  }
  if (fields.require("interface", root, "interface: eth0") != nullptr)
    fields.text("interface", config.interface);
  config.replies_leave_by = config.interface;
  fields.text("replies_leave_by", config.replies_leave_by);
  config.instance = config.interface;
  if (fields.text("instance", config.instance) && !is_good_name(config.instance, problem))
    reader.error(reader.mark("instance"), problem);
  for (const char* key : {"sockets_namespace", "metrics_file"}) {
    std::string& path =
        std::string_view(key) == "metrics_file" ? config.metrics_file : config.sockets_namespace;
    if (fields.text(key, path) && !path.starts_with('/'))
      reader.error(reader.mark(key), fmt::format("`{}` is not an absolute path", path));
  }
}

void check_whole(ConfigReader& reader, const AgentConfig& config) {
  if (config.second_chance && !config.gue)
    reader.error(reader.mark("tunnels"),
                 "`second_chance` needs tunnels of kind gue, whose headers name the next hops");
  if (config.second_chance && config.peers.empty())
    reader.error(reader.mark("second_chance"), "`second_chance` needs `peers`: the other portals' addresses");
  for (const Address& peer : config.peers)
    if (std::ranges::find(config.vips, peer) != config.vips.end())
      reader.error(reader.mark("peers"),
                   fmt::format("{} is a VIP, which every portal has; write the portals' own "
                               "addresses",
                               to_string(peer)));
  for (const Prefix& balancer : config.balancers)
    for (const auto* addresses : {&config.peers, &config.vips})
      for (const Address& address : *addresses)
        if (balancer.contains(address))
          reader.warning(
              reader.mark("balancers"),
              fmt::format(
                  "{} contains {}, which is no balancer: packets that pretend to be from it are let in",
                  to_string(balancer), to_string(address)));
}

void check_here(ConfigReader& reader, const AgentConfig& config) {
  for (const auto& [key, name] :
       {std::pair{"interface", config.interface}, {"replies_leave_by", config.replies_leave_by}}) {
    if (name.empty() || reader.source(key) == nullptr || interface_facts(name).exists) continue;
    reader.error(reader.mark(key),
                 fmt::format("there is no interface `{}` here; `ip link` lists those there are", name));
  }
  struct stat status;
  if (!config.sockets_namespace.empty() && stat(config.sockets_namespace.c_str(), &status) != 0)
    reader.error(reader.mark("sockets_namespace"),
                 fmt::format("{}: {}; `ip netns list` names those of /run/netns", config.sockets_namespace,
                             std::strerror(errno)));
}

AgentConfig read_tree(ConfigReader& reader, const YamlNode& root) {
  AgentConfig config;
  MapFields fields(reader, root, "");
  read_names(reader, fields, root.mark, config);
  const YamlNode* const vips = fields.require("vips", root.mark, "vips: [203.0.113.10]");
  config.vips = read_addresses(reader, vips, "vips", AGENT_MAX_VIPS);
  read_balancers(reader, fields.require("balancers", root.mark, "balancers: [198.51.100.0/26]"), config);
  config.peers = read_addresses(reader, fields.find("peers"), "peers", AGENT_MAX_PEERS);
  read_tunnels(reader, fields.find("tunnels"), config);
  fields.choice("attach", kWays, config.attach);
  config.gue_port = GUE_DEFAULT_PORT;
  fields.number("gue_port", 1, 65535, config.gue_port);
  config.second_chance = config.gue && !config.peers.empty();
  fields.choice("second_chance", kSwitches, config.second_chance);
  fields.choice("clamp_mss", kSwitches, config.clamp_mss);
  fields.number("mtu", kMinMtu, kMaxMtu, config.mtu);
  fields.finish();
  return config;
}

std::string format(const std::vector<ConfigMessage>& messages, const std::string& name) {
  std::string text;
  for (const ConfigMessage& message : messages) {
    text += to_printable(name);
    if (message.line > 0) text += fmt::format(":{}:{}", message.line, message.column);
    text += fmt::format(": {}: {}\n", message.is_error ? "error" : "warning", to_printable(message.text));
  }
  return text;
}

AgentConfigResult failure(const std::string& path, std::string text) {
  return {std::nullopt, format({{true, 0, 0, std::move(text)}}, path)};
}

}  // namespace

const char* to_string(AttachWay way) {
  const auto* const found = std::ranges::find(kWays, way, &WayWord::value);
  return found->word.data();
}

AgentConfigResult load_agent_config(const std::string& path, bool check_system) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (exists && !std::filesystem::is_regular_file(path, error)) return failure(path, "is not a regular file");
  if (exists && std::filesystem::file_size(path, error) > kMaxFileSize && !error)
    return failure(path, "the file is larger than 1 MiB; that is no configuration");
  std::ifstream file(path, std::ios::binary);
  if (!file) return failure(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  std::ostringstream text;
  text << file.rdbuf();
  return parse_agent_config(text.str(), path, check_system);
}

AgentConfigResult parse_agent_config(const std::string& text, const std::string& name, bool check_system) {
  const auto tree = parse_yaml(text);
  if (const auto* message = std::get_if<ConfigMessage>(&tree))
    return {std::nullopt, format({*message}, name)};
  ConfigReader reader;
  AgentConfig config = read_tree(reader, std::get<YamlNode>(tree));
  check_whole(reader, config);
  if (check_system) check_here(reader, config);
  AgentConfigResult result;
  if (!reader.has_errors()) result.config = std::move(config);
  result.messages = format(reader.take_messages(), name);
  return result;
}

uint16_t highest_mss(const AgentConfig& config, uint32_t mtu, Family inner) {
  if (!config.clamp_mss) return 0;
  uint32_t widest = 0;
  for (const Prefix& balancer : config.balancers) {
    const bool is_v4 = balancer.address.is_v4();
    const uint32_t hops = config.second_chance ? 4 * GUE_HOPS_WORDS(GUE_MAX_HOPS, is_v4 ? 4 : 16) : 0;
    const uint32_t gue = config.gue ? kUdpHeader + sizeof(gue_header) + hops : 0;
    widest = std::max<uint32_t>(widest, (is_v4 ? kIpv4Header : kIpv6Header) + gue);
  }
  const uint32_t headers = widest + (inner == Family::v4 ? kIpv4Header : kIpv6Header) + kTcpHeader;
  return static_cast<uint16_t>(mtu > headers ? mtu - headers : 1);
}

}  // namespace portico
