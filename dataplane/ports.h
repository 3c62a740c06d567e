// SPDX-License-Identifier: Apache-2.0
// DPDK ports: probed, configured with one queue pair per worker, started, counted, closed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "contract/feedback.h"
#include "dataplane/buffers.h"
#include "dataplane/port_plan.h"
#include "dataplane/rss.h"

struct rte_mempool;

namespace portico {

// A pool on the node. Throws std::runtime_error with the remedy.
rte_mempool* create_mbuf_pool(const std::string& name, uint32_t count, uint16_t data_room, int node);

struct Port {
  PortPlan plan;
  uint16_t id = 0;              // DPDK's
  uint32_t queues = 0;          // RX/TX pairs; pair i is worker i's
  uint32_t mtu = 0;             // bytes of IP packet
  bool is_promiscuous = false;  // for want of a way to receive groups only: frames for others come, too
};

class Ports {
 public:
  Ports() = default;
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  // Adds the device, configures `queues` pairs on `pools[worker]` and starts it; has it spread what arrives
  // over the queues by `rss_key`, as far as it can. `mtu` 0: the device's own. Throws std::runtime_error with
  // the port's name and the remedy; ports opened before stay open.
  void open(const PortPlan& plan, uint32_t queues, uint32_t mtu, const RssKey& rss_key,
            const std::vector<rte_mempool*>& pools);

  // Takes over a port that exists already, such as a ring port of a test. Does not start it.
  void adopt(const Port& port) { ports_.push_back(port); }

  const std::vector<Port>& list() const { return ports_; }

  // MAC address of an open port.
  std::array<uint8_t, 6> mac_of(const Port& port) const;
  // Bit i: port i has a link. Like feedback(), for one thread: DPDK's drivers keep no two apart.
  uint64_t links() const;
  // Counters and link state as DPDK has them.
  PortFeedback feedback(size_t index) const;

  // How the open ports spread what arrives over their queues, as far as their drivers tell.
  std::vector<PortRss> rss() const;

  // Stops and closes all. No worker may run.
  void close();

 private:
  bool is_link_up(size_t index) const;

  std::vector<Port> ports_;
};

}  // namespace portico
