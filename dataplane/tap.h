// SPDX-License-Identifier: Apache-2.0
// A tap interface of the kernel as a port's host side. Not net_tap: that driver signals every arrival with
// SIGIO, which may interrupt any worker, and its interface is gone when the process is, with all addresses
// and routes. This one is persistent.
#pragma once

#include <array>
#include <string>

#include "contract/run_dir.h"
#include "dataplane/host_device.h"

namespace portico {

class Tap : public HostDevice {
 public:
  // Makes the interface, or takes over the one of that name that an earlier process left or an administrator
  // made, and gives it the NIC's MAC address and MTU. Throws std::runtime_error with the remedy.
  Tap(const std::string& name, const std::array<uint8_t, 6>& mac, uint32_t mtu);

  uint32_t write(rte_mbuf* const* packets, uint32_t count) override;
  Read read(rte_mempool* pool, rte_mbuf** packets, uint32_t room) override;
  void set_link(bool up) override;
  int fd() const override { return handle_.fd(); }

 private:
  void configure(const std::array<uint8_t, 6>& mac, uint32_t mtu);
  [[noreturn]] void fail(const std::string& what, const std::string& remedy) const;

  std::string name_;
  FileHandle handle_;
};

}  // namespace portico
