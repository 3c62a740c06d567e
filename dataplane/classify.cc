// SPDX-License-Identifier: Apache-2.0
// What a parsed packet is to us.
#include "dataplane/parse.h"
#include "dataplane/plain.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

template <typename F>
void prefetch_flow(WorkerCore& core, Packet& packet) {
  const uint8_t* const l3 = packet.l3;
  packet.hash = F::hash(core.flow_key, source_of<F>(l3), tcp_source_port(packet.l4), destination_of<F>(l3),
                        tcp_destination_port(packet.l4));
  packet.index = packet.path == Path::dsr ? &core.set<F>().dsr.load(std::memory_order_acquire)->index()
                                          : &core.set<F>().nat.load(std::memory_order_acquire)->index();
  packet.index->prefetch(packet.hash);
}

// A reply to a NAT address is for the worker that owns its port.
template <typename F>
void classify_reply(WorkerCore& core, Packet& packet, uint16_t nat) {
  const uint16_t port = ntohs(tcp_destination_port(packet.l4));
  const uint32_t owner = port_owner(core.table->nat()[nat], port, core.config.worker_count);
  if (owner == core.config.worker_count) return to_kernel_or_drop(core, packet, DropReason::not_ours);
  if (owner != core.config.index) return hand_over(core, packet, owner);
  if (core.set<F>().nat.load(std::memory_order_acquire) == nullptr) {
    packet.path = Path::done;
    return drop(core, packet.mbuf, DropReason::unknown_reply);
  }
  packet.nat = nat;
  packet.path = Path::nat_out;
}

template <typename F>
[[gnu::noinline]] void classify_tcp(WorkerCore& core, Packet& packet) {
  const auto destination = destination_of<F>(packet.l3);
  packet.service = core.table->find_service(destination, tcp_destination_port(packet.l4));
  if (packet.service != kNone) {
    packet.path = core.table->service(packet.service).mode == Mode::nat ? Path::nat_in : Path::dsr;
  } else {
    const LocalAddress* const local = core.table->find_local(destination);
    if (local == nullptr || !local->is_nat) return to_kernel_or_drop(core, packet, DropReason::not_ours);
    classify_reply<F>(core, packet, local->nat);
    if (packet.path == Path::done) return;
  }
  if (packet.l3[F::kTtlOffset] <= 1) {
    packet.path = Path::done;
    return drop(core, packet.mbuf, DropReason::ttl_expired);
  }
  prefetch_flow<F>(core, packet);
}

template <typename F>
void classify_ip(WorkerCore& core, Packet& packet) {
  if (packet.kind == Kind::tcp) return classify_tcp<F>(core, packet);
  if (core.table->find_local(destination_of<F>(packet.l3)) == nullptr)
    return to_kernel_or_drop(core, packet, DropReason::not_ours);
  if (packet.kind == Kind::icmp_error) {
    packet.path = Path::icmp;
    return;
  }
  if (packet.kind == Kind::other_ip) return to_kernel_or_drop(core, packet, DropReason::not_tcp);
  packet.path = Path::done;
  drop(core, packet.mbuf, DropReason::fragment);
}

void classify(WorkerCore& core, Packet& packet) {
  switch (packet.kind) {
    case Kind::malformed:
      packet.path = Path::done;
      return drop(core, packet.mbuf, packet.reason);
    case Kind::not_ip:
      return to_kernel_or_drop(core, packet, DropReason::not_ours);
    default:
      return packet.is_v6 ? classify_ip<V6>(core, packet) : classify_ip<V4>(core, packet);
  }
}

// What classifying plain packets to services needs, so that a burst keeps it in registers: the stages write
// into packets, and the compiler must take every such write for one to anything.
template <typename F>
struct PlainView {
  explicit PlainView(const WorkerCore& core)
      : listeners(core.table->listeners(typename F::Ip{})),
        services(&core.table->service(0)),
        hash(core.flow_key),
        dsr(core.set<F>().dsr.load(std::memory_order_acquire)),
        nat(core.set<F>().nat.load(std::memory_order_acquire)) {}

  const typename AddressMap<typename F::Ip>::Reader listeners;
  const TableService* const services;
  const typename F::Hasher hash;
  const FlowTable<DsrEntry<F>>* const dsr;
  const NatFlows<F>* const nat;
};

// False: the packet is for no service.
template <typename F>
[[gnu::always_inline]] inline bool classify_plain(const PlainView<F>& view, Packet& packet) {
  const uint8_t* const l3 = packet.l3;
  const uint8_t* const l4 = packet.l4;
  const auto destination = destination_of<F>(l3);
  const uint16_t port = tcp_destination_port(l4);
  const uint16_t service = view.listeners.find({destination, port});
  if (service == kNone) return false;
  const bool is_nat = view.services[service].mode == Mode::nat;
  const FlowIndex* const index = is_nat ? &view.nat->index() : &view.dsr->index();
  const uint64_t hash = view.hash(source_of<F>(l3), tcp_source_port(l4), destination, port);
  index->prefetch(hash);
  packet.hash = hash;
  packet.index = index;
  packet.service = service;
  packet.path = is_nat ? Path::nat_in : Path::dsr;
  return true;
}

// All but plain IPv4. Apart, so that it takes no registers from the loop.
[[gnu::noinline]] void classify_other(WorkerCore& core, Packet& packet, rte_mbuf* mbuf,
                                      bool was_handed_over) {
  if (parse_plain<V6>(packet, mbuf, was_handed_over)) {
    if (!classify_plain(PlainView<V6>(core), packet)) classify_tcp<V6>(core, packet);
    return;
  }
  packet = {};
  packet.mbuf = mbuf;
  packet.was_handed_over = was_handed_over;
  parse_frame(packet);
  classify(core, packet);
}

}  // namespace

void classify_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over) {
  const PlainView<V4> v4(core);
  for (uint32_t i = 0; i < n; ++i) {
    Packet& packet = core.packets[i];
    if (!parse_plain<V4>(packet, mbufs[i], were_handed_over)) {
      classify_other(core, packet, mbufs[i], were_handed_over);
    } else if (!classify_plain(v4, packet)) {
      classify_tcp<V4>(core, packet);
    }
  }
}

void find_candidates(WorkerCore& core, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    Packet& packet = core.packets[i];
    if (packet.path == Path::done || packet.path == Path::icmp) continue;
    const FlowIndex& index = *packet.index;
    const uint32_t candidate = index.candidate(packet.hash);
    index.prefetch_entry(candidate);
    packet.candidate = candidate;
  }
}

}  // namespace portico
