// SPDX-License-Identifier: Apache-2.0
#include "contract/port_name.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace portico {
namespace {

constexpr size_t kMaxInterfaceName = 15;  // IFNAMSIZ less the NUL

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

template <size_t N>
bool starts_with_any(const std::string& text, const std::array<const char*, N>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](const char* p) { return text.starts_with(p); });
}

// The kernel interface that a vdev's arguments name. Memory interfaces use "iface" for other things; only
// these drivers attach to a kernel device.
std::string attached_interface(const std::string& device, const std::string& arguments) {
  static constexpr std::array kAttach = {"net_af_", "net_pcap", "net_tap"};
  if (!starts_with_any(device, kAttach)) return "";
  const std::string interface = argument_value(arguments, "iface");
  return interface.empty() ? argument_value(arguments, "remote") : interface;
}

// Drivers behind which another machine is, as behind a NIC.
bool has_wire(const std::string& device) {
  static constexpr std::array kWired = {"net_vhost", "eth_vhost", "virtio_user", "net_virtio_user",
                                        "net_memif"};
  return starts_with_any(device, kWired);
}

// As the kernel's dev_valid_name() has it.
bool is_interface_name(const std::string& name) {
  if (name.empty() || name.size() > kMaxInterfaceName || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c == '/' || c == ':' || std::isspace(c) != 0; });
}

std::string whole_pci_address(const std::string& text) {
  return text.size() == std::string("03:00.0").size() ? "0000:" + text : text;
}

// An address always has one; at most kMaxInterfaceName characters.
std::string tap_of_pci(const std::string& address) {
  const std::string whole = whole_pci_address(address);
  std::string text = whole.starts_with("0000:") ? "tap" + whole.substr(5) : "t" + whole;
  if (whole.starts_with("0000:")) {
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c == ':' || c == '.'; }, '-');
  } else {
    std::erase_if(text, [](char c) { return c == ':' || c == '.'; });
  }
  return text;
}

std::string tap_for(const std::string& name, const PortName& port) {
  if (!port.interface.empty() || (port.kind == PortKind::vdev && !has_wire(port.device))) return "";
  if (is_interface_name(name)) return name;
  return port.kind == PortKind::pci ? tap_of_pci(port.device) : "";
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

PortName parse_port(const std::string& name, const std::string& devargs) {
  PortName port;
  if (devargs.empty() && is_pci_address(name)) {
    port.kind = PortKind::pci;
    port.device = whole_pci_address(name);
  } else if (devargs.empty() && !name.starts_with("net_") && !name.starts_with("eth_") &&
             !name.starts_with("virtio_user")) {
    port.kind = PortKind::kernel_interface;
    port.interface = name;
  } else {
    // "net_pcap0,rx_pcap=..." or the arguments alone with the device as the port's name.
    const size_t comma = devargs.find(',');
    const std::string head = devargs.substr(0, comma);
    const bool head_is_device = !head.empty() && head.find('=') == std::string::npos;
    const std::string device = head_is_device ? head : name;
    port.kind = is_pci_address(device) ? PortKind::pci : PortKind::vdev;
    port.device = port.kind == PortKind::pci ? whole_pci_address(device) : device;
    port.arguments = !head_is_device ? devargs : comma == std::string::npos ? "" : devargs.substr(comma + 1);
    port.interface = attached_interface(port.device, port.arguments);
  }
  port.tap = tap_for(name, port);
  return port;
}

}  // namespace portico
