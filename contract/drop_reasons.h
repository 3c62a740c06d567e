// SPDX-License-Identifier: Apache-2.0
// Every packet ends in exactly one verdict; every drop has exactly one of these reasons. This list generates
// the enum, the counters, the metrics, the CLI's names and docs/drops.md: (name, what it means and what to
// do).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "contract/limits.h"

#define PORTICO_DROP_REASONS(X)                                                                            \
  X(truncated, "the frame ends before its headers do; look for a broken NIC, driver or sender")            \
  X(bad_ip_header, "IP version, header length or total length is wrong; look for a broken sender")         \
  X(bad_ip_checksum, "the IPv4 header checksum is wrong; look for a broken link or sender")                \
  X(bad_tcp_header, "the TCP data offset is wrong or the TCP header is cut; look for a scanner")           \
  X(bad_tcp_flags, "a flag combination that no TCP sends (RFC 9293), such as SYN with FIN; a scanner")     \
  X(bad_source, "the source is multicast, broadcast, loopback, unspecified or one of our own addresses")   \
  X(ttl_expired, "the TTL or hop limit ran out here; look for a routing loop")                             \
  X(fragment, "an IP fragment where the configuration says `fragments: drop`")                             \
  X(fragment_malformed,                                                                                    \
    "a fragment that is empty, ends between multiples of 8 bytes, or ends beyond the largest packet; "     \
    "look for an attack")                                                                                  \
  X(fragment_tiny,                                                                                         \
    "a first fragment without the whole TCP header, or a later one that begins inside it (RFC 1858, RFC "  \
    "7112); look for an attack")                                                                           \
  X(fragment_duplicate, "a fragment that had come before, with the same bytes; a network that repeats")    \
  X(fragment_overlap,                                                                                      \
    "a fragment of a packet of which two contradict each other (RFC 5722, RFC 8200); look for an attack")  \
  X(fragment_too_long,                                                                                     \
    "a fragment of a packet that is larger than a packet buffer: raise the port's "                        \
    "`mtu` if it is to pass")                                                                              \
  X(fragment_timeout, "a fragment of a packet whose others did not come within 2 s; look for loss")        \
  X(fragment_evicted,                                                                                      \
    "a fragment of a packet that gave way to newer ones before it was whole; look for a flood of "         \
    "fragments")                                                                                           \
  X(ipv6_extension, "an IPv6 extension header chain that is too long or that TCP does not need")           \
  X(not_tcp,                                                                                               \
    "neither TCP nor ICMP, to a service's or NAT address, where nothing else is; look for a scanner")      \
  X(not_ours,                                                                                              \
    "addressed to no service and no NAT address; usual on a port without steering (net_af_packet), "       \
    "which sees the kernel's traffic, too; elsewhere steering is older than the table")                    \
  X(unknown_vlan,                                                                                          \
    "tagged for a VLAN that the kernel has no device for on this port; check the switch's trunk")          \
  X(access_denied, "the service's access lists keep the client out; check `allow` and `deny`")             \
  X(source_too_fast,                                                                                       \
    "a new connection above the rate that the service's `limits` give one source; a flood, or many "       \
    "clients behind one address")                                                                          \
  X(source_too_many, "a new connection of a source that has as many as the service's `limits` give it")    \
  X(unknown_flow,                                                                                          \
    "a later packet of a connection that is not known here, in mode nat or dnat; answered with RST")       \
  X(unknown_reply,                                                                                         \
    "a packet to a NAT address, or in mode dnat from a backend's service port, that belongs to no "        \
    "connection; often late ones after a close")                                                           \
  X(reply_ambiguous,                                                                                       \
    "a new connection in mode dnat from a port that its client uses for another listener, too, so that "   \
    "the backend's replies would not tell which is meant; answered with RST: give each listener a "        \
    "`backend_port` of its own")                                                                           \
  X(no_backend,                                                                                            \
    "the pool has no backend to use; dropped or answered with RST, as `all_down` says; check `portico "    \
    "status`")                                                                                             \
  X(nat_ports_exhausted, "no NAT port is free toward that backend; add NAT addresses or look for a flood") \
  X(flow_table_full, "no room for the flow and nothing to evict; raise `flows` or look for a flood")       \
  X(no_route, "no route to the packet's destination; check the kernel's routes (`ip route`)")              \
  X(next_hop_unresolved,                                                                                   \
    "nobody answered for the next hop's MAC address in time; check `ip neigh` and the link")               \
  X(exceeds_mtu, "the packet is larger than its egress MTU; check the path's MTU")                         \
  X(tunnel_too_big,                                                                                        \
    "with its outer header the packet is larger than the egress MTU; the client was told the MTU (ICMP): " \
    "usual where clients discover the path's MTU")                                                         \
  X(tunnel_no_headroom, "no room in the packet buffer before the packet for its outer header; report it")  \
  X(icmp_invalid, "an ICMP error that embeds no TCP header of ours, or a broken one")                      \
  X(icmp_unknown_flow, "an ICMP error about a connection that is not known here")                          \
  X(handover_full, "the ring to the worker that owns the flow is full; workers are overloaded")            \
  X(tx_full, "the transmit queue is full; the link or the peer's queue is overloaded")                     \
  X(no_mbuf, "no packet buffer for an answer, or for what comes or goes in fragments; raise `mbufs`")      \
  X(no_table, "no table has been adopted yet; is portico-control running?")                                \
  X(flow_reset, "a packet of a connection whose backend went down; answered with RST")                     \
  X(rate_limited, "an answer (RST, ICMP) that was not sent because of the rate limit; look for a flood")   \
  X(kernel_full,                                                                                           \
    "the ring to the kernel, of a port on vfio-pci, is full; look for a flood of other "                   \
    "traffic")                                                                                             \
  X(kernel_refused,                                                                                        \
    "the tap interface of a port on vfio-pci did not take it; is it up, or was it deleted (`ip link`)?")   \
  X(from_kernel_full,                                                                                      \
    "the kernel sent it by a port on vfio-pci, and the ring to the worker is full; workers are overloaded")

namespace portico {

enum class DropReason : uint8_t {
#define X(name, text) name,
  PORTICO_DROP_REASONS(X)
#undef X
};

inline constexpr std::array kDropReasonNames = {
#define X(name, text) std::string_view(#name),
    PORTICO_DROP_REASONS(X)
#undef X
};

inline constexpr std::array kDropReasonTexts = {
#define X(name, text) std::string_view(text),
    PORTICO_DROP_REASONS(X)
#undef X
};

inline constexpr uint32_t kDropReasonCount = kDropReasonNames.size();
static_assert(kDropReasonCount <= kMaxDropReasons);

}  // namespace portico
