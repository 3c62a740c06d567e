// SPDX-License-Identifier: Apache-2.0
// What differs between IPv4 and IPv6 in a header, as two types that templates of the packet path take.
#pragma once

#include <netinet/in.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "contract/flow_hash.h"
#include "dataplane/index_hash.h"

namespace portico {

// Unaligned reads and writes of header fields, in the packet's byte order.
template <typename T>
T load(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void store(uint8_t* to, const T& value) {
  std::memcpy(to, &value, sizeof value);
}

struct V4 {
  using Ip = uint32_t;  // network byte order
  static constexpr Family kFamily = Family::v4;
  static constexpr uint32_t kHeaderSize = 20;  // without options
  static constexpr uint32_t kSourceOffset = 12, kDestinationOffset = 16, kTtlOffset = 8;
  static constexpr uint8_t kIcmpProtocol = IPPROTO_ICMP;

  static Ip from(const Address& a) { return a.v4(); }
  static Address address(Ip ip) { return Address::from_v4(ip); }
  static uint64_t hash(const HashKey& key, Ip a, uint16_t a_port, Ip b, uint16_t b_port) {
    return Hasher(key)(a, a_port, b, b_port);
  }
  // hash() under one key.
  class Hasher : public IndexHasherV4 {
   public:
    using IndexHasherV4::IndexHasherV4;
    using IndexHasherV4::operator();
    uint64_t operator()(Ip a, uint16_t a_port, Ip b, uint16_t b_port) const {
      const std::array<uint16_t, 2> pair{a_port, b_port};
      return (*this)(a, b, std::bit_cast<uint32_t>(pair));
    }
  };
};

struct V6 {
  using Ip = std::array<uint64_t, 2>;
  static constexpr Family kFamily = Family::v6;
  static constexpr uint32_t kHeaderSize = 40;
  static constexpr uint32_t kSourceOffset = 8, kDestinationOffset = 24, kTtlOffset = 7;
  static constexpr uint8_t kIcmpProtocol = IPPROTO_ICMPV6;

  static Ip from(const Address& a) { return load<Ip>(a.bytes.data()); }
  static Address address(const Ip& ip) { return Address::from_v6(ip.data()); }
  static uint64_t hash(const HashKey& key, const Ip& a, uint16_t a_port, const Ip& b, uint16_t b_port) {
    return flow_hash_v6(key, a.data(), a_port, b.data(), b_port);
  }
  class Hasher {
   public:
    explicit Hasher(const HashKey& key) : key_(key) {}
    uint64_t operator()(const Ip& a, uint16_t a_port, const Ip& b, uint16_t b_port) const {
      return hash(key_, a, a_port, b, b_port);
    }

   private:
    HashKey key_;
  };
};

template <typename F>
typename F::Ip source_of(const uint8_t* l3) {
  return load<typename F::Ip>(l3 + F::kSourceOffset);
}
template <typename F>
typename F::Ip destination_of(const uint8_t* l3) {
  return load<typename F::Ip>(l3 + F::kDestinationOffset);
}

// Fields of a TCP header (RFC 9293 section 3.1).
inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20;
inline constexpr uint32_t kTcpHeaderSize = 20, kTcpChecksumOffset = 16;
inline uint16_t tcp_source_port(const uint8_t* tcp) {
  return load<uint16_t>(tcp);
}
inline uint16_t tcp_destination_port(const uint8_t* tcp) {
  return load<uint16_t>(tcp + 2);
}
// Sequence numbers in host byte order.
inline uint32_t tcp_sequence(const uint8_t* tcp) {
  return ntohl(load<uint32_t>(tcp + 4));
}
inline uint32_t tcp_acknowledgement(const uint8_t* tcp) {
  return ntohl(load<uint32_t>(tcp + 8));
}

}  // namespace portico
