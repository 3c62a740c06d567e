// SPDX-License-Identifier: Apache-2.0
#include "dataplane/proxy_segment.h"

#include <algorithm>

namespace portico {

namespace {

constexpr uint32_t kWindowOffset = 14;

// Edits a TCP header and adjusts its checksum (RFC 1624).
template <typename Function>
void edit_header(uint8_t* l4, const Function& edit) {
  const uint32_t size = (l4[12] >> 4) * 4u;
  const uint64_t before = sum_bytes(l4, size);
  edit();
  adjust_checksum(l4 + kTcpChecksumOffset, checksum_delta(before, sum_bytes(l4, size)));
}

void set_sequence(uint8_t* l4, uint32_t sequence) {
  store(l4 + 4, htonl(sequence));
}
void set_acknowledgement(uint8_t* l4, uint32_t acknowledgement) {
  store(l4 + 8, htonl(acknowledgement));
}
void shrink_window(uint8_t* l4, uint32_t by) {
  const uint32_t window = ntohs(load<uint16_t>(l4 + kWindowOffset));
  store(l4 + kWindowOffset, htons(static_cast<uint16_t>(window - std::min(window, by))));
}

// Makes NOPs of the options for which unwanted(kind) holds.
template <typename Function>
void blank_options(uint8_t* l4, const Function& unwanted) {
  for_each_option(l4, [&](uint8_t kind, uint8_t* option, uint32_t size) {
    if (unwanted(kind)) std::memset(option, kOptionNop, size);
    return true;
  });
}

template <typename F>
void write_ip(uint8_t* l3, const Ends<F>& ends, const HeaderCue& cue, uint16_t length) {
  std::memset(l3, 0, F::kHeaderSize);
  store(l3 + F::kSourceOffset, ends.source);
  store(l3 + F::kDestinationOffset, ends.destination);
  l3[F::kTtlOffset] = cue.ttl;
  if constexpr (F::kFamily == Family::v4) {
    l3[0] = 0x45;
    l3[1] = cue.traffic_class;
    store(l3 + 2, htons(length));
    store(l3 + 6, htons(0x4000));  // do not fragment
    l3[9] = IPPROTO_TCP;
    store(l3 + 10, static_cast<uint16_t>(~fold_sum(sum_bytes(l3, F::kHeaderSize))));
  } else {
    store(l3, htons(static_cast<uint16_t>(0x6000 | cue.traffic_class << 4)));
    store(l3 + 4, htons(static_cast<uint16_t>(length - F::kHeaderSize)));
    l3[6] = IPPROTO_TCP;
  }
}

// Two NOPs align it, as everybody writes it (RFC 7323 appendix A).
void write_timestamps(uint8_t* option, const HeaderCue& cue) {
  option[0] = option[1] = kOptionNop;
  option[2] = kOptionTimestamps;
  option[3] = kTimestampsSize;
  store(option + 4, cue.timestamp);
  store(option + 8, cue.timestamp_echo);
}

}  // namespace

template <typename F>
uint16_t write_header_segment(uint8_t* l3, const Ends<F>& ends, const NatEntry<F>& flow, const HeaderCue& cue,
                              uint16_t residue) {
  const uint32_t header = kTcpHeaderSize + (cue.has_timestamps ? kPaddedTimestampsSize : 0);
  const auto length = static_cast<uint16_t>(F::kHeaderSize + header + kHeaderBytes<F>);
  write_ip<F>(l3, ends, cue, length);
  uint8_t* const l4 = l3 + F::kHeaderSize;
  std::memset(l4, 0, kTcpHeaderSize);
  store(l4, ends.source_port);
  store(l4 + 2, ends.destination_port);
  set_sequence(l4, flow.client_isn + 1 - kHeaderBytes<F>);
  set_acknowledgement(l4, cue.acknowledgement);
  l4[12] = static_cast<uint8_t>(header / 4 << 4 | (cue.ecn & kAccurateEcn));
  l4[13] = static_cast<uint8_t>(kPsh | kAck | (cue.ecn & (kCwr | kEce)));
  store(l4 + kWindowOffset, cue.window);
  if (cue.has_timestamps) write_timestamps(l4 + kTcpHeaderSize, cue);
  write_proxy_header(l4 + header, flow.client, flow.client_port, flow.vip, flow.vip_port);
  const uint16_t sum = segment_sum<F>(l3, l4, kHeaderBytes<F>, sum_bytes(l4 + header, kHeaderBytes<F>));
  // A right residue is the sum's other zero.
  const uint16_t wrong_by = residue == 0xffff ? uint16_t{0} : residue;
  store(l4 + kTcpChecksumOffset, fold_sum(uint64_t{wrong_by} + static_cast<uint16_t>(~sum)));
  return length;
}

void shift_syn(uint8_t* l4, uint32_t size) {
  edit_header(l4, [&] {
    set_sequence(l4, tcp_sequence(l4) - size);
    blank_options(l4, [](uint8_t kind) { return kind == kOptionFastOpen || kind == kOptionMptcp; });
  });
}

void shift_reset(uint8_t* l4, uint32_t size) {
  edit_header(l4, [&] { set_sequence(l4, tcp_sequence(l4) - size); });
}

uint8_t shift_syn_ack(uint8_t* l4, uint32_t size) {
  constexpr uint8_t kMostScale = 14;  // RFC 7323 section 2.3
  uint8_t scale = 0;
  for_each_option(l4, [&](uint8_t kind, const uint8_t* option, uint32_t length) {
    if (kind == kOptionWindowScale && length == 3) scale = std::min(option[2], kMostScale);
    return true;
  });
  edit_header(l4, [&] {
    set_acknowledgement(l4, tcp_acknowledgement(l4) + size);
    shrink_window(l4, size);  // of a SYN it is never scaled
  });
  return scale;
}

void hide_header(uint8_t* l4, uint32_t first, uint32_t size, uint8_t window_scale) {
  const uint32_t missing = first - tcp_acknowledgement(l4);
  if (missing - 1 >= size) return;
  edit_header(l4, [&] {
    set_acknowledgement(l4, first);
    shrink_window(l4, (missing + (1u << window_scale) - 1) >> window_scale);
    blank_options(l4, [](uint8_t kind) { return kind == kOptionSack; });
  });
}

template uint16_t write_header_segment(uint8_t*, const Ends<V4>&, const NatEntry<V4>&, const HeaderCue&,
                                       uint16_t);
template uint16_t write_header_segment(uint8_t*, const Ends<V6>&, const NatEntry<V6>&, const HeaderCue&,
                                       uint16_t);

}  // namespace portico
