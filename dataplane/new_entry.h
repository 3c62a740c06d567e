// SPDX-License-Identifier: Apache-2.0
// What a new flow's entry holds.
#pragma once

#include "dataplane/checksum.h"
#include "dataplane/core.h"

namespace portico {

// Of a flow that begins with this packet, or whose earlier ones were not seen.
template <typename F>
DsrEntry<F> make_dsr_entry(const WorkerCore& core, const uint8_t* l3, const uint8_t* l4, uint16_t service,
                           uint16_t backend) {
  const uint8_t flags = l4[13];
  const bool is_syn = flags & kSyn;
  const FlowState first = is_syn ? FlowState::syn : next_state(FlowState::established, true, flags, true);
  return {source_of<F>(l3),
          destination_of<F>(l3),
          tcp_source_port(l4),
          tcp_destination_port(l4),
          service,
          backend,
          is_syn ? tcp_sequence(l4) : tcp_acknowledgement(l4),
          Vitals(first, true, core.now)};
}

// Fills in an empty entry of a flow that begins with this SYN, but for its vitals, NAT address and port and
// what follows from those. Ports in network byte order.
template <typename F>
void fill_nat_entry(NatEntry<F>& e, const uint8_t* l3, const uint8_t* l4, uint16_t service, uint16_t backend,
                    const typename F::Ip& backend_address, uint16_t backend_port) {
  e.client = source_of<F>(l3);
  e.vip = destination_of<F>(l3);
  e.client_port = tcp_source_port(l4);
  e.vip_port = tcp_destination_port(l4);
  e.backend_address = backend_address;
  e.backend_port = backend_port;
  e.service = service;
  e.backend = backend;
  e.client_isn = tcp_sequence(l4);
}

// A flow more, for the gauges.
template <typename Entry>
void count_flow(WorkerCore& core, const Entry& e) {
  bump(core.counters.flows);
  bump(core.counters.services[e.service].flows);
  bump(core.counters.backends[e.backend].flows);
}
// And for what only grows.
inline void count_new_flow(WorkerCore& core, uint16_t service, uint16_t backend) {
  bump(core.counters.services[service].new_flows);
  bump(core.counters.backends[backend].new_flows);
}

}  // namespace portico
