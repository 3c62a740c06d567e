// SPDX-License-Identifier: Apache-2.0
// The outer source addresses of tunnels: those of a prefix, one per flow, so that a portal's NIC, which may
// look at the outer addresses alone, spreads the flows of one balancer over its queues.
#pragma once

#include <endian.h>

#include <algorithm>

#include "dataplane/family.h"

namespace portico {

// Of one family. No tunnels go over a family without a prefix.
template <typename F>
class TunnelSource {
 public:
  TunnelSource() = default;
  // `prefix` has no host bits; `length`: its bits, at most the family's. An all-zero address stands for none.
  TunnelSource(const Address& prefix, uint8_t length) : exists_(!prefix.is_none()) {
    if (!exists_) return;
    prefix_ = F::from(prefix);
    const uint32_t host_bits = kBits - length;
    const uint64_t all = host_bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << host_bits) - 1;
    mask_ = most_ = all;
    if (host_bits < 2) return;  // RFC 3021, RFC 6164: both addresses are hosts'
    least_ = 1;  // the first one is the network's, or of any of its routers (RFC 4291 section 2.6.1)
    if constexpr (F::kFamily == Family::v4) most_ = all - 1;  // the last one is its broadcast address
  }

  bool exists() const { return exists_; }

  // Whether it may be the source of some flow.
  bool contains(const typename F::Ip& ip) const {
    if (!exists_) return false;
    if constexpr (F::kFamily == Family::v4) {
      return ((be32toh(ip) ^ be32toh(prefix_)) & ~mask_) == 0;
    } else {
      return ip[0] == prefix_[0] && ((be64toh(ip[1]) ^ be64toh(prefix_[1])) & ~mask_) == 0;
    }
  }
  // The source of a flow with this hash; of IPv6, at most the last 64 bits are the hash's.
  typename F::Ip pick(uint64_t hash) const {
    const uint64_t host = std::clamp(hash & mask_, least_, most_);
    if constexpr (F::kFamily == Family::v4) {
      return prefix_ | htobe32(static_cast<uint32_t>(host));
    } else {
      return {prefix_[0], prefix_[1] | htobe64(host)};
    }
  }

 private:
  static constexpr uint32_t kBits = sizeof(typename F::Ip) * 8;

  typename F::Ip prefix_{};
  uint64_t mask_ = 0, least_ = 0, most_ = 0;  // of the host bits
  bool exists_ = false;
};

}  // namespace portico
