// SPDX-License-Identifier: Apache-2.0
#include "dataplane/port_plan.h"

#include <array>
#include <cctype>

namespace portico {
namespace {

// The value of `key=` in "a=1,b=2"; empty if it is not there.
std::string argument_value(const std::string& arguments, const std::string& key) {
  size_t start = 0;
  while (start < arguments.size()) {
    size_t end = arguments.find(',', start);
    if (end == std::string::npos) end = arguments.size();
    const std::string pair = arguments.substr(start, end - start);
    if (pair.starts_with(key + "=")) return pair.substr(key.size() + 1);
    start = end + 1;
  }
  return "";
}

// net_af_xdp takes the first N queues. busy_budget=0: the driver's preferred busy polling costs a system call
// per empty poll and needs sysfs settings of the interface that are not ours to change.
std::string af_xdp_arguments(const std::string& interface, uint32_t queues, const std::string& xdp_program) {
  std::string arguments =
      "iface=" + interface + ",start_queue=0,queue_count=" + std::to_string(queues) + ",busy_budget=0";
  if (!xdp_program.empty()) arguments += ",xdp_prog=" + xdp_program;
  return arguments;
}

// The kernel interface that a vdev's arguments name, if its driver attaches to one.
std::string interface_of(const std::string& device, const std::string& arguments) {
  for (const char* key : {"iface", "remote"}) {
    // Memory interfaces use "iface" for other things; only these drivers attach to a kernel device.
    if (device.starts_with("net_af_") || device.starts_with("net_pcap") || device.starts_with("net_tap")) {
      std::string value = argument_value(arguments, key);
      if (!value.empty()) return value;
    }
  }
  return "";
}

}  // namespace

bool is_pci_address(const std::string& text) {
  std::string shape;
  for (const char c : text) shape += std::isxdigit(static_cast<unsigned char>(c)) != 0 ? 'x' : c;
  static constexpr std::array kShapes = {"xx:xx.x", "xxxx:xx:xx.x", "xxxxxxxx:xx:xx.x"};
  for (const char* known : kShapes) {
    if (shape == known) return text.back() >= '0' && text.back() <= '7';
  }
  return false;
}

PortPlan plan_port(const PortRecord& record, uint32_t index, uint32_t queues,
                   const std::string& xdp_program) {
  PortPlan plan{};
  plan.name = field_text(record.name);
  plan.arguments = field_text(record.devargs);
  if (plan.arguments.empty() && is_pci_address(plan.name)) {
    plan.kind = PortKind::pci;
    plan.device = plan.name.size() == 7 ? "0000:" + plan.name : plan.name;
  } else if (plan.arguments.empty() && !plan.name.starts_with("net_") &&
             !plan.name.starts_with("virtio_user")) {
    plan.kind = PortKind::kernel_interface;
    plan.device = "net_af_xdp" + std::to_string(index);
    plan.arguments = af_xdp_arguments(plan.name, queues, xdp_program);
    plan.interface = plan.name;
  } else {
    // "net_pcap0,rx_pcap=..." or the arguments alone with the device as the port's name.
    const size_t comma = plan.arguments.find(',');
    const std::string head = plan.arguments.substr(0, comma);
    const bool head_is_device = !head.empty() && head.find('=') == std::string::npos;
    if (head_is_device && is_pci_address(head)) {
      plan.kind = PortKind::pci;
    } else {
      plan.kind = PortKind::vdev;
    }
    plan.device = head_is_device ? head : plan.name;
    if (head_is_device) plan.arguments = comma == std::string::npos ? "" : plan.arguments.substr(comma + 1);
    plan.interface = interface_of(plan.device, plan.arguments);
  }
  return plan;
}

}  // namespace portico
