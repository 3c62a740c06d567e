// SPDX-License-Identifier: Apache-2.0
// One number for what the bytes of flow entries mean: the entries outlive the process, and another build
// must not take them for its own. Sizes, offsets and names of all fields go in, and the values of states and
// ticks. What the number cannot see (the same field with another meaning) needs a new kFlowMeaning.
#pragma once

#include <cstddef>

#include "contract/layout_hash.h"
#include "dataplane/flow_entry.h"

namespace portico {

inline constexpr uint64_t kFlowMeaning = 2;

#define PORTICO_FIELD(field)                                          \
  hash = layout_hash_detail::mix(hash, std::string_view(#field));     \
  hash = layout_hash_detail::mix(hash, uint64_t{offsetof(E, field)}); \
  hash = layout_hash_detail::mix(hash, uint64_t{sizeof(E::field)});

template <typename E>
constexpr uint64_t dsr_layout(uint64_t hash) {
  hash = layout_hash_detail::mix(hash, uint64_t{sizeof(E)});
  PORTICO_FIELD(client)
  PORTICO_FIELD(vip)
  PORTICO_FIELD(client_port)
  PORTICO_FIELD(vip_port)
  PORTICO_FIELD(service)
  PORTICO_FIELD(backend)
  PORTICO_FIELD(client_ack)
  PORTICO_FIELD(vitals)
  return hash;
}

template <typename E>
constexpr uint64_t nat_layout(uint64_t hash) {
  hash = dsr_layout<E>(hash);
  PORTICO_FIELD(nat)
  PORTICO_FIELD(backend_address)
  PORTICO_FIELD(nat_port)
  PORTICO_FIELD(backend_port)
  PORTICO_FIELD(client_isn)
  PORTICO_FIELD(server_ack)
  PORTICO_FIELD(address_delta)
  PORTICO_FIELD(tcp_delta)
  PORTICO_FIELD(is_half_open)
  PORTICO_FIELD(is_answered)
  PORTICO_FIELD(reset_by_client)
  PORTICO_FIELD(header)
  return hash;
}
#undef PORTICO_FIELD

constexpr uint64_t flow_layout() {
  using enum FlowState;
  uint64_t hash = layout_hash_detail::mix(0xcbf29ce484222325, kFlowMeaning);
  for (const FlowState state : {none, syn, established, client_fin, server_fin, closing, reset, dead})
    hash = layout_hash_detail::mix(hash, static_cast<uint64_t>(state));
  hash = layout_hash_detail::mix(hash, uint64_t{kTickMs});
  hash = layout_hash_detail::mix(hash, uint64_t{kTickMask});
  hash = nat_layout<NatEntry<V6>>(nat_layout<NatEntry<V4>>(hash));
  return dsr_layout<DsrEntry<V6>>(dsr_layout<DsrEntry<V4>>(hash));
}
inline constexpr uint64_t kFlowLayout = flow_layout();

}  // namespace portico
