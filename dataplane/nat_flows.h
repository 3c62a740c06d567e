// SPDX-License-Identifier: Apache-2.0
// NAT flows with what choosing their ports needs: a rotating cursor per NAT address, and per backend the
// half-open flows from oldest to newest.
#pragma once

#include <random>
#include <vector>

#include "contract/limits.h"
#include "dataplane/endpoint_use.h"
#include "dataplane/flow_table.h"
#include "dataplane/table.h"

namespace portico {

// The ports of one NAT address that one worker owns: first + index, and every worker_count-th from there.
// Ports in host byte order.
struct PortShare {
  uint32_t first;  // port
  uint32_t step;
  uint32_t count;  // 0: none

  uint16_t port(uint32_t i) const { return static_cast<uint16_t>(first + i * step); }
};

inline PortShare port_share(const TableNat& nat, uint32_t worker, uint32_t worker_count) {
  const uint32_t span = nat.last_port - nat.first_port + 1u;
  const uint32_t count = worker_count == 1 ? span
                         : worker < span   ? (span - worker - 1) / worker_count + 1
                                           : 0;
  return {nat.first_port + worker, worker_count, count};
}

// The worker that owns a port (host byte order) of the range, or worker_count if it is outside.
inline uint32_t port_owner(const TableNat& nat, uint16_t port, uint32_t worker_count) {
  if (port < nat.first_port || port > nat.last_port) return worker_count;
  // A division would cost as much as all the rest.
  return worker_count == 1 ? 0 : (port - nat.first_port) % worker_count;
}

template <typename F>
class NatFlows : public FlowTable<NatEntry<F>> {
 public:
  // As FlowTable.
  template <typename... Memory>
  explicit NatFlows(uint32_t capacity, Memory&&... memory)
      : FlowTable<NatEntry<F>>(capacity, std::forward<Memory>(memory)...), half_open_(kMaxBackends) {
    // Anywhere: what ran before may have left connections at the backends, from its own first ports on.
    std::random_device source;
    for (uint32_t& cursor : cursors_) cursor = source();
  }

  // Appends to, and removes from, the backend's half-open flows. Removing one that is not there is allowed.
  void link_half_open(uint32_t reference) {
    auto& entry = (*this)[reference];
    List& list = half_open_[entry.backend];
    entry.older = list.newest;
    entry.newer = 0;
    entry.is_half_open = 1;
    (list.newest != 0 ? (*this)[list.newest].newer : list.oldest) = reference;
    list.newest = reference;
    ++list.count;
  }
  void unlink_half_open(uint32_t reference) {
    auto& entry = (*this)[reference];
    if (!entry.is_half_open) return;
    List& list = half_open_[entry.backend];
    (entry.older != 0 ? (*this)[entry.older].newer : list.oldest) = entry.newer;
    (entry.newer != 0 ? (*this)[entry.newer].older : list.newest) = entry.older;
    entry.is_half_open = 0;
    --list.count;
  }
  uint32_t oldest_half_open(uint16_t backend) const { return half_open_[backend].oldest; }
  uint32_t half_open_count(uint16_t backend) const { return half_open_[backend].count; }

  // How many flows of one backend may be half open, and the generation of the table for which that was
  // computed.
  uint32_t half_open_limit() const { return half_open_limit_; }
  uint64_t ports_generation() const { return ports_generation_; }
  void set_half_open_limit(uint32_t limit, uint64_t generation) {
    half_open_limit_ = limit;
    ports_generation_ = generation;
  }

  // Kept by insert_flow and erase_flow.
  EndpointUse& use() { return use_; }
  const EndpointUse& use() const { return use_; }

  // Where the search for a free port of a NAT address goes on, modulo its ports.
  uint32_t& cursor(uint16_t nat) { return cursors_[nat]; }

 private:
  struct List {
    uint32_t oldest = 0, newest = 0, count = 0;
  };
  std::vector<List> half_open_;
  EndpointUse use_;
  uint32_t half_open_limit_ = 1;
  uint64_t ports_generation_ = 0;
  std::array<uint32_t, kMaxNatAddresses> cursors_{};
};

}  // namespace portico
