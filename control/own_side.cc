// SPDX-License-Identifier: Apache-2.0
#include "control/own_side.h"

#include "contract/port_name.h"

namespace portico {

void OwnSide::follow(const Config& config) {
  taps_.clear();
  for (const auto& port : config.dataplane.ports)
    if (auto tap = parse_port(port.name, port.devargs).tap; !tap.empty()) taps_.insert(std::move(tap));
  pools_.clear();
  for (const auto& pool : config.pools)
    for (const auto& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address) pools_[pool.name].addresses.insert(*address);
  seen_version_ = 0;
}

void OwnSide::note_forwarding(bool is_forwarding, Clock::time_point now) {
  if (!is_forwarding)
    forwards_since_.reset();
  else if (!forwards_since_)
    forwards_since_ = now;
}

// Once for all probes that fail by one cause: a pool may have thousands of backends.
void OwnSide::find_devices() {
  const uint64_t version = kernel_.version();
  if (version == seen_version_) return;
  seen_version_ = version;
  for (auto& [name, pool] : pools_) {
    pool.devices.emplace();
    for (const Address& address : pool.addresses) {
      const auto device = kernel_.device_to(address);
      if (device) {
        pool.devices->insert(*device);
        continue;
      }
      pool.devices.reset();
      break;
    }
  }
}

std::string OwnSide::why_deaf(int device, Clock::time_point since) const {
  const std::string interface = kernel_.interface_of(device);
  if (!kernel_.is_up_since(device, since)) return interface + " has no carrier";
  if (taps_.contains(interface) && (!forwards_since_ || *forwards_since_ > since))
    return "no dataplane forwards for " + interface;
  return "";
}

std::string OwnSide::why_deaf(const std::string& pool, Clock::time_point since) {
  find_devices();
  const auto found = pools_.find(pool);
  if (found == pools_.end() || !found->second.devices) return "";
  std::string why;
  for (const int device : *found->second.devices) {
    why = why_deaf(device, since);
    if (why.empty()) return "";
  }
  return why;
}

}  // namespace portico
