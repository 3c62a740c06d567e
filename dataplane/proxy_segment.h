// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol's header as a TCP segment of its own, and what it does to the sequence numbers. Pure.
//
// The header takes the numbers just before the client's first byte: the SYN goes to the backend with a
// sequence number that is lower by the header's size, so that the header fits between SYN and data. From then
// on both sides mean the same byte by the same number, in both directions, SACK blocks included: nothing is
// to be shifted, and nothing to be remembered, once the backend has acknowledged the header. Numbers wrap at
// 2^32 (RFC 9293 section 3.4); all arithmetic is modulo that.
#pragma once

#include <cstdint>

#include "contract/proxy_header.h"
#include "dataplane/checksum.h"
#include "dataplane/flow_entry.h"

namespace portico {

// Bytes of a flow's header.
template <typename F>
inline constexpr uint32_t kHeaderBytes = kProxyHeaderSize<typename F::Ip>;

// Options of TCP that matter here.
inline constexpr uint8_t kOptionEnd = 0, kOptionNop = 1, kOptionWindowScale = 3, kOptionSack = 5,
                         kOptionTimestamps = 8, kOptionMptcp = 30, kOptionFastOpen = 34;
inline constexpr uint32_t kTimestampsSize = 10, kPaddedTimestampsSize = 12;

// Calls f(kind, option, size) for each option of a TCP header, `size` its whole length, until f says false.
// Stops at the first one that is malformed.
template <typename Byte, typename Function>
void for_each_option(Byte* l4, const Function& f) {
  Byte* option = l4 + kTcpHeaderSize;
  Byte* const end = l4 + (l4[12] >> 4) * 4u;
  while (option < end && *option != kOptionEnd) {
    if (*option == kOptionNop) {
      ++option;
      continue;
    }
    if (end - option < 2 || option[1] < 2 || option[1] > end - option) return;
    Byte* const next = option + option[1];
    if (!f(option[0], option, uint32_t{option[1]})) return;
    option = next;
  }
}

// Explicit congestion notification in a TCP header: one bit of byte 12, two of byte 13.
inline constexpr uint8_t kAccurateEcn = 0x01, kEce = 0x40, kCwr = 0x80;

// What a header segment takes over from a segment of the client: the one in whose place it stands, or before
// which it is repeated.
struct HeaderCue {
  uint32_t acknowledgement;
  uint32_t timestamp, timestamp_echo;  // as they stand in packets (RFC 7323)
  uint16_t window;                     // as it stands in packets
  uint8_t has_timestamps;
  uint8_t ttl;
  uint8_t ecn;            // ACE, or CWR and ECE, as they stand in the flags and before (RFC 9768)
  uint8_t traffic_class;  // without ECN: what is repeated must not be marked (RFC 3168 section 6.1.5)
};

template <typename F>
HeaderCue cue_of(const uint8_t* l3, const uint8_t* l4) {
  HeaderCue cue{};
  cue.acknowledgement = tcp_acknowledgement(l4);
  cue.window = load<uint16_t>(l4 + 14);
  cue.ttl = l3[F::kTtlOffset];
  cue.ecn = static_cast<uint8_t>((l4[12] & kAccurateEcn) | (l4[13] & (kCwr | kEce)));
  if constexpr (F::kFamily == Family::v4) {
    cue.traffic_class = l3[1] & 0xfc;
  } else {
    cue.traffic_class = static_cast<uint8_t>(ntohs(load<uint16_t>(l3)) >> 4 & 0xfc);
  }
  for_each_option(l4, [&](uint8_t kind, const uint8_t* option, uint32_t size) {
    if (kind != kOptionTimestamps || size != kTimestampsSize) return true;
    cue.has_timestamps = 1;
    cue.timestamp = load<uint32_t>(option + 2);
    cue.timestamp_echo = load<uint32_t>(option + 6);
    return false;
  });
  return cue;
}

// The largest segment that write_header_segment() makes.
template <typename F>
inline constexpr uint32_t kHeaderSegmentSize =
    F::kHeaderSize + kTcpHeaderSize + kPaddedTimestampsSize + kHeaderBytes<F>;

// A connection's ends as a packet shows them.
template <typename F>
struct Ends {
  typename F::Ip source, destination;
  uint16_t source_port, destination_port;
};

// Writes the flow's header as a whole IP packet to l3; returns its length. `residue` is what the sums of the
// segment come to from which the cue is, 0xffff if its checksum is right: a wrong one stays wrong.
template <typename F>
uint16_t write_header_segment(uint8_t* l3, const Ends<F>& ends, const NatEntry<F>& flow, const HeaderCue& cue,
                              uint16_t residue);

// The one's complement sum of a whole TCP segment with its pseudo-header; 0xffff if the checksum is right.
// `payload_sum`: of the bytes behind the header, which are `payload` bytes.
template <typename F>
uint16_t segment_sum(const uint8_t* l3, const uint8_t* l4, uint32_t payload, uint64_t payload_sum) {
  const uint32_t header = (l4[12] >> 4) * 4u;
  const uint64_t pseudo = sum_of(source_of<F>(l3)) + sum_of(destination_of<F>(l3)) + htons(IPPROTO_TCP) +
                          htons(static_cast<uint16_t>(header + payload));
  return fold_sum(pseudo + sum_bytes(l4, header) + payload_sum);
}

// A client's SYN as the backend shall see it: `size` lower, without Fast Open and Multipath TCP, both of
// which tie data to numbers that the header moves.
void shift_syn(uint8_t* l4, uint32_t size);
// A client's RST before any header was sent.
void shift_reset(uint8_t* l4, uint32_t size);

// A backend's SYN-ACK as the client shall see it. Returns the window scale that it offers.
uint8_t shift_syn_ack(uint8_t* l4, uint32_t size);
// Another packet of the backend: one that does not acknowledge the whole header acknowledges, for the client,
// nothing yet; the window shrinks by what the header still takes of it, and SACK blocks go, which the client
// would take for reneging. `first`: the number of the client's first byte.
void hide_header(uint8_t* l4, uint32_t first, uint32_t size, uint8_t window_scale);

// Whether sequence number a comes before b.
constexpr bool is_before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) < 0;
}

}  // namespace portico
