// SPDX-License-Identifier: Apache-2.0
// What is written into a packet on its way through, and counted for it.
#pragma once

#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/core.h"

namespace portico {

// What stays of a received buffer's flags: nothing that the receiving port said holds for the sending one.
inline constexpr uint64_t kBufferFlags = RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;

// Decrements TTL or hop limit, which is above 0.
template <typename F>
[[gnu::always_inline]] inline void age_header(uint8_t* l3) {
  if constexpr (F::kFamily == Family::v6) {
    --l3[F::kTtlOffset];
  } else {
    store(l3 + F::kTtlOffset, aged(load<uint32_t>(l3 + F::kTtlOffset)));
  }
}

// Other addresses and ports, with their checksums, and a smaller TTL.
template <typename F>
[[gnu::always_inline]] inline void rewrite(uint8_t* l3, uint8_t* l4, const typename F::Ip& source,
                                           uint16_t source_port, const typename F::Ip& destination,
                                           uint16_t destination_port, uint16_t address_delta,
                                           uint16_t tcp_delta) {
  store(l3 + F::kSourceOffset, source);
  store(l3 + F::kDestinationOffset, destination);
  store(l4, source_port);
  store(l4 + 2, destination_port);
  adjust_checksum(l4 + kTcpChecksumOffset, tcp_delta);
  --l3[F::kTtlOffset];
  if constexpr (F::kFamily == Family::v4) adjust_checksum(l3 + 10, uint32_t{address_delta} + kTtlDelta);
}

// A packet that has gone to a backend, and one that has gone to a client, but for WorkerCounters::forwarded.
// `bytes`: of the IP packet.
[[gnu::always_inline]] inline void count_in(WorkerCounters& c, uint16_t service, uint16_t backend,
                                            uint16_t bytes) {
  ServiceFeedback& s = c.services[service];
  BackendFeedback& b = c.backends[backend];
  bump(s.packets_in);
  bump(s.bytes_in, bytes);
  bump(b.packets_in);
  bump(b.bytes_in, bytes);
}
[[gnu::always_inline]] inline void count_out(WorkerCounters& c, uint16_t service, uint16_t backend,
                                             uint16_t bytes) {
  ServiceFeedback& s = c.services[service];
  BackendFeedback& b = c.backends[backend];
  bump(s.packets_out);
  bump(s.bytes_out, bytes);
  bump(b.packets_out);
  bump(b.bytes_out, bytes);
}

}  // namespace portico
