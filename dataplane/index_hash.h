// SPDX-License-Identifier: Apache-2.0
// The keyed hash of IPv4 flows for the flow tables' index, which only this process computes: NH of UMAC
// (Black et al., CRYPTO 1999; RFC 4418 section 5.2), whose 32-bit multiplications vector units have, and a
// one-to-one mix behind it, so that all bits are equally good. Who does not know the key cannot aim flows at
// a bucket: under a random one two flows collide in all 64 bits with a probability of 2^-31 at most.
#pragma once

#include <cstdint>

#include "contract/flow_hash.h"

namespace portico {

class IndexHasherV4 {
 public:
  explicit IndexHasherV4(const HashKey& key) {
    // A key of few bits, as tests have, is as good as another.
    const uint64_t first = key.k[0] ^ kHashMixA, second = key.k[1] ^ kHashMixB;
    source = static_cast<uint32_t>(first);
    ports = static_cast<uint32_t>(first >> 32);
    destination = static_cast<uint32_t>(second);
    last = static_cast<uint32_t>(second >> 32) | 1;
  }

  // Addresses and ports in network byte order. `port_pair`: of both ports as they stand in a TCP header.
  uint64_t operator()(uint32_t a, uint32_t b, uint32_t port_pair) const {
    uint64_t x = uint64_t{a + source} * (port_pair + ports) + uint64_t{b + destination} * last;
    x = (x ^ (x >> 32)) * kHashMixB;
    return x ^ (x >> 32);
  }

  // The key's words, by what they are added to; the last one, a factor, is odd, so that no key is without it.
  uint32_t source, ports, destination, last;
};

}  // namespace portico
