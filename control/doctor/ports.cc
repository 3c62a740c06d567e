// SPDX-License-Identifier: Apache-2.0
// The dataplane's ports: driver, link, steering program, queues, MTU, and what the kernel does with their
// packets.
#include <fmt/format.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <algorithm>
#include <memory>

#include "contract/feedback_file.h"
#include "contract/interface_facts.h"
#include "contract/port_name.h"
#include "control/doctor/finding.h"
#include "control/netlink.h"

namespace portico::doctor {

namespace {

constexpr uint32_t kUsualMtu = 1500, kLeastMtu6 = 1280;

// How an XDP program is attached, as in XDP_ATTACHED_*; nullopt: the kernel does not say.
std::optional<uint8_t> xdp_attached(const std::string& interface) {
  auto socket = NetlinkSocket::open(0);
  if (!socket) return std::nullopt;
  NetlinkRequest request(RTM_GETLINK, NLM_F_ACK);
  request.fixed<ifinfomsg>()->ifi_index = static_cast<int>(if_nametoindex(interface.c_str()));
  std::optional<uint8_t> mode;
  socket->request(request, [&](const nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWLINK) return;
    const auto fields = attributes<IFLA_XDP + 1>(message, sizeof(ifinfomsg));
    if (fields[IFLA_XDP] == nullptr) return;
    const auto xdp = nested_attributes<IFLA_XDP_ATTACHED + 1>(fields[IFLA_XDP]);
    if (xdp[IFLA_XDP_ATTACHED] != nullptr) mode = mnl_attr_get_u8(xdp[IFLA_XDP_ATTACHED]);
  });
  return mode;
}

bool has_carrier(const Files& files, const std::string& interface) {
  return files.number("/sys/class/net/" + interface + "/carrier").value_or(0) == 1;
}

void check_program(Examination& e, const std::string& interface) {
  const auto mode = xdp_attached(interface);
  if (!mode) return;
  if (e.dataplane_alive && *mode == XDP_ATTACHED_NONE)
    e.add(Severity::error, "ports", interface,
          "the steering program is gone from it: no client's packet reaches the dataplane",
          "find out who removed it (`ip link set " + interface +
              " xdp off` does), then restart portico-dataplane");
  if (e.dataplane_alive && *mode == XDP_ATTACHED_SKB)
    e.add(Severity::warning, "ports", interface,
          "its driver has no XDP of its own; the kernel's generic one copies each packet once more",
          "use a card whose driver has native XDP, or bind it to vfio-pci");
  if (!e.dataplane_alive && *mode != XDP_ATTACHED_NONE)
    e.add(Severity::warning, "ports", interface,
          "an XDP program is attached though no dataplane runs; the dataplane removes its own, and refuses "
          "to start with another's",
          "`bpftool net show dev " + interface + "`; `ip link set " + interface + " xdp off` removes it");
}

void check_interface(Examination& e, const std::string& interface) {
  const InterfaceFacts facts = interface_facts(interface);
  if (!facts.exists)
    return e.add(Severity::error, "ports", interface, "there is no such interface",
                 "`ip link` lists those there are; mend `dataplane: ports`");
  if (!facts.is_up)
    return e.add(Severity::error, "ports", interface, "it is down: nothing arrives there",
                 "ip link set " + interface + " up (and in the system's network configuration)");
  if (!has_carrier(e.files, interface))
    e.add(Severity::error, "ports", interface, "it has no carrier", "look at its cable and at the switch");
  check_program(e, interface);
}

// A NIC that DPDK drives alone.
void check_pci(Examination& e, const std::string& address) {
  const std::string device = "/sys/bus/pci/devices/" + address;
  if (!e.files.exists(device))
    return e.add(Severity::error, "ports", address, "there is no such PCI device",
                 "`lspci -D` lists those there are; mend `dataplane: ports`");
  const std::string driver = e.files.link_name(device + "/driver");
  // Of the drivers that work beside DPDK's, this is the usual one.
  if (driver != "vfio-pci" && driver != "mlx5_core")
    e.add(Severity::error, "ports", address,
          (driver.empty() ? "no driver has it" : "the kernel's driver " + driver + " has it") +
              ": DPDK cannot open it",
          "dpdk-devbind.py --bind=vfio-pci " + address);
  if (driver == "vfio-pci" && e.files.link_name(device + "/iommu_group").empty())
    e.add(Severity::error, "ports", address, "it is in no IOMMU group: vfio-pci does not hand it out",
          "switch the IOMMU on: in the firmware, and `intel_iommu=on` or `amd_iommu=on` for the kernel");
}

std::optional<uint32_t> running_workers(const Examination& e) {
  if (!e.dataplane_alive) return std::nullopt;
  const auto header = std::make_unique<FeedbackHeader>();
  if (!FeedbackReader(e.run_dir).read_header(*header).ok()) return std::nullopt;
  return header->worker_count;
}

bool has_v6(const Config& config) {
  for (const auto& service : config.services)
    for (const Endpoint& endpoint : service.listen)
      if (!endpoint.address.is_v4()) return true;
  return false;
}

}  // namespace

