// SPDX-License-Identifier: Apache-2.0
// ICMP errors that the balancer makes itself (RFC 792, RFC 4443).
#pragma once

#include "dataplane/checksum.h"
#include "dataplane/own_packet.h"

namespace portico {

inline constexpr uint32_t kIcmpHeaderSize = 8;

// What an error may be in all: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c). And the least MTU that a
// sender takes for one: RFC 791, RFC 8200 section 5.
template <typename F>
inline constexpr uint32_t kLargestError = F::kFamily == Family::v4 ? 576 : 1280;
template <typename F>
inline constexpr uint32_t kLeastMtu = F::kFamily == Family::v4 ? 68 : 1280;

// What an error says: "does not fit" with the MTU, or, if that is 0, "the host cannot be reached" (RFC 2003
// section 4, RFC 2473 section 8.1 ask for that about tunnels).
struct OwnError {
  uint32_t mtu;
};

// Writes headers before the start of the packet that the error is about, of which `embedded` bytes follow at
// l3 + F::kHeaderSize + kIcmpHeaderSize. Returns the bytes of the whole.
template <typename F>
uint16_t write_own_error(uint8_t* l3, const typename F::Ip& source, const typename F::Ip& destination,
                         const OwnError& error, uint32_t embedded) {
  const auto size = static_cast<uint16_t>(kIcmpHeaderSize + embedded);
  write_ip_header<F>(l3, source, destination, {.protocol = F::kIcmpProtocol, .payload = size});
  uint8_t* const icmp = l3 + F::kHeaderSize;
  std::memset(icmp, 0, kIcmpHeaderSize);
  uint64_t sum = 0;
  if constexpr (F::kFamily == Family::v4) {
    icmp[0] = 3;                       // destination unreachable
    icmp[1] = error.mtu != 0 ? 4 : 1;  // fragmentation needed and DF set; host unreachable
    store(icmp + 6, htons(static_cast<uint16_t>(error.mtu)));
  } else {
    icmp[0] = error.mtu != 0 ? 2 : 1;  // packet too big; destination unreachable
    icmp[1] = error.mtu != 0 ? 0 : 3;  // address unreachable
    store(icmp + 4, htonl(error.mtu));
    sum = sum_of(source) + sum_of(destination) + htons(size) + htons(F::kIcmpProtocol);
  }
  store(icmp + 2, static_cast<uint16_t>(~fold_sum(sum + sum_bytes(icmp, size))));
  return static_cast<uint16_t>(F::kHeaderSize + size);
}

struct WorkerCore;

// Whether a packet fits the way by the next hop, of which kNone is any, or may go in fragments. Else its
// sender has been told what fits, as by answer_too_big (stages.h), but as exceeds_mtu. For packets of which
// nothing but the TTL has been changed: their senders know what the answer is about.
template <typename F>
bool fits_way(WorkerCore& core, Packet& packet, uint16_t next_hop);
// The same of the way to a backend.
template <typename F>
bool fits_way_to_backend(WorkerCore& core, Packet& packet, uint16_t backend, const typename F::Ip& address);

}  // namespace portico
