// SPDX-License-Identifier: Apache-2.0
// From a frame to the place of its headers. Trusts nothing: every length is checked against the frame before
// it is used, and each malformation has its reason.
#pragma once

#include <cstdint>

#include "dataplane/family.h"
#include "dataplane/packet.h"

namespace portico {

// Headers of an IP packet, wherever it stands (in a frame or in an ICMP error).
struct IpParts {
  Kind kind;          // malformed, fragment, other_ip, icmp_error or tcp
  DropReason reason;  // if malformed
  bool is_v6;
  uint8_t protocol;       // of the last header
  uint32_t l4_offset;     // bytes from the IP header
  uint32_t total_length;  // as the header says
};

// For parse_ip: the packet is the start of one that an ICMP error embeds, which may be cut and whose checksum
// and source are not judged.
inline constexpr uint32_t kCut = 0;

// Checks the IP header and walks IPv6 extension headers. `available`: bytes that may be read. `whole`: bytes
// of the packet in all its segments, or kCut.
IpParts parse_ip(const uint8_t* l3, uint32_t available, uint32_t whole);

// No port takes frames of this VLAN: the frame has two tags, or one of another kind than 802.1Q.
inline constexpr uint16_t kForeignVlan = 0xfff;

// Fills in the packet from its mbuf: kind, reason, l3, l4, lengths, flags. Headers are looked for in the
// first segment only, where every driver puts them. Returns the frame's VLAN; 0: untagged, or tagged with a
// priority alone (IEEE 802.1Q: VLAN identifier 0).
uint16_t parse_frame(Packet& packet);

// Whether a TCP sends such a combination (RFC 9293): SYN, FIN and RST exclude each other, and all but SYN and
// RST come with ACK.
constexpr bool are_sane_tcp_flags(uint8_t flags) {
  if (flags & kSyn) return (flags & (kFin | kRst)) == 0;
  if (flags & kRst) return (flags & kFin) == 0;
  return flags & kAck;
}

}  // namespace portico
