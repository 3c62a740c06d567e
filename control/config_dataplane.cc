// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "contract/port_name.h"
#include "control/config_names.h"
#include "control/config_sections.h"

namespace portico {

namespace {

// One port: a name, or a map that has one.
void read_port(ConfigReader& reader, const YamlNode& node, const std::string& path,
               DataplaneConfig& dataplane) {
  DataplaneConfig::Port port;
  const std::string name_path = path + "/name";
  if (node.kind == YamlNode::Kind::map) {
    MapFields fields(reader, node, path);
    if (const YamlNode* name = fields.require("name", node.mark, "name: enp3s0f0")) {
      read_text(reader, *name, name_path, port.name);
    }
    fields.text("devargs", port.devargs);
    // The least MTU that carries IPv4 anywhere (RFC 791) and the largest that NICs offer, with room.
    fields.number_or("auto", "mtu", 576, 16384, port.mtu);
    fields.finish();
  } else {
    read_text(reader, node, name_path, port.name);
  }
  if (reader.source(name_path) == nullptr) return;
  if (port.name.empty() || port.name.size() >= kNameSize) {
    reader.error(node.mark,
                 fmt::format("`{}` is not a port; write an interface such as enp3s0f0, a PCI address "
                             "such as 0000:03:00.0, or a DPDK vdev",
                             port.name));
    return;
  }
  for (const auto& other : dataplane.ports) {
    if (other.name != port.name) continue;
    reader.error(node.mark, fmt::format("port `{}` is listed twice; remove one of them", port.name));
    return;
  }
  reader.set_source(path, {node.mark, {}});
  dataplane.ports.push_back(std::move(port));
}

void read_ports(ConfigReader& reader, const YamlNode& node, const std::string& path,
                DataplaneConfig& dataplane) {
  const auto items = read_items(reader, node, path);
  if (items.size() > kMaxPorts) {
    reader.error(node.mark, fmt::format("{} ports; at most {} are possible", items.size(), kMaxPorts));
    return;
  }
  for (const YamlNode* item : items) {
    read_port(reader, *item, fmt::format("{}/#{}", path, dataplane.ports.size()), dataplane);
  }
}

// `workers` and `worker_cpus` say the same in two ways; if both are given they must agree.
void read_workers(ConfigReader& reader, MapFields& fields, DataplaneConfig& dataplane) {
  const bool has_count = fields.number_or("auto", "workers", 1, kMaxWorkers, dataplane.workers);
  const YamlNode* node = fields.find("worker_cpus");
  if (node == nullptr || (node->kind == YamlNode::Kind::scalar && node->text == "auto")) return;
  std::string text, problem;
  const std::string path = fields.path_of("worker_cpus");
  if (!read_text(reader, *node, path, text)) return;
  const auto cpus = parse_cpus(text, problem);
  if (!cpus) return reader.error(node->mark, problem);
  if (has_count && dataplane.workers != 0 && dataplane.workers != cpus->size()) {
    reader.error(node->mark,
                 fmt::format("`worker_cpus` names {} CPUs for {} workers; name one CPU per worker, or "
                             "remove `workers`",
                             cpus->size(), dataplane.workers));
    return;
  }
  dataplane.workers = static_cast<uint32_t>(cpus->size());
  dataplane.worker_cpus = text;
  if (reader.source(fields.path_of("workers")) == nullptr || !has_count) {
    reader.set_source(fields.path_of("workers"), {{}, "implied by worker_cpus"});
  }
}

}  // namespace

void read_dataplane(ConfigReader& reader, const YamlNode& node, DataplaneConfig& dataplane) {
  constexpr uint32_t kFewestFlows = 1024, kMostFlows = 1u << 28;
  constexpr uint32_t kFewestMbufs = 1024, kMostMbufs = 1u << 24;
  constexpr uint32_t kHighestRate = 1'000'000'000;
  MapFields fields(reader, node, "dataplane");
  if (const YamlNode* ports = fields.require("ports", node.mark, "ports: [enp3s0f0]")) {
    read_ports(reader, *ports, fields.path_of("ports"), dataplane);
  }
  read_workers(reader, fields, dataplane);
  fields.choice("idle", kIdleChoices, dataplane.idle);
  fields.choice("huge_pages", kHugePagesChoices, dataplane.huge_pages);
  fields.choice("fragments", kFragmentsChoices, dataplane.fragments);
  fields.number("flows", kFewestFlows, kMostFlows, dataplane.flows);
  fields.number_or("auto", "mbufs", kFewestMbufs, kMostMbufs, dataplane.mbufs);
  fields.number_or("unlimited", "new_flow_rate", 1, kHighestRate, dataplane.new_flow_rate);
  fields.number("reset_rate", 1, kHighestRate, dataplane.reset_rate);
  fields.finish();
}

namespace {

// "1024-65535"
void read_port_range(ConfigReader& reader, const YamlNode& node, const std::string& path, NatConfig& nat) {
  std::string text;
  if (!read_text(reader, node, path, text)) return;
  const size_t dash = text.find('-');
  const auto first = parse_number(std::string_view(text).substr(0, dash));
  const auto last = dash == std::string::npos ? first : parse_number(std::string_view(text).substr(dash + 1));
  if (!first || !last || *first < 1 || *first > *last || *last > 65535) {
    reader.error(node.mark,
                 fmt::format("`ports` is `{}`; write a range within 1 to 65535, such as 1024-65535", text));
    return;
  }
  nat.first_port = static_cast<uint16_t>(*first);
  nat.last_port = static_cast<uint16_t>(*last);
}

}  // namespace

void read_nat(ConfigReader& reader, const YamlNode& node, NatConfig& nat) {
  MapFields fields(reader, node, "nat");
  if (const YamlNode* addresses = fields.require("addresses", node.mark, "addresses: [203.0.113.20]")) {
    const std::string path = fields.path_of("addresses");
    for (const YamlNode* item : read_items(reader, *addresses, path)) {
      std::string text, problem;
      const std::string item_path = fmt::format("{}/#{}", path, nat.addresses.size());
      if (!read_text(reader, *item, item_path, text)) continue;
      const auto address = parse_forwarded_address(text, problem);
      if (address) {
        nat.addresses.push_back(*address);
      } else {
        reader.error(item->mark, problem);
      }
    }
    if (nat.addresses.size() > kMaxNatAddresses) {
      reader.error(addresses->mark, fmt::format("{} NAT addresses; at most {} are possible",
                                                nat.addresses.size(), kMaxNatAddresses));
    }
  }
  if (const YamlNode* ports = fields.find("ports"))
    read_port_range(reader, *ports, fields.path_of("ports"), nat);
  fields.finish();
}

std::string interface_of(const DataplaneConfig::Port& port) {
  const std::string interface = parse_port(port.name, port.devargs).kernel_side();
  return interface.empty() ? port.name : interface;
}

}  // namespace portico
