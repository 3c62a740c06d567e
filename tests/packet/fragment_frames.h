// SPDX-License-Identifier: Apache-2.0
// Fragments for tests: frames cut in pieces, and pieces put together, by arithmetic of its own.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "tests/packet/frame.h"

namespace portico::test {

// A piece of the payload: of IPv4 all that follows the header, of IPv6 all that follows its first header and
// those extensions that `head` counts.
struct Cut {
  size_t offset, size;
  bool is_last;
  uint32_t id = 77;
};

inline bool is_v6_frame(const Bytes& frame) {
  return frame.at(12) == 0x86;
}
// Bytes from the frame's start to what may be cut, of an untagged frame without IPv6 extensions.
inline size_t head_of(const Bytes& frame) {
  return 14 + (is_v6_frame(frame) ? 40 : static_cast<size_t>(frame.at(14) & 15) * 4);
}

// One fragment of an untagged frame whose payload begins at `head`. What lies beyond the frame is zeros.
inline Bytes cut(const Bytes& frame, const Cut& c, size_t head) {
  const bool is_v6 = is_v6_frame(frame);
  Bytes piece(frame.begin(), frame.begin() + static_cast<long>(head));
  const auto set16 = [&piece](size_t at, size_t value) {
    piece[at] = static_cast<uint8_t>(value >> 8);
    piece[at + 1] = static_cast<uint8_t>(value);
  };
  if (is_v6) {
    size_t next = 14 + 6;
    for (size_t at = 14 + 40; at < head; at += (piece.at(at + 1) + 1u) * 8) next = at;
    const uint8_t protocol = std::exchange(piece[next], uint8_t{44});
    const size_t field = c.offset | (c.is_last ? 0 : 1);
    for (const size_t byte : {size_t{protocol}, size_t{0}, field >> 8, field & 255, size_t{c.id >> 24},
                              size_t{c.id >> 16 & 255}, size_t{c.id >> 8 & 255}, size_t{c.id & 255}})
      piece.push_back(static_cast<uint8_t>(byte));
    set16(14 + 4, piece.size() - 54 + c.size);
  } else {
    set16(14 + 2, head - 14 + c.size);
    set16(14 + 4, c.id);
    set16(14 + 6, c.offset / 8 | (c.is_last ? 0 : 0x2000) | (piece[14 + 6] & 0x40u) << 8);
  }
  for (size_t i = 0; i < c.size; ++i) {
    const size_t at = head + c.offset + i;
    piece.push_back(at < frame.size() ? frame[at] : 0);
  }
  mend_ip_sum(piece);
  return piece;
}
inline Bytes cut(const Bytes& frame, const Cut& c) {
  return cut(frame, c, head_of(frame));
}

// All of a frame, in fragments with `step` bytes of payload each.
inline std::vector<Bytes> fragments_of(const Bytes& frame, size_t step, uint32_t id = 77) {
  std::vector<Bytes> pieces;
  const size_t head = head_of(frame), payload = frame.size() - head;
  for (size_t at = 0; at < payload; at += step)
    pieces.push_back(cut(frame, {at, std::min(step, payload - at), at + step >= payload, id}));
  return pieces;
}

// An IPv4 packet with its header's sum made right.
inline Bytes mended(const Bytes& ip) {
  Bytes frame(14 + ip.size());
  frame[12] = 8;
  std::ranges::copy(ip, frame.begin() + 14);
  mend_ip_sum(frame);
  return Bytes(frame.begin() + 14, frame.end());
}

// The IP packet that fragments make, which are all of one: empty if one is missing or contradicts another.
inline Bytes joined(const std::vector<Bytes>& packets) {
  std::map<size_t, Bytes> parts;
  Bytes head;
  size_t total = 0;
  for (const Bytes& ip : packets) {
    const bool is_v6 = ip.at(0) >> 4 == 6;
    if (is_v6 && ip.at(6) != 44) return {};
    const size_t l3 = is_v6 ? 40 : static_cast<size_t>(ip[0] & 15) * 4, at = is_v6 ? 48 : l3;
    const size_t field = is_v6 ? static_cast<size_t>(ip.at(42) << 8 | ip.at(43))
                               : static_cast<size_t>(ip.at(6) << 8 | ip.at(7));
    const size_t offset = is_v6 ? field & 0xfff8 : (field & 0x1fff) * 8;
    const bool is_last = is_v6 ? (field & 1) == 0 : (field & 0x2000) == 0;
    const auto payload = ip.begin() + static_cast<long>(at);
    parts[offset] = Bytes(payload, ip.end());
    if (is_last) total = offset + parts[offset].size();
    if (offset != 0) continue;
    head = Bytes(ip.begin(), ip.begin() + static_cast<long>(l3));
    if (is_v6) head[6] = ip.at(40);
  }
  Bytes whole = head;
  for (const auto& [offset, bytes] : parts) {
    if (whole.size() != head.size() + offset) return {};
    whole.insert(whole.end(), bytes.begin(), bytes.end());
  }
  if (head.empty() || whole.size() != head.size() + total) return {};
  const bool is_v6 = head[0] >> 4 == 6;
  const size_t length = is_v6 ? whole.size() - 40 : whole.size();
  whole[is_v6 ? 4 : 2] = static_cast<uint8_t>(length >> 8);
  whole[is_v6 ? 5 : 3] = static_cast<uint8_t>(length);
  if (is_v6) return whole;
  whole[6] &= 0x40;
  whole[7] = 0;
  return mended(whole);
}

}  // namespace portico::test
