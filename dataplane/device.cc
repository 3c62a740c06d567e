// SPDX-License-Identifier: Apache-2.0
#include "dataplane/device.h"

#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "contract/run_dir.h"

namespace portico {
namespace {

// The whole number in a small file of sysfs; `otherwise` if there is none.
int64_t number_in(const std::filesystem::path& path, int64_t otherwise) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : otherwise;
}

bool interface_ioctl(unsigned long request, const std::string& interface, ifreq& ask) {
  if (interface.size() >= sizeof ask.ifr_name) return false;
  const FileHandle socket_handle(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::memcpy(ask.ifr_name, interface.c_str(), interface.size() + 1);
  return socket_handle.is_open() && ioctl(socket_handle.fd(), request, &ask) == 0;
}

}  // namespace

InterfaceFacts interface_facts(const std::string& interface) {
  InterfaceFacts facts;
  ifreq ask{};
  facts.exists = interface_ioctl(SIOCGIFFLAGS, interface, ask);
  if (!facts.exists) return facts;
  facts.is_up = (ask.ifr_flags & IFF_UP) != 0;
  if (interface_ioctl(SIOCGIFMTU, interface, ask)) facts.mtu = static_cast<uint32_t>(ask.ifr_mtu);
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ask = {};
  ask.ifr_data = reinterpret_cast<char*>(&channels);
  if (interface_ioctl(SIOCETHTOOL, interface, ask)) {
    facts.rx_queues = channels.rx_count + channels.combined_count;
  }
  return facts;
}

int numa_node_of(const PortPlan& port) {
  if (port.kind == PortKind::pci) {
    return static_cast<int>(number_in("/sys/bus/pci/devices/" + port.device + "/numa_node", -1));
  }
  if (port.interface.empty()) return -1;
  return static_cast<int>(number_in("/sys/class/net/" + port.interface + "/device/numa_node", -1));
}

uint64_t free_huge_page_bytes() {
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/kernel/mm/hugepages", error)) {
    // "hugepages-2048kB"
    const std::string name = entry.path().filename().string();
    const size_t dash = name.find('-');
    uint64_t kib = 0;
    if (dash == std::string::npos) continue;
    std::from_chars(name.data() + dash + 1, name.data() + name.size(), kib);
    const int64_t reserved = number_in(entry.path() / "resv_hugepages", 0);
    const int64_t free_pages = number_in(entry.path() / "free_hugepages", 0) - reserved;
    if (free_pages > 0) bytes += static_cast<uint64_t>(free_pages) * kib * 1024;
  }
  return bytes;
}

bool has_network_rights() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("CapEff:")) continue;
    const uint64_t held = std::strtoull(line.c_str() + 7, nullptr, 16);
    const auto has = [held](unsigned capability) { return ((held >> capability) & 1) != 0; };
    return has(CAP_NET_ADMIN) && has(CAP_NET_RAW) && (has(CAP_BPF) || has(CAP_SYS_ADMIN));
  }
  return true;
}

std::optional<std::string> objection_to(const PortPlan& port, uint32_t workers) {
  if (port.kind == PortKind::pci) {
    struct stat present;
    if (stat(("/sys/bus/pci/devices/" + port.device).c_str(), &present) == 0) return std::nullopt;
    return "port " + port.name + ": there is no PCI device " + port.device +
           "; `lspci -D` lists them, `dpdk-devbind.py --status` shows their drivers";
  }
  if (port.interface.empty()) return std::nullopt;
  const InterfaceFacts facts = interface_facts(port.interface);
  if (!facts.exists) {
    return "port " + port.name + ": there is no interface " + port.interface +
           " in this network namespace; `ip link` lists them; correct `dataplane.ports`";
  }
  if (!has_network_rights()) {
    return "port " + port.name +
           ": no permission to open it; run as root or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW, "
           "CAP_BPF and CAP_IPC_LOCK";
  }
  if (port.kind != PortKind::kernel_interface || facts.rx_queues == 0) return std::nullopt;
  const std::string counts = "port " + port.name + ": the interface receives on " +
                             std::to_string(facts.rx_queues) + " queues and there are " +
                             std::to_string(workers) + " workers";
  if (facts.rx_queues > workers) {
    return counts + "; packets on the other queues would be lost; `ethtool -L " + port.interface +
           " combined " + std::to_string(workers) +
           "` (or `rx`, where it has no combined ones), or set `workers: " + std::to_string(facts.rx_queues) +
           "`";
  }
  if (facts.rx_queues < workers) {
    return counts + "; set `workers: " + std::to_string(facts.rx_queues) +
           "`, or more queues with `ethtool -L " + port.interface + "`";
  }
  return std::nullopt;
}

}  // namespace portico
