// SPDX-License-Identifier: Apache-2.0
// The keyed flow hash that chooses a slot of a pool's look-up table. Both processes compute it (control for
// `explain` and tests), all balancers of a group with the same key agree, and who does not know the key
// cannot aim flows at a slot. Built on folded 64x64->128-bit multiplication, which every CPU does in a few
// cycles.
#pragma once

#include <cstdint>
#include <cstring>

#include "contract/address.h"

namespace portico {

struct HashKey {
  uint64_t k[2];
};

// The high and low half of the 128-bit product, folded: every input bit reaches every output bit.
inline uint64_t fold_multiply(uint64_t a, uint64_t b) {
  __extension__ using u128 = unsigned __int128;
  const u128 product = static_cast<u128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline constexpr uint64_t kHashMixA = 0x9e3779b97f4a7c15;  // odd, 2^64 / golden ratio
inline constexpr uint64_t kHashMixB = 0xd6e8feb86659fd93;

// Four 64-bit words under a key. Ends in a second round so that low and high bits are equally good.
inline uint64_t hash_words(const HashKey& key, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  const uint64_t x = fold_multiply(a ^ key.k[0], b ^ key.k[1] ^ kHashMixA);
  const uint64_t y = fold_multiply(c ^ key.k[1], d ^ key.k[0] ^ kHashMixB);
  return fold_multiply(x ^ kHashMixB ^ key.k[0], y ^ kHashMixA ^ key.k[1]);
}

// Addresses and ports as they stand in the packet (network byte order). IPv4.
inline uint64_t flow_hash_v4(const HashKey& key, uint32_t client, uint16_t client_port, uint32_t vip,
                             uint16_t vip_port) {
  return hash_words(key, (uint64_t{client} << 32) | vip, (uint64_t{client_port} << 16) | vip_port, 4, 0);
}

// The same with what depends on the key alone computed once, for who hashes many. Two multiplications instead
// of three.
class FlowHasherV4 {
 public:
  FlowHasherV4() = default;
  explicit FlowHasherV4(const HashKey& key)
      : addresses_(key.k[0]),
        ports_(key.k[1] ^ kHashMixA),
        first_(kHashMixB ^ key.k[0]),
        second_(fold_multiply(4 ^ key.k[1], key.k[0] ^ kHashMixB) ^ kHashMixA ^ key.k[1]) {}

  uint64_t operator()(uint32_t client, uint16_t client_port, uint32_t vip, uint16_t vip_port) const {
    const uint64_t addresses = (uint64_t{client} << 32) | vip,
                   ports = (uint64_t{client_port} << 16) | vip_port;
    return fold_multiply(fold_multiply(addresses ^ addresses_, ports ^ ports_) ^ first_, second_);
  }

 private:
  uint64_t addresses_ = 0, ports_ = 0, first_ = 0, second_ = 0;
};

// The same for IPv6; `client` and `vip` point at 16 bytes.
inline uint64_t flow_hash_v6(const HashKey& key, const void* client, uint16_t client_port, const void* vip,
                             uint16_t vip_port) {
  uint64_t c[2], v[2];
  std::memcpy(c, client, 16);
  std::memcpy(v, vip, 16);
  return hash_words(key, c[0], c[1], v[0], v[1] ^ (((uint64_t{client_port} << 16) | vip_port) * kHashMixA));
}

// `affinity: client`: the client's address alone (IPv6: its first `prefix_bits` bits, 1..128), so that all
// services of a pool send one client to one backend.
inline uint64_t client_hash(const HashKey& key, const Address& client, unsigned prefix_bits) {
  uint8_t masked[16];
  std::memcpy(masked, client.bytes.data(), 16);
  if (!client.is_v4()) {
    for (unsigned byte = 0; byte < 16; ++byte) {
      const unsigned keep = prefix_bits > byte * 8 ? prefix_bits - byte * 8 : 0;
      if (keep < 8) masked[byte] &= static_cast<uint8_t>(0xff00 >> keep);
    }
  }
  uint64_t words[2];
  std::memcpy(words, masked, 16);
  return hash_words(key, words[0], words[1], 1, 0);
}

// The slot of a table of `size` slots: the hash's high 32 bits scaled, so that its low bits stay free for the
// flow table's buckets.
inline uint32_t slot_of(uint64_t hash, uint32_t size) {
  return static_cast<uint32_t>(((hash >> 32) * size) >> 32);
}

}  // namespace portico
