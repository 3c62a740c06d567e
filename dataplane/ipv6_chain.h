// SPDX-License-Identifier: Apache-2.0
// Where an IPv6 packet says what follows its headers (RFC 8200 section 4).
#pragma once

#include "dataplane/family.h"

namespace portico {

// The byte that names the header at `at`, bytes from the packet's start; the chain up to there is known to be
// well-formed.
inline uint8_t* next_header_of(uint8_t* l3, uint32_t at) {
  uint8_t* field = l3 + 6;
  for (uint32_t header = V6::kHeaderSize; header < at; header += (l3[header + 1] + 1u) * 8)
    field = l3 + header;
  return field;
}

}  // namespace portico
