// SPDX-License-Identifier: Apache-2.0
// Headers of packets that the balancer makes itself, and the way back to who sent the packet that one
// answers.
#pragma once

#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/packet.h"
#include "dataplane/rewrite.h"

namespace portico {

// TTL and hop limit: what RFC 1700 recommends.
inline constexpr uint8_t kOwnTtl = 64;
// Bytes of an Ethernet header with one tag, the most that is sent.
inline constexpr uint32_t kLargestL2 = 18;

// What stands in an IP header of ours beside the addresses. `flow_label`: IPv6, 20 bits.
struct OwnHeader {
  uint8_t protocol;
  uint16_t payload;  // bytes after the header
  uint8_t traffic_class = 0;
  uint32_t flow_label = 0;
};

// Without options or extensions; of IPv4 not to be fragmented, with identification 0 (RFC 6864 section 4.1).
template <typename F>
void write_ip_header(uint8_t* l3, const typename F::Ip& source, const typename F::Ip& destination,
                     const OwnHeader& header) {
  if constexpr (F::kFamily == Family::v4) {
    std::array<uint16_t, 6> words = {htons(static_cast<uint16_t>(0x4500 | header.traffic_class)),
                                     htons(static_cast<uint16_t>(F::kHeaderSize + header.payload)),
                                     0,
                                     htons(0x4000),  // do not fragment
                                     htons(static_cast<uint16_t>(kOwnTtl << 8 | header.protocol)),
                                     0};
    // Before they are written: reading back at once what smaller stores wrote waits for them.
    uint64_t sum = sum_of(source) + sum_of(destination);
    for (const uint16_t word : words) sum += word;
    words[5] = static_cast<uint16_t>(~fold_sum(sum));
    std::memcpy(l3, words.data(), sizeof words);
  } else {
    store(l3, htonl(0x60000000u | uint32_t{header.traffic_class} << 20 | header.flow_label));
    store(l3 + 4, htons(header.payload));
    l3[6] = header.protocol;
    l3[F::kTtlOffset] = kOwnTtl;
  }
  store(l3 + F::kSourceOffset, source);
  store(l3 + F::kDestinationOffset, destination);
}

// Bytes of the packet's buffer before its IP header.
inline uint32_t room_before(const Packet& p) {
  return static_cast<uint32_t>(p.l3 - static_cast<const uint8_t*>(p.mbuf->buf_addr));
}

// Moves the start of the frame forward by so many bytes, for which there is room; back if they are negative.
inline void prepend(rte_mbuf* m, ptrdiff_t bytes) {
  m->data_off = static_cast<uint16_t>(m->data_off - bytes);
  m->data_len = static_cast<uint16_t>(m->data_len + bytes);
  m->pkt_len = static_cast<uint32_t>(m->pkt_len + bytes);
}

// Makes the mbuf one segment that ends with the packet, of `ip_length` bytes at l3 from now on.
inline void trim(Packet& p, uint16_t ip_length) {
  rte_mbuf* const m = p.mbuf;
  rte_pktmbuf_free(m->next);
  m->next = nullptr;
  m->nb_segs = 1;
  m->data_len = static_cast<uint16_t>(p.l3 - rte_pktmbuf_mtod(m, uint8_t*) + ip_length);
  m->pkt_len = m->data_len;
  p.ip_length = ip_length;
}

// The same, and swaps its MAC addresses.
inline void trim_and_return(Packet& p, uint16_t ip_length) {
  trim(p, ip_length);
  p.mbuf->ol_flags &= kBufferFlags;
  uint8_t* const frame = rte_pktmbuf_mtod(p.mbuf, uint8_t*);
  uint8_t destination[6];
  std::memcpy(destination, frame, 6);
  std::memcpy(frame, frame + 6, 6);
  std::memcpy(frame + 6, destination, 6);
}

}  // namespace portico
