// SPDX-License-Identifier: Apache-2.0
// What a port of `dataplane.ports` is, by its name and DPDK arguments. Both processes must read them alike:
// the dataplane opens the device, control asks the kernel about the interface that stands for it.
#pragma once

#include <string>

namespace portico {

enum class PortKind {
  kernel_interface,  // AF_XDP on a device that the kernel keeps
  pci,               // a device bound to vfio-pci
  vdev,              // any other DPDK virtual device, as given
};

struct PortName {
  PortKind kind = PortKind::vdev;
  std::string device;     // DPDK's device name, "0000:03:00.0"; of kernel_interface: empty, AF_XDP is implied
  std::string arguments;  // the device's arguments, without the name
  std::string interface;  // kernel interface that the device attaches to; empty: none
  // Kernel interface to make for what is not the dataplane's, if the device attaches to none and has a wire:
  // PCI devices, vhost, virtio-user, memif. The port's name if it can be an interface's ("wan" for
  // `{name: wan, devargs: "0000:03:00.0"}`), else by the PCI address: "tap03-00-0" for 0000:03:00.0,
  // "t0001030000" for 0001:03:00.0. Empty: none.
  std::string tap;

  // What addresses, neighbours and routes of the port belong to; empty: nothing.
  const std::string& kernel_side() const { return interface.empty() ? tap : interface; }
};

// An empty `devargs` means: implied by the name, that is a PCI address or else a kernel interface's name.
PortName parse_port(const std::string& name, const std::string& devargs);

// "03:00.0" or "0000:03:00.0".
bool is_pci_address(const std::string& text);

}  // namespace portico
