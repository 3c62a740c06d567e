// SPDX-License-Identifier: Apache-2.0
// What a parsed packet is to us.
#include "dataplane/stages.h"

namespace portico {

namespace {

template <typename F>
void prefetch_flow(WorkerCore& core, Packet& packet) {
  const uint8_t* const l3 = packet.l3;
  packet.hash = F::hash(core.flow_key, source_of<F>(l3), tcp_source_port(packet.l4), destination_of<F>(l3),
                        tcp_destination_port(packet.l4));
  if (packet.path == Path::dsr) {
    core.set<F>().dsr.load(std::memory_order_acquire)->prefetch_bucket(packet.hash);
  } else {
    core.set<F>().nat.load(std::memory_order_acquire)->prefetch_bucket(packet.hash);
  }
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
void classify_tcp(WorkerCore& core, Packet& packet) {
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

template <typename F>
void find_candidate_of(WorkerCore& core, Packet& packet) {
  if (packet.path == Path::dsr) {
    const auto& flows = *core.set<F>().dsr.load(std::memory_order_relaxed);
    packet.candidate = flows.candidate(packet.hash);
    flows.prefetch_entry(packet.candidate);
  } else {
    const auto& flows = *core.set<F>().nat.load(std::memory_order_relaxed);
    packet.candidate = flows.candidate(packet.hash);
    flows.prefetch_entry(packet.candidate);
  }
}

}  // namespace

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

void find_candidate(WorkerCore& core, Packet& packet) {
  if (packet.path == Path::done || packet.path == Path::icmp) return;
  return packet.is_v6 ? find_candidate_of<V6>(core, packet) : find_candidate_of<V4>(core, packet);
}

}  // namespace portico
