// SPDX-License-Identifier: Apache-2.0
#include "dataplane/ports.h"

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>

#include "dataplane/device.h"
#include "dataplane/log.h"
#include "dataplane/rss.h"

namespace portico {
namespace {

[[noreturn]] void fail(const PortPlan& plan, const std::string& what, int error, const std::string& remedy) {
  std::string text = "port " + plan.name + ": " + what;
  if (error != 0) text += ": " + std::string(rte_strerror(error < 0 ? -error : error));
  throw std::runtime_error(text + "; " + remedy);
}

std::string probe_remedy(const PortPlan& plan) {
  switch (plan.kind) {
    case PortKind::kernel_interface:
      return "the lines above say why; another XDP program on it (`ip link show " + plan.interface +
             "`) or a driver without XDP are usual; devargs `net_af_packet0,iface=" + plan.interface +
             "` works on any interface, more slowly";
    case PortKind::pci:
      return "bind it to vfio-pci (`dpdk-devbind.py --bind=vfio-pci " + plan.device +
             "`) with the IOMMU on; the lines above say what DPDK found";
    case PortKind::vdev:
      break;
  }
  return "check its `devargs`: `" + plan.device + "," + plan.arguments + "`";
}

// PCI devices were probed at start-up because they are on the allow list; the others are added now.
uint16_t probe(const PortPlan& plan) {
  uint16_t id = 0;
  if (plan.kind != PortKind::pci && rte_eth_dev_get_port_by_name(plan.device.c_str(), &id) != 0) {
    const int error = rte_eal_hotplug_add("vdev", plan.device.c_str(), plan.arguments.c_str());
    if (error != 0) fail(plan, "DPDK cannot open it", error, probe_remedy(plan));
  }
  if (rte_eth_dev_get_port_by_name(plan.device.c_str(), &id) != 0) {
    fail(plan, "DPDK has no such device", 0, probe_remedy(plan));
  }
  return id;
}

void configure(const PortPlan& plan, uint16_t id, uint32_t queues, const RssKey& rss_key,
               const rte_eth_dev_info& info) {
  if (info.max_rx_queues < queues || info.max_tx_queues < queues) {
    fail(plan,
         "it has " + std::to_string(std::min(info.max_rx_queues, info.max_tx_queues)) +
             " queue pairs and there are " + std::to_string(queues) + " workers",
         0,
         "lower `workers`, or give the port more queues (for net_af_packet: `qpairs=" +
             std::to_string(queues) + "`)");
  }
  const auto count = static_cast<uint16_t>(queues);
  std::vector<uint8_t> key = device_key(info, rss_key);
  rte_eth_conf conf{};
  if (queues > 1) ask_for_rss(info, key, conf);
  int error = rte_eth_dev_configure(id, count, count, &conf);
  if (error != 0 && conf.rx_adv_conf.rss_conf.rss_key != nullptr) {
    // A driver may have RSS and only a key of its own.
    conf.rx_adv_conf.rss_conf.rss_key = nullptr;
    conf.rx_adv_conf.rss_conf.rss_key_len = 0;
    error = rte_eth_dev_configure(id, count, count, &conf);
  }
  if (error != 0) fail(plan, "it does not take its configuration", error, probe_remedy(plan));
}

void set_up_queues(const PortPlan& plan, uint16_t id, uint32_t queues,
                   const std::vector<rte_mempool*>& pools) {
  uint16_t rx = kQueueDescriptors, tx = kQueueDescriptors;
  int error = rte_eth_dev_adjust_nb_rx_tx_desc(id, &rx, &tx);
  if (error != 0) fail(plan, "it does not take its queue sizes", error, probe_remedy(plan));
  const auto node = static_cast<unsigned>(rte_eth_dev_socket_id(id));
  for (uint32_t i = 0; i < queues; ++i) {
    const auto queue = static_cast<uint16_t>(i);
    error = rte_eth_tx_queue_setup(id, queue, tx, node, nullptr);
    if (error == 0) error = rte_eth_rx_queue_setup(id, queue, rx, node, nullptr, pools[queue]);
    if (error != 0) {
      fail(plan, "queue " + std::to_string(queue) + " does not start", error, probe_remedy(plan));
    }
  }
}

// The kernel behind the tap joins groups that the NIC does not know of: neighbour solicitations, OSPF, VRRP.
// Returns whether frames for other stations come, too.
bool receive_groups(uint16_t id) {
  return rte_eth_allmulticast_enable(id) != 0 && rte_eth_promiscuous_enable(id) == 0;
}

// A kernel interface's MTU is the kernel's business; only a difference that the configuration asks for is
// set.
uint32_t settle_mtu(const PortPlan& plan, uint16_t id, uint32_t wanted) {
  uint16_t present = 0;
  if (rte_eth_dev_get_mtu(id, &present) != 0) present = 1500;
  if (!plan.interface.empty()) {
    const InterfaceFacts facts = interface_facts(plan.interface);
    if (facts.mtu != 0) present = static_cast<uint16_t>(std::min<uint32_t>(facts.mtu, UINT16_MAX));
  }
  if (wanted == 0 || wanted == present) return present;
  const int error = rte_eth_dev_set_mtu(id, static_cast<uint16_t>(std::min<uint32_t>(wanted, UINT16_MAX)));
  if (error != 0 && error != -ENOTSUP) {
    fail(plan, "it does not take MTU " + std::to_string(wanted), error,
         "leave `mtu` out to keep the device's");
  }
  return wanted;
}

}  // namespace

rte_mempool* create_mbuf_pool(const std::string& name, uint32_t count, uint16_t data_room, int node) {
  rte_mempool* pool = rte_pktmbuf_pool_create(name.c_str(), count, kPoolCache, 0, data_room, node);
  if (pool == nullptr) {
    throw std::runtime_error("no memory for " + std::to_string(count) + " packet buffers (" +
                             std::to_string(mbuf_memory(count, data_room) >> 20) +
                             " MiB): " + rte_strerror(rte_errno) +
                             "; reserve more huge pages (scripts/setup) or lower `mbufs`");
  }
  return pool;
}

Ports::~Ports() {
  close();
}

void Ports::open(const PortPlan& plan, uint32_t queues, uint32_t mtu, const RssKey& rss_key,
                 const std::vector<rte_mempool*>& pools) {
  Port port{plan, probe(plan), queues, 0};
  rte_eth_dev_info info{};
  int error = rte_eth_dev_info_get(port.id, &info);
  if (error != 0) fail(plan, "DPDK does not know it", error, probe_remedy(plan));
  configure(plan, port.id, queues, rss_key, info);
  port.mtu = settle_mtu(plan, port.id, mtu);
  ports_.push_back(port);
  set_up_queues(plan, port.id, queues, pools);
  error = rte_eth_dev_start(port.id);
  if (error != 0) fail(plan, "it does not start", error, probe_remedy(plan));
  if (queues > 1) set_rss_table(port.id, info, queues);
  // A kernel interface filters for its own MAC address; a virtual port may have none that anybody knows.
  if (plan.kind == PortKind::vdev && plan.interface.empty()) rte_eth_promiscuous_enable(port.id);
  if (!plan.tap.empty()) ports_.back().is_promiscuous = receive_groups(port.id);
  log_info("port " + plan.name + ": " + plan.device + (plan.arguments.empty() ? "" : "," + plan.arguments) +
           ", " + std::to_string(queues) + " queue pairs, MTU " + std::to_string(port.mtu) +
           (plan.tap.empty() ? "" : ", the kernel's side is " + plan.tap));
}

PortFeedback Ports::feedback(size_t index) const {
  const Port& port = ports_[index];
  PortFeedback out{};
  std::memcpy(out.name, port.plan.name.c_str(), std::min(port.plan.name.size(), sizeof out.name - 1));
  out.queues = port.queues;
  rte_eth_stats stats{};
  if (rte_eth_stats_get(port.id, &stats) == 0) {
    out.rx_packets = stats.ipackets;
    out.tx_packets = stats.opackets;
    out.rx_missed = stats.imissed;
    out.rx_errors = stats.ierrors;
    out.tx_errors = stats.oerrors;
    out.rx_no_mbuf = stats.rx_nombuf;
  }
  out.link_up = is_link_up(index) ? 1 : 0;
  return out;
}

std::vector<PortRss> Ports::rss() const {
  std::vector<PortRss> found;
  for (const Port& port : ports_) {
    const bool is_kernels = port.plan.kind == PortKind::kernel_interface;
    found.push_back({port.plan.name, is_kernels ? rss_of_interface(port.plan.interface)
                                                : rss_of_device(port.id, port.queues)});
  }
  return found;
}

bool Ports::is_link_up(size_t index) const {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(ports_[index].id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

uint64_t Ports::links() const {
  uint64_t links = 0;
  for (size_t i = 0; i < ports_.size(); ++i) links |= uint64_t{is_link_up(i)} << i;
  return links;
}

std::array<uint8_t, 6> Ports::mac_of(const Port& port) const {
  rte_ether_addr address{};
  rte_eth_macaddr_get(port.id, &address);
  std::array<uint8_t, 6> mac;
  std::copy_n(address.addr_bytes, mac.size(), mac.begin());
  return mac;
}

void Ports::close() {
  for (const Port& port : ports_) {
    rte_eth_dev_stop(port.id);
    rte_eth_dev_close(port.id);
  }
  ports_.clear();
}

}  // namespace portico
