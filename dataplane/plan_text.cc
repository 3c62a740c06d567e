// SPDX-License-Identifier: Apache-2.0
#include "dataplane/plan_text.h"

#include <cstdio>
#include <map>

#include "dataplane/buffers.h"

namespace portico {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Workers of each NUMA node; -1: not known.
std::map<int, std::vector<uint32_t>> workers_by_node(const StartPlan& plan) {
  std::map<int, std::vector<uint32_t>> nodes;
  for (uint32_t i = 0; i < plan.workers; ++i) nodes[plan.placement.worker_nodes[i]].push_back(i);
  return nodes;
}

uint64_t buffer_mib(const StartPlan& plan) {
  return (mbuf_memory(plan.mbufs, plan.data_room) + kMiB - 1) / kMiB;
}

template <typename T>
std::string joined(const std::vector<T>& numbers) {
  std::string text;
  for (const T number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

std::string node_name(int node) {
  return node < 0 ? "of unknown number" : std::to_string(node);
}

std::string device_of(const PortPlan& port) {
  return port.device + (port.arguments.empty() ? "" : "," + port.arguments);
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[7];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string quoted_list(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += (out.empty() ? "" : ", ") + quoted(text);
  return "[" + out + "]";
}

// A JSON number, or null for what is not known.
std::string node_json(int node) {
  return node < 0 ? "null" : std::to_string(node);
}

std::string ports_json(const StartPlan& plan) {
  std::string out;
  for (size_t i = 0; i < plan.ports.size(); ++i) {
    const PortPlan& port = plan.ports[i];
    out += (i == 0 ? "" : ",\n            ") + std::string("{\"name\": ") + quoted(port.name) +
           ", \"device\": " + quoted(port.device) + ", \"arguments\": " + quoted(port.arguments) +
           ", \"interface\": " + (port.interface.empty() ? "null" : quoted(port.interface)) +
           ", \"numa_node\": " + node_json(plan.port_nodes[i]) +
           ", \"queues\": " + std::to_string(plan.workers) + "}";
  }
  return out;
}

std::string workers_json(const StartPlan& plan) {
  std::string out;
  for (uint32_t i = 0; i < plan.workers; ++i) {
    out += (i == 0 ? "" : ",\n              ") + std::string("{\"index\": ") + std::to_string(i) +
           ", \"cpu\": " + std::to_string(plan.placement.worker_cpus[i]) +
           ", \"numa_node\": " + node_json(plan.placement.worker_nodes[i]) +
           ", \"queue\": " + std::to_string(i) + ", \"flows\": " + std::to_string(plan.flows_per_worker) +
           ", \"why\": " + quoted(plan.placement.reasons[i]) + "}";
  }
  return out;
}

std::string nodes_json(const StartPlan& plan) {
  std::string out;
  for (const auto& [node, workers] : workers_by_node(plan)) {
    out += (out.empty() ? "" : ",\n            ") + std::string("{\"numa_node\": ") + node_json(node) +
           ", \"workers\": [" + joined(workers) + "], \"packet_buffers\": " + std::to_string(plan.mbufs) +
           ", \"buffer_bytes\": " + std::to_string(plan.data_room) +
           ", \"buffer_mib\": " + std::to_string(buffer_mib(plan)) + "}";
  }
  return out;
}

}  // namespace

std::string plan_text(const StartPlan& plan) {
  const Placement& placement = plan.placement;
  std::string text = "machine: " + plan.machine + "\n";
  for (size_t i = 0; i < plan.ports.size(); ++i) {
    text += "port " + plan.ports[i].name + ": " + device_of(plan.ports[i]);
    if (plan.port_nodes[i] >= 0) text += ", on NUMA node " + std::to_string(plan.port_nodes[i]);
    text += "\n";
  }
  for (uint32_t i = 0; i < plan.workers; ++i) {
    text += "worker " + std::to_string(i) + ": CPU " + std::to_string(placement.worker_cpus[i]) + ", queue " +
            std::to_string(i) + " of each port, " + std::to_string(plan.flows_per_worker) + " flows; " +
            placement.reasons[i] + "\n";
  }
  text += "other threads: CPU " + joined(placement.main_cpus) + "\n";
  for (const auto& [node, workers] : workers_by_node(plan)) {
    text += "NUMA node " + node_name(node) + ": workers " + joined(workers) + ", " +
            std::to_string(plan.mbufs) + " packet buffers of " + std::to_string(plan.data_room) + " bytes, " +
            std::to_string(buffer_mib(plan)) + " MiB" +
            (plan.huge_pages ? " of huge pages\n" : " without huge pages\n");
  }
  text += "dpdk:";
  for (const std::string& argument : eal_arguments(plan.eal)) text += " " + argument;
  text += "\n";
  for (const std::string& warning : placement.warnings) text += "! " + warning + "\n";
  for (const std::string& objection : plan.objections) text += "! it would not start: " + objection + "\n";
  return text;
}

std::string plan_json(const StartPlan& plan) {
  return "{\"machine\": " + quoted(plan.machine) + ",\n \"ports\": [" + ports_json(plan) +
         "],\n \"workers\": [" + workers_json(plan) + "],\n \"other_cpus\": [" +
         joined(plan.placement.main_cpus) + "],\n \"nodes\": [" + nodes_json(plan) +
         "],\n \"huge_pages\": " + (plan.huge_pages ? "true" : "false") +
         ",\n \"dpdk\": " + quoted_list(eal_arguments(plan.eal)) +
         ",\n \"warnings\": " + quoted_list(plan.placement.warnings) +
         ",\n \"objections\": " + quoted_list(plan.objections) + "}\n";
}

}  // namespace portico
