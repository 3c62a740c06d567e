// SPDX-License-Identifier: Apache-2.0
#include "dataplane/device.h"

#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "contract/ethtool_block.h"

namespace portico {
namespace {

// The whole number in a small file of sysfs; `otherwise` if there is none.
int64_t number_in(const std::filesystem::path& path, int64_t otherwise) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : otherwise;
}

// The kernel's names of the features by which a NIC takes out tags of 802.1Q and of 802.1ad. `ethtool -k`
// calls the first one rx-vlan-offload.
constexpr std::array<std::string_view, 2> kTakesTags = {"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"};

// The features' names in the order of their bits; empty if the kernel does not tell.
std::vector<std::string> feature_names(const std::string& interface) {
  EthtoolBlock<ethtool_sset_info> sizes(ETHTOOL_GSSET_INFO, sizeof(uint32_t));
  sizes.head()->sset_mask = uint64_t{1} << ETH_SS_FEATURES;
  if (!sizes.exchange(interface) || sizes.head()->sset_mask == 0) return {};
  const uint32_t count = sizes.head()->data[0];
  EthtoolBlock<ethtool_gstrings> strings(ETHTOOL_GSTRINGS, size_t{count} * ETH_GSTRING_LEN);
  strings.head()->string_set = ETH_SS_FEATURES;
  strings.head()->len = count;
  if (!strings.exchange(interface)) return {};
  std::vector<std::string> names;
  for (uint32_t i = 0; i < count; ++i) {
    const auto* text = reinterpret_cast<const char*>(strings.head()->data) + size_t{i} * ETH_GSTRING_LEN;
    names.emplace_back(text, strnlen(text, ETH_GSTRING_LEN));
  }
  return names;
}

// The bits of `names` that are kTakesTags and are on.
std::vector<uint32_t> tag_features_on(const std::string& interface, const std::vector<std::string>& names) {
  const size_t blocks = (names.size() + 31) / 32;
  EthtoolBlock<ethtool_gfeatures> features(ETHTOOL_GFEATURES, blocks * sizeof(ethtool_get_features_block));
  features.head()->size = static_cast<uint32_t>(blocks);
  std::vector<uint32_t> on;
  if (blocks == 0 || !features.exchange(interface)) return on;
  for (uint32_t bit = 0; bit < names.size(); ++bit) {
    const bool takes_tags = std::find(kTakesTags.begin(), kTakesTags.end(), names[bit]) != kTakesTags.end();
    if (takes_tags && (features.head()->features[bit / 32].active >> bit % 32 & 1) != 0) on.push_back(bit);
  }
  return on;
}

void switch_off(const std::string& interface, const std::vector<uint32_t>& bits, size_t blocks) {
  EthtoolBlock<ethtool_sfeatures> wanted(ETHTOOL_SFEATURES, blocks * sizeof(ethtool_set_features_block));
  wanted.head()->size = static_cast<uint32_t>(blocks);
  for (const uint32_t bit : bits) wanted.head()->features[bit / 32].valid |= uint32_t{1} << bit % 32;
  wanted.exchange(interface);  // whether it helped is asked of the kernel
}

}  // namespace

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

std::string keep_vlan_tags(const std::string& interface) {
  const std::vector<std::string> names = feature_names(interface);
  const std::vector<uint32_t> on = tag_features_on(interface, names);
  std::string changed;
  if (on.empty()) return changed;
  switch_off(interface, on, (names.size() + 31) / 32);
  if (const auto left = tag_features_on(interface, names); !left.empty()) {
    throw std::runtime_error(
        interface + ": the NIC takes VLAN tags out of frames (" + names[left.front()] +
        ") and does not leave that, so that AF_XDP cannot tell the VLANs apart; `ethtool -K " + interface +
        " rxvlan off` says why; the port `net_af_packet0` with devargs `iface=" + interface +
        "` works, more slowly");
  }
  for (const uint32_t bit : on) changed += (changed.empty() ? "" : ", ") + names[bit];
  return changed;
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
  return port.kind == PortKind::kernel_interface ? objection_to(port, facts, workers) : std::nullopt;
}

std::optional<std::string> objection_to(const PortPlan& port, const InterfaceFacts& facts, uint32_t workers) {
  const uint32_t queues = facts.arrival_queues();
  if (facts.mtu > kMostAfXdpMtu) {
    return "port " + port.name + ": frames of MTU " + std::to_string(facts.mtu) +
           " do not fit AF_XDP, which has a page for each; `ip link set dev " + port.interface + " mtu " +
           std::to_string(kMostAfXdpMtu) + "`, or give the NIC to DPDK alone (vfio-pci)";
  }
  if (queues == 0 || queues == workers) return std::nullopt;
  const std::string counts = "port " + port.name + ": the interface receives on " + std::to_string(queues) +
                             " queues and there are " + std::to_string(workers) + " workers";
  const std::string fitting = "set `workers: " + std::to_string(queues) + "`";
  if (queues < workers)
    return counts + "; " + fitting + ", or more queues with `" +
           queues_command(port.interface, facts, workers) + "`";
  return counts + "; packets on the other queues would be lost; `" +
         queues_command(port.interface, facts, workers) + "`, or, where the driver cannot, `" +
         spread_command(port.interface, workers) + "`, or " + fitting;
}

}  // namespace portico
