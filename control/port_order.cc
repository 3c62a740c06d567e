// SPDX-License-Identifier: Apache-2.0
#include "control/port_order.h"

#include <algorithm>

namespace portico {
namespace {

using Ports = std::vector<DataplaneConfig::Port>;

const DataplaneConfig::Port* find(const Ports& ports, const std::string& name) {
  const auto it =
      std::find_if(ports.begin(), ports.end(), [&](const auto& port) { return port.name == name; });
  return it == ports.end() ? nullptr : &*it;
}

std::string conflict(const std::string& name, const char* what) {
  return "`dataplane.ports`: the running dataplane holds port `" + name + "`, which " + what +
         "; ports change only with a restart of the dataplane: stop portico-dataplane, reload, start it "
         "again";
}

}  // namespace

std::optional<std::string> keep_port_order(const std::vector<std::string>& running, const Ports& before,
                                           Ports& wanted) {
  Ports ordered;
  for (const std::string& name : running) {
    const auto* port = find(wanted, name);
    if (port == nullptr) return conflict(name, "the list no longer has");
    const auto* old = find(before, name);
    if (old != nullptr && old->devargs != port->devargs) return conflict(name, "has other devargs now");
    ordered.push_back(*port);
  }
  for (const auto& port : wanted)
    if (find(ordered, port.name) == nullptr) ordered.push_back(port);
  wanted = std::move(ordered);
  return std::nullopt;
}

}  // namespace portico