void check_ports(Examination& e) {
  for (const auto& port : e.config.dataplane.ports) {
    const PortName name = parse_port(port.name, port.devargs);
    if (!name.interface.empty()) check_interface(e, name.interface);
    if (name.kind == PortKind::pci) check_pci(e, name.device);
    if (e.dataplane_alive && !name.tap.empty() && !interface_facts(name.tap).exists)
      e.add(Severity::error, "ports", name.tap,
            "the tap is gone by which the kernel shares the port: ARP and checks do not work",
            "restart portico-control, which makes it, then portico-dataplane");
  }
}

void check_queues(Examination& e) {
  const uint32_t configured = e.config.dataplane.workers;
  const uint32_t workers = running_workers(e).value_or(configured);
  if (workers == 0) return;
  for (const auto& port : e.config.dataplane.ports) {
    const PortName name = parse_port(port.name, port.devargs);
    if (name.kind != PortKind::kernel_interface) continue;
    const InterfaceFacts facts = interface_facts(name.interface);
    const uint32_t queues = facts.arrival_queues();
    if (queues == 0 || queues == workers) continue;
    const std::string difference =
        fmt::format("packets arrive on {} of its queues, and there are {} workers: ", queues, workers);
    e.add(Severity::error, "queues", name.interface,
          difference + (queues > workers ? "those of queues without a worker are lost"
                                         : "workers without a queue have nothing to do"),
          fmt::format("{}, or `dataplane: workers: {}`", queues_command(name.interface, facts, workers),
                      queues));
  }
}

void check_mtu(Examination& e) {
  for (const std::string& interface : port_interfaces(e.config)) {
    const InterfaceFacts facts = interface_facts(interface);
    if (!facts.exists || facts.mtu == 0) continue;
    if (facts.mtu < kLeastMtu6 && has_v6(e.config))
      e.add(Severity::error, "mtu", interface,
            fmt::format("its MTU of {} is too small for IPv6, which the kernel switches off below {}",
                        facts.mtu, kLeastMtu6),
            "ip link set " + interface + " mtu 1500");
    else if (facts.mtu < kUsualMtu)
      e.add(Severity::warning, "mtu", interface,
            fmt::format("its MTU is {}: hosts of the same network with 1500 send packets that it drops",
                        facts.mtu),
            "ip link set " + interface + " mtu 1500, or the smaller one on all hosts of the network");
  }
  for (const auto& port : e.config.dataplane.ports) {
    const std::string interface = interface_of(port);
    const uint32_t present = interface_facts(interface).mtu;
    if (port.mtu != 0 && present != 0 && port.mtu != present && e.dataplane_alive)
      e.add(Severity::warning, "mtu", interface,
            fmt::format("it has MTU {}, the configuration says {}", present, port.mtu),
            fmt::format("ip link set {} mtu {}", interface, port.mtu));
  }
}

void check_rp_filter(Examination& e) {
  const auto value = [&](const std::string& interface) {
    return e.files.number("/proc/sys/net/ipv4/conf/" + interface + "/rp_filter").value_or(0);
  };
  for (const std::string& interface : port_interfaces(e.config)) {
    // The larger of the two counts (ip-sysctl.rst).
    const bool by_all = value("all") > value(interface);
    if (std::max(value("all"), value(interface)) == 1)
      e.add(Severity::warning, "rp_filter", interface,
            "the kernel drops what arrives by another port than its answer would leave by: checks, pings "
            "and ICMP errors are lost where routes differ by direction",
            fmt::format("sysctl -w net.ipv4.conf.{}.rp_filter=2", by_all ? "all" : interface));
    if (has_v6(e.config) &&
        e.files.number("/proc/sys/net/ipv6/conf/" + interface + "/disable_ipv6").value_or(0) != 0)
      e.add(Severity::error, "rp_filter", interface,
            "IPv6 is off there, and services listen on IPv6 addresses: nobody answers for them",
            fmt::format("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", interface));
  }
}

}  // namespace portico::doctor
