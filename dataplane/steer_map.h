// SPDX-License-Identifier: Apache-2.0
// One map of an attached steering program, with a copy of what we put there: only differences cost system
// calls.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "bpf/steer_maps.h"
#include "contract/address.h"
#include "dataplane/xdp_program.h"

namespace portico {

// The longest key of the steering maps, address and port; the rest of a shorter one is zero.
using SteerKey = std::array<uint8_t, sizeof(steer_endpoint)>;
// Values are of 4 bytes in every map.
using SteerEntries = std::map<SteerKey, uint32_t>;

// Key of `listeners` and `dnat`. `port` in host byte order.
SteerKey steer_key(const Address& address, uint16_t port);
// Key of `nat`, `addresses` and `own`.
SteerKey steer_key(const Address& address);
// Key of `tunnels`: the outer sources of a prefix, `length` in bits of its family.
SteerKey steer_tunnel_key(const Address& prefix, uint8_t length);
// Value of `nat`; ports in host byte order, inclusive.
uint32_t steer_range_value(uint16_t first_port, uint16_t last_port);
// The smallest port range that contains both.
uint32_t widest_range(uint32_t a, uint32_t b);

// Functions that can fail return what went wrong, or nullopt.
class SteerMap {
 public:
  using Failure = std::optional<std::string>;

  SteerMap() = default;
  // `name` is for messages.
  SteerMap(UniqueFd fd, std::string name);

  // False if there is no such map.
  explicit operator bool() const { return static_cast<bool>(fd_); }
  int fd() const { return fd_.get(); }
  const SteerEntries& installed() const { return installed_; }

  // Makes the entry be there.
  Failure put(const SteerKey& key, uint32_t value);
  // Puts all entries that are missing or have another value.
  Failure put_all(const SteerEntries& wanted);
  // Removes what is not in `wanted`.
  Failure keep_only(const SteerEntries& wanted);

 private:
  UniqueFd fd_;
  std::string name_;
  SteerEntries installed_;
};

}  // namespace portico
