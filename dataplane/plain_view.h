// SPDX-License-Identifier: Apache-2.0
// What classifying plain packets needs, so that a burst keeps it in registers: the stages write into packets,
// and the compiler must take every such write for one to anything.
#pragma once

#include "dataplane/core.h"

namespace portico {

template <typename F>
class PlainView {
 public:
  explicit PlainView(const WorkerCore& core)
      : listeners_(core.table->listeners(typename F::Ip{})),
        locals_(core.table->local_map(typename F::Ip{})),
        nat_map_(core.table->nat_map()),
        nat_ranges_(core.table->nat_ranges()),
        services_(&core.table->service(0)),
        local_addresses_(core.table->local_addresses()),
        nat_addresses_(core.table->nat().data()),
        hash_(core.flow_key),
        sharer_count_(core.port_sharers<F>()),
        sharer_(sharer_count_ == 1 ? 0 : core.config.index) {
    if (const auto* const dsr = core.set<F>().dsr.load(std::memory_order_acquire)) dsr_ = &dsr->index();
    if (const auto* const nat = core.set<F>().nat.load(std::memory_order_acquire)) nat_ = &nat->index();
  }

  // What an address and port are to this worker.
  struct Found {
    const FlowIndex* index;
    uint16_t service;  // kNone with nat_out
    Path path;         // done: no service with short ways and no NAT port of this worker
  };
  [[gnu::always_inline]] Found find(const typename F::Ip& destination, uint16_t port) const {
    const uint16_t service = listeners_.find({destination, port});
    if (service == kNone)
      return is_own_reply(destination, port) ? Found{nat_, kNone, Path::nat_out}
                                             : Found{nullptr, kNone, Path::done};
    const Path path = path_to(service);
    return {path == Path::nat_in ? nat_ : dsr_, service, path};
  }
  // `done` in mode dnat: its flows may be another worker's.
  Path path_to(uint16_t service) const {
    const Mode mode = services_[service].mode;
    return mode == Mode::dnat ? Path::done : path_of(mode);
  }

  const auto& listeners() const { return listeners_; }
  const auto& nat_map() const { return nat_map_; }
  const uint32_t* nat_ranges() const { return nat_ranges_; }
  // Whether a reply to any port of a NAT address is for this worker to look at.
  bool takes_all_ports() const { return nat_ != nullptr && sharer_count_ == 1; }
  const auto& hash() const { return hash_; }
  // Null where there are no such flows.
  const FlowIndex* dsr() const { return dsr_; }
  const FlowIndex* nat() const { return nat_; }

 private:
  bool is_own_reply(const typename F::Ip& destination, uint16_t port) const {
    const uint16_t local = locals_.find({destination, 0});
    if (local == kNone || nat_ == nullptr || !local_addresses_[local].is_nat) return false;
    return port_owner(nat_addresses_[local_addresses_[local].nat], ntohs(port), sharer_count_) == sharer_;
  }

  const typename AddressMap<typename F::Ip>::Reader listeners_, locals_;
  const AddressMap<uint32_t>::Reader nat_map_;
  const uint32_t* const nat_ranges_;
  const TableService* const services_;
  const LocalAddress* const local_addresses_;
  const TableNat* const nat_addresses_;
  const typename F::Hasher hash_;
  const uint32_t sharer_count_, sharer_;
  const FlowIndex* dsr_ = nullptr;
  const FlowIndex* nat_ = nullptr;
};

}  // namespace portico
