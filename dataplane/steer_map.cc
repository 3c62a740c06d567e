// SPDX-License-Identifier: Apache-2.0
#include "dataplane/steer_map.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace portico {

namespace {

steer_port_range range_of(uint32_t value) {
  steer_port_range range;
  std::memcpy(&range, &value, sizeof range);
  return range;
}

}  // namespace

static_assert(sizeof(steer_port_range) == sizeof(uint32_t));

SteerKey steer_key(const Address& address, uint16_t port) {
  steer_endpoint endpoint{};
  std::memcpy(endpoint.address.bytes, address.bytes.data(), sizeof endpoint.address.bytes);
  endpoint.port = htons(port);
  SteerKey key;
  std::memcpy(key.data(), &endpoint, sizeof endpoint);
  return key;
}

SteerKey steer_key(const Address& address) {
  return steer_key(address, 0);
}

SteerKey steer_tunnel_key(const Address& prefix, uint8_t length) {
  // Sources vary in the last 64 bits at most.
  const uint32_t bits = prefix.is_v4() ? 96u + length : std::max<uint32_t>(length, 64);
  const SteerKey address = steer_key(prefix);
  steer_prefix key{bits, {}};
  static_assert(sizeof key == sizeof(SteerKey));
  std::memcpy(key.address.bytes, address.data(), sizeof key.address.bytes);
  SteerKey bytes;
  std::memcpy(bytes.data(), &key, sizeof key);
  return bytes;
}

uint32_t steer_range_value(uint16_t first_port, uint16_t last_port) {
  const steer_port_range range{first_port, last_port};
  uint32_t value;
  std::memcpy(&value, &range, sizeof value);
  return value;
}

uint32_t widest_range(uint32_t a, uint32_t b) {
  const steer_port_range x = range_of(a), y = range_of(b);
  return steer_range_value(std::min(x.first, y.first), std::max(x.last, y.last));
}

SteerMap::SteerMap(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

SteerMap::Failure SteerMap::put(const SteerKey& key, uint32_t value) {
  const auto found = installed_.find(key);
  if (found != installed_.end() && found->second == value) return std::nullopt;
  if (bpf_map_update_elem(fd_.get(), key.data(), &value, BPF_ANY) != 0)
    return "cannot add to the steering map '" + name_ + "': " + std::strerror(errno);
  installed_[key] = value;
  return std::nullopt;
}

SteerMap::Failure SteerMap::put_all(const SteerEntries& wanted) {
  for (const auto& [key, value] : wanted) {
    if (auto failure = put(key, value)) return failure;
  }
  return std::nullopt;
}

SteerMap::Failure SteerMap::keep_only(const SteerEntries& wanted) {
  for (auto entry = installed_.begin(); entry != installed_.end();) {
    if (wanted.contains(entry->first)) {
      ++entry;
      continue;
    }
    if (bpf_map_delete_elem(fd_.get(), entry->first.data()) != 0 && errno != ENOENT)
      return "cannot remove from the steering map '" + name_ + "': " + std::strerror(errno);
    entry = installed_.erase(entry);
  }
  return std::nullopt;
}

}  // namespace portico
