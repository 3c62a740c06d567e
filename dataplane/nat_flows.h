// SPDX-License-Identifier: Apache-2.0
// NAT flows with what choosing their ports needs: a rotating cursor per NAT address, and per backend the
// half-open flows from oldest to newest.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "contract/limits.h"
#include "dataplane/endpoint_use.h"
#include "dataplane/flow_table.h"
#include "dataplane/reply_spread.h"
#include "dataplane/table.h"

namespace portico {

// The ports of one NAT address that one worker has toward a backend endpoint, each of which comes once in
// `count` turns. Ports in host byte order.
class PortShare {
 public:
  PortShare() = default;
  // By number: first + index, and every worker_count-th from there, toward all endpoints.
  PortShare(const TableNat& nat, uint32_t worker, uint32_t worker_count)
      : first_(nat.first_port + worker), step_(worker_count), last_(nat.last_port) {
    const uint32_t span = nat.last_port - nat.first_port + 1u;
    count_ = ports_ = worker_count == 1 ? span : worker < span ? (span - worker - 1) / worker_count + 1 : 0;
  }
  // Those whose replies a NIC gives to the worker.
  template <typename F>
  PortShare(const TableNat& nat, uint32_t worker, const ReplySpread<F>& spread)
      : first_(nat.first_port), last_(nat.last_port), port_of_(spread.port_of().data()) {
    // Those of one value differ in so many low bits only: what is far from the range is left out.
    const uint32_t bits = spread.coset_bits();
    const std::vector<uint16_t>& all = spread.neutral();
    const auto begin = std::partition_point(all.begin(), all.end(),
                                            [&](uint16_t p) { return p >> bits < nat.first_port >> bits; });
    const auto end = std::partition_point(begin, all.end(),
                                          [&](uint16_t p) { return p >> bits <= nat.last_port >> bits; });
    const auto values = static_cast<uint32_t>(spread.values_of(worker).size());
    neutral_ = all.data() + (begin - all.begin());
    neutral_count_ = static_cast<uint32_t>(end - begin);
    reciprocal_ = (uint64_t{1} << kShift) / neutral_count_ + 1;
    values_ = spread.values_of(worker).data();
    count_ = values * neutral_count_;
    const uint32_t span = nat.last_port - nat.first_port + 1u;
    ports_ = static_cast<uint32_t>(uint64_t{span} * values / spread.port_of().size());
  }

  // Whether port() needs to know the endpoint.
  bool is_spread() const { return neutral_ != nullptr; }
  // Turns in which each port comes once.
  uint32_t count() const { return count_; }
  // How many ports an endpoint has, on average over all endpoints.
  uint32_t ports() const { return ports_; }
  // The port of turn i < count(); 0: there is none. `rest`: ReplySpread::rest() of the endpoint.
  uint16_t port(uint32_t i, uint32_t rest = 0) const {
    if (neutral_ == nullptr) return static_cast<uint16_t>(first_ + i * step_);
    const auto value = static_cast<uint32_t>(i * reciprocal_ >> kShift);  // i / neutral_count_
    const uint16_t port = neutral_[i - value * neutral_count_] ^ port_of_[values_[value] ^ rest];
    return port >= first_ && port <= last_ ? port : 0;
  }

 private:
  // count() is below 2^17 and a divisor at most 2^16, so the quotient comes out exact.
  static constexpr uint32_t kShift = 40;

