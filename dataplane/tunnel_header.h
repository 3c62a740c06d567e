// SPDX-License-Identifier: Apache-2.0
// The outer IP header of tunnels.
#pragma once

#include <netinet/in.h>

#include "dataplane/own_packet.h"

namespace portico {

// What the outer header says follows, where that is the client's packet itself (RFC 2003, RFC 2473).
template <typename Inner>
inline constexpr uint8_t kTunnelProtocol = Inner::kFamily == Family::v4 ? IPPROTO_IPIP : IPPROTO_IPV6;

// Around the packet at l3. `payload`: bytes after the header. `hash`: tunnel_hash(). DSCP and ECN are the
// inner packet's: RFC 2983 section 3.1 (uniform), RFC 6040 section 4.1 (normal mode). The flow label is for
// who spreads flows by it (RFC 6438).
template <typename Inner>
OwnHeader tunnel_header(const uint8_t* l3, uint8_t protocol, uint16_t payload, uint64_t hash) {
  constexpr uint32_t kFlowLabel = 0xfffff;
  uint8_t traffic_class = l3[1];
  if constexpr (Inner::kFamily == Family::v6) traffic_class = static_cast<uint8_t>(l3[0] << 4 | l3[1] >> 4);
  return {.protocol = protocol,
          .payload = payload,
          .traffic_class = traffic_class,
          .flow_label = static_cast<uint32_t>(hash >> 12) & kFlowLabel};
}

}  // namespace portico
