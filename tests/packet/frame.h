// SPDX-License-Identifier: Apache-2.0
// Frames for tests: a fluent builder of real ones with right checksums, and a reader that checks checksums by
// its own arithmetic, byte by byte as RFC 1071 says, sharing no code with the dataplane.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "contract/address.h"

namespace portico::test {

using Bytes = std::vector<uint8_t>;

inline constexpr uint8_t kFinFlag = 1, kSynFlag = 2, kRstFlag = 4, kPshFlag = 8, kAckFlag = 16;

// A TCP packet in an Ethernet frame. Both addresses of one family.
class Tcp {
 public:
  Tcp(const std::string& source, uint16_t source_port, const std::string& destination,
      uint16_t destination_port);

  Tcp& flags(uint8_t f) { return flags_ = f, *this; }
  Tcp& seq(uint32_t s) { return seq_ = s, *this; }
  Tcp& ack(uint32_t a) { return ack_ = a, flags_ |= kAckFlag, *this; }
  Tcp& window(uint16_t w) { return window_ = w, *this; }
  Tcp& payload(std::string p) { return payload_ = std::move(p), *this; }
  Tcp& options(Bytes o) { return options_ = std::move(o), *this; }  // of TCP; a multiple of 4 bytes
  Tcp& vlan(uint16_t v) { return vlans_.push_back(v), *this; }
  Tcp& ttl(uint8_t t) { return ttl_ = t, *this; }
  Tcp& ip_options(Bytes o) { return ip_options_ = std::move(o), *this; }  // IPv4; a multiple of 4
  Tcp& extension(uint8_t kind, Bytes b) {
    return extensions_.push_back({kind, std::move(b)}), *this;
  }  // IPv6
  Tcp& protocol(uint8_t p) { return protocol_ = p, *this; }
  Tcp& fragment(uint16_t field) { return fragment_ = field, *this; }  // IPv4's flags and offset

  Bytes ip() const;        // from the IP header on
  operator Bytes() const;  // NOLINT: the frame

 private:
  Bytes segment() const;

  Address source_, destination_;
  uint16_t source_port_, destination_port_;
  uint8_t flags_ = 0, ttl_ = 64, protocol_ = 6;
  uint16_t fragment_ = 0, window_ = 65000;
  uint32_t seq_ = 1000, ack_ = 0;
  std::string payload_;
  Bytes options_, ip_options_;
  std::vector<uint16_t> vlans_;
  std::vector<std::pair<uint8_t, Bytes>> extensions_;
};

// An ICMP or ICMPv6 error (by the family of the addresses) that embeds the first `embedded` bytes of a
// packet.
Bytes icmp_error(const std::string& source, const std::string& destination, uint8_t type, const Bytes& packet,
                 size_t embedded);

// What a frame says.
struct Seen {
  uint8_t port = 0;          // that it left by
  std::string mac, own_mac;  // destination, source: "02:00:00:00:00:01"
  int vlan = 0;              // 0: untagged
  std::string source, destination;
  uint16_t source_port = 0, destination_port = 0;
  uint8_t ttl = 0, flags = 0, protocol = 0;
  uint32_t seq = 0, ack = 0;
  uint16_t window = 0;
  Bytes options;
  std::string payload;
  bool checksums_right = false;
  Bytes icmp_embedded;  // of ICMP errors: from the embedded IP header on
  Bytes ip;             // of frames: from the IP header on
  size_t frame_size = 0;
};

Seen read_frame(const Bytes& frame);
// An IP packet alone, such as one embedded in an error. Its checksums are only checked if it is whole.
Seen read_ip(const Bytes& packet);

// Makes the sum of an untagged frame's IPv4 header right, if it has a whole one.
void mend_ip_sum(Bytes& frame);

// Sum over the bytes as RFC 1071 says, in one's complement.
uint16_t internet_sum(const Bytes& bytes);

}  // namespace portico::test