  uint32_t first_ = 0, step_ = 1, last_ = 0, count_ = 0, ports_ = 0;
  uint32_t neutral_count_ = 1;
  uint64_t reciprocal_ = 0;
  const uint16_t* neutral_ = nullptr;
  const uint16_t* values_ = nullptr;
  const uint16_t* port_of_ = nullptr;
};

// The worker that owns a port (host byte order) of the range where ports are shared out by number, or
// worker_count if it is outside.
inline uint32_t port_owner(const TableNat& nat, uint16_t port, uint32_t worker_count) {
  if (port < nat.first_port || port > nat.last_port) return worker_count;
  // A division would cost as much as all the rest.
  return worker_count == 1 ? 0 : (port - nat.first_port) % worker_count;
}

// Which of `count` NAT addresses a client's port (network byte order) tries first. They spread evenly,
// whether ports are random or follow each other (Knuth's multiplicative hash).
inline uint32_t nat_turn(uint16_t client_port, uint32_t count) {
  return static_cast<uint32_t>((uint64_t{client_port * 0x9e3779b1u} * count) >> 32);
}

template <typename F>
class NatFlows : public FlowTable<NatEntry<F>> {
 public:
  // As FlowTable.
  template <typename... Memory>
  explicit NatFlows(uint32_t capacity, Memory&&... memory)
      : FlowTable<NatEntry<F>>(capacity, std::forward<Memory>(memory)...), half_open_(2 * kMaxBackends) {
    // Anywhere: what ran before may have left connections at the backends, from its own first ports on.
    std::random_device source;
    for (uint32_t& cursor : cursors_) cursor = source();
  }

  // Each backend has two lists of half-open flows: of those that hold NAT ports, and of those that show their
  // client.
  static uint32_t port_list(uint16_t backend) { return 2u * backend; }
  static uint32_t half_open_list(const NatEntry<F>& e) { return port_list(e.backend) + e.shows_client(); }
  // Appends to, and removes from, the entry's list. Removing one that is not there is allowed.
  void link_half_open(uint32_t reference) {
    auto& entry = (*this)[reference];
    const uint32_t id = half_open_list(entry);
    List& list = half_open_[id];
    entry.older = list.newest;
    entry.newer = 0;
    entry.is_half_open = 1;
    (list.newest != 0 ? (*this)[list.newest].newer : list.oldest) = reference;
    list.newest = reference;
    if (list.unjudged == 0) list.unjudged = reference;
    ++list.count;
    lists_linked_ = std::max(lists_linked_, id + 1);
  }
  void unlink_half_open(uint32_t reference) {
    auto& entry = (*this)[reference];
    if (!entry.is_half_open) return;
    List& list = half_open_[half_open_list(entry)];
    (entry.older != 0 ? (*this)[entry.older].newer : list.oldest) = entry.newer;
    (entry.newer != 0 ? (*this)[entry.newer].older : list.newest) = entry.older;
    if (list.unjudged == reference) list.unjudged = entry.newer;
    entry.is_half_open = 0;
    --list.count;
  }
  uint32_t oldest_half_open(uint32_t list) const { return half_open_[list].oldest; }
  uint32_t half_open_count(uint32_t list) const { return half_open_[list].count; }

  // Of a list, the oldest flow of which nobody has said yet whether its SYN was answered in time; 0: none.
  uint32_t unjudged(uint32_t list) const { return half_open_[list].unjudged; }
  // Goes on to the next younger one, if the flow is that oldest one.
  void pass_judgement(uint32_t reference) {
    List& list = half_open_[half_open_list((*this)[reference])];
    if (list.unjudged == reference) list.unjudged = (*this)[reference].newer;
  }
  // Lists of this id or above have never had a flow.
  uint32_t lists_linked() const { return lists_linked_; }

  // The worker's ports of each NAT address and how many flows of one backend may be half open, and the
  // generation of the table for which that was computed.
  PortShare& share(uint16_t nat) { return shares_[nat]; }
  uint32_t half_open_limit() const { return half_open_limit_; }
  uint64_t ports_generation() const { return ports_generation_; }
  void set_half_open_limit(uint32_t limit, uint64_t generation) {
    half_open_limit_ = limit;
    ports_generation_ = generation;
  }

  // Kept by insert_flow and erase_flow.
  EndpointUse& use() { return use_; }
  const EndpointUse& use() const { return use_; }

  // The turn of a NAT address's last port, modulo the count of its share.
  uint32_t& cursor(uint16_t nat) { return cursors_[nat]; }

 private:
  struct List {
    uint32_t oldest = 0, newest = 0, count = 0, unjudged = 0;
  };
  std::vector<List> half_open_;
  EndpointUse use_;
  uint32_t half_open_limit_ = 1;
  uint32_t lists_linked_ = 0;
  uint64_t ports_generation_ = 0;
  std::array<uint32_t, kMaxNatAddresses> cursors_{};
  std::array<PortShare, kMaxNatAddresses> shares_;
};

}  // namespace portico
