// SPDX-License-Identifier: Apache-2.0
// ICMP errors about our flows (RFC 792, RFC 4443; translation: RFC 5508 section 4). An error embeds the start
// of the packet that caused it. One that a backend sent toward a client comes back to the VIP and is for the
// backend; one that a client sent, which nat has translated, comes back to the NAT address and is for the
// client. In mode dnat it is under way to the client itself, and still about the backend's address.
#include <rte_mbuf.h>

#include "dataplane/checksum.h"
#include "dataplane/parse.h"
#include "dataplane/proxy_segment.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

// ICMP errors that a worker sends round to the others, each of which looks for the flow: a flood of them
// would cost as many times as there are workers.
constexpr uint32_t kIcmpRoundsPerSecond = 10000;

constexpr uint32_t kIcmpHeaderSize = 8;
// Ports and sequence number: what every error embeds of TCP at least (RFC 792). And up to the checksum.
constexpr uint32_t kLeastTcp = 8, kTcpThroughChecksum = 18;

// The embedded packet.
template <typename F>
struct Embedded {
  uint8_t* l3;
  uint8_t* tcp;
  uint32_t tcp_bytes;  // that are there
  typename F::Ip source, destination;
  uint16_t source_port, destination_port;
};

// False if it is no TCP packet that was sent from the address to which the error came.
template <typename F>
bool parse_embedded(const Packet& p, Embedded<F>& e) {
  const uint8_t* const end = rte_pktmbuf_mtod(p.mbuf, uint8_t*) + rte_pktmbuf_data_len(p.mbuf);
  const uint8_t* const packet_end = p.l3 + p.ip_length < end ? p.l3 + p.ip_length : end;
  e.l3 = p.l4 + kIcmpHeaderSize;
  if (e.l3 >= packet_end) return false;
  const auto available = static_cast<uint32_t>(packet_end - e.l3);
  const IpParts parts = parse_ip(e.l3, available, kCut);
  if (parts.kind != Kind::tcp || parts.is_v6 != p.is_v6 || parts.l4_offset + kLeastTcp > available)
    return false;
  e.tcp = e.l3 + parts.l4_offset;
  e.tcp_bytes = available - parts.l4_offset;
  e.source = source_of<F>(e.l3);
  e.destination = destination_of<F>(e.l3);
  e.source_port = tcp_source_port(e.tcp);
  e.destination_port = tcp_destination_port(e.tcp);
  return e.source == destination_of<F>(p.l3);
}

template <typename F>
struct Rewrite {
  typename F::Ip outer_source, outer_destination;
  typename F::Ip source, destination;  // of the embedded packet
  uint16_t source_port, destination_port;
  uint32_t sequence;  // host byte order
};

// The words that rewriting changes and that the ICMP checksum covers.
template <typename F>
uint64_t covered_sum(const Packet& p, const Embedded<F>& e) {
  const uint32_t tcp = e.tcp_bytes >= kTcpThroughChecksum ? kTcpThroughChecksum : kLeastTcp;
  const uint64_t sum = sum_bytes(e.l3, static_cast<size_t>(e.tcp - e.l3) + tcp);
  if constexpr (F::kFamily == Family::v4) return sum;
  return sum + sum_of(source_of<F>(p.l3)) + sum_of(destination_of<F>(p.l3));  // ICMPv6 has a pseudo-header
}

template <typename F>
void rewrite(Packet& p, Embedded<F>& e, const Rewrite<F>& to) {
  const uint64_t before = covered_sum(p, e);
  const uint64_t addresses = sum_of(e.source) + sum_of(e.destination);
  const uint64_t new_addresses = sum_of(to.source) + sum_of(to.destination);
  store(e.l3 + F::kSourceOffset, to.source);
  store(e.l3 + F::kDestinationOffset, to.destination);
  store(e.tcp, to.source_port);
  store(e.tcp + 2, to.destination_port);
  const auto sequence = load<uint32_t>(e.tcp + 4);
  store(e.tcp + 4, htonl(to.sequence));
  if constexpr (F::kFamily == Family::v4)
    adjust_checksum(e.l3 + 10, checksum_delta(addresses, new_addresses));
  if (e.tcp_bytes >= kTcpThroughChecksum)
    adjust_checksum(
        e.tcp + kTcpChecksumOffset,
        checksum_delta(addresses + e.source_port + e.destination_port + sum_of(sequence),
                       new_addresses + to.source_port + to.destination_port + sum_of(htonl(to.sequence))));
  const uint64_t outer = sum_of(source_of<F>(p.l3)) + sum_of(destination_of<F>(p.l3));
  store(p.l3 + F::kSourceOffset, to.outer_source);
  store(p.l3 + F::kDestinationOffset, to.outer_destination);
  adjust_checksum(p.l4 + 2, checksum_delta(before, covered_sum(p, e)));
  if constexpr (F::kFamily == Family::v4)
    adjust_checksum(p.l3 + 10, checksum_delta(outer, sum_of(to.outer_source) + sum_of(to.outer_destination)));
}

// The client's own number for a segment toward the backend: the SYN and the PROXY header stand before it.
template <typename F>
uint32_t client_sequence(const NatEntry<F>& flow, uint32_t sequence) {
  const uint32_t syn = flow.client_isn - kHeaderBytes<F>;
  if (flow.header.state() == HeaderMark::none || sequence - syn > kHeaderBytes<F>) return sequence;
  return sequence == syn ? flow.client_isn : flow.client_isn + 1;
}

// To the client, from the path to the backend. The error's sender stays, unless it is the backend itself,
// whose address clients do not know.
template <typename F>
void deliver_to_client(WorkerCore& core, Packet& p, Embedded<F>& e, const NatEntry<F>& flow) {
  const auto sender = source_of<F>(p.l3);
  rewrite<F>(p, e,
             {sender == flow.backend_address ? flow.vip : sender, flow.client, flow.client, flow.vip,
              flow.client_port, flow.vip_port, client_sequence(flow, tcp_sequence(e.tcp))});
  age_header<F>(p.l3);
  if (send_by_route<F>(core, p, flow.client)) bump(core.counters.forwarded);
}

template <typename F>
void deliver_to_backend(WorkerCore& core, Packet& p, Embedded<F>& e, const NatEntry<F>& flow) {
  const auto sender = source_of<F>(p.l3);
  rewrite<F>(p, e,
             {sender == flow.client ? flow.nat : sender, flow.backend_address, flow.backend_address, flow.nat,
              flow.backend_port, flow.nat_port, tcp_sequence(e.tcp)});
  age_header<F>(p.l3);
  if (send_to_backend<F>(core, p, flow.backend, flow.backend_address)) bump(core.counters.forwarded);
}

// As the flow's own packets go.
template <typename F>
void send_unchanged(WorkerCore& core, Packet& p, const Embedded<F>& e, uint16_t service, uint16_t backend) {
  age_header<F>(p.l3);
  const bool is_sent =
      is_tunnel(core.table->service(service).mode)
          ? send_through_tunnel<F>(
                core, p,
                {service, backend, e.source_port, e.destination,
                 core.table->slot_hash(e.destination, e.destination_port, e.source, e.source_port)})
          : send_to_backend<F>(core, p, backend, address_of<F>(core.table->backend(backend)));
  if (is_sent) bump(core.counters.forwarded);
}

// About a packet to a backend: `owner` is the worker that knows the flow, if there is one.
template <typename F>
void about_backend_side(WorkerCore& core, Packet& p, Embedded<F>& e, uint32_t owner) {
  if (owner == core.config.worker_count) return to_kernel_or_drop(core, p, DropReason::icmp_unknown_flow);
  if (owner != core.config.index) return hand_over(core, p, owner);
  const auto* const flows = core.set<F>().nat.load(std::memory_order_acquire);
  if (flows == nullptr) return drop(core, p.mbuf, DropReason::icmp_unknown_flow);
  const uint64_t hash = F::hash(core.flow_key, e.destination, e.destination_port, e.source, e.source_port);
  const uint32_t reference = flows->find(hash, 0, [&](const NatEntry<F>& flow) {
    return flow.is_from_backend(e.destination, e.destination_port, e.source, e.source_port);
  });
  if (reference == 0) return drop(core, p.mbuf, DropReason::icmp_unknown_flow);
  deliver_to_client(core, p, e, (*flows)[reference]);
}

// The worker that has a client's flow is where the NIC put its packets, which nobody can compute here: the
// error goes round until one knows the flow. True: it has its verdict, on its way or above the rate.
bool ask_next_worker(WorkerCore& core, Packet& p) {
  const uint32_t asked = (p.was_handed_over ? Note::read(p.mbuf).asked() : 0) + 1;
  if (asked >= core.config.worker_count) return false;
  if (!p.was_handed_over && !core.icmp_rounds.take(core.cycles, kIcmpRoundsPerSecond)) {
    drop(core, p.mbuf, DropReason::icmp_unknown_flow);
    return true;
  }
  hand_over(core, p, (core.config.index + 1) % core.config.worker_count, Note::asked(asked));
  return true;
}

// A DSR flow that nobody remembers goes by the pool's table, as its packets do.
template <typename F>
void send_by_table(WorkerCore& core, Packet& p, const Embedded<F>& e, uint16_t service_id) {
  const TableService& service = core.table->service(service_id);
  const TablePool& pool = core.table->pool(service.pool);
  if (translates(service.mode) || pool.lookup == nullptr || pool.disposition != PoolDisposition::serve)
    return drop(core, p.mbuf, DropReason::icmp_unknown_flow);
  const uint32_t slot =
      choose_slot<F>(*core.table, service, e.destination, e.destination_port, e.source, e.source_port);
  send_unchanged<F>(core, p, e, service_id, pool.lookup[slot]);
}

// About a packet to a client, from the VIP.
template <typename F>
void about_service_side(WorkerCore& core, Packet& p, Embedded<F>& e, uint16_t service_id) {
  const uint64_t hash = F::hash(core.flow_key, e.destination, e.destination_port, e.source, e.source_port);
  const auto is_it = [&](const auto& flow) {
    return flow.is_from_client(e.destination, e.destination_port, e.source, e.source_port);
  };
  const Mode mode = core.table->service(service_id).mode;
  if (mode == Mode::dnat) {
    const uint32_t owner = client_owner<F>(core, e.destination, e.destination_port);
    if (owner != core.config.index) return hand_over(core, p, owner);
  }
  if (translates(mode)) {
    const auto& flows = *core.set<F>().nat.load(std::memory_order_acquire);
    if (const uint32_t r = flows.find(hash, 0, is_it)) return deliver_to_backend(core, p, e, flows[r]);
  } else {
    const auto& flows = *core.set<F>().dsr.load(std::memory_order_acquire);
    if (const uint32_t r = flows.find(hash, 0, is_it))
      return send_unchanged<F>(core, p, e, service_id, flows[r].backend);
  }
  if (mode == Mode::dnat || !ask_next_worker(core, p)) send_by_table(core, p, e, service_id);
}

}  // namespace

template <typename F>
void forward_icmp(WorkerCore& core, Packet& p) {
  if (core.table->tunnel_source<F>().contains(destination_of<F>(p.l3)))
    return forward_tunnel_error<F>(core, p);
  const LocalAddress* const local = core.table->find_local(destination_of<F>(p.l3));
  Embedded<F> e;
  if (!parse_embedded(p, e))
    return to_kernel_or_drop(core, p, local != nullptr ? DropReason::icmp_invalid : DropReason::not_ours);
  if (p.l3[F::kTtlOffset] <= 1) return drop(core, p.mbuf, DropReason::ttl_expired);
  const uint16_t service = core.table->find_service(e.source, e.source_port);
  if (service != kNone) return about_service_side(core, p, e, service);
  if (local != nullptr && local->is_nat)
    return about_backend_side(
        core, p, e, reply_owner<F>(core, local->nat, e.destination, e.destination_port, e.source_port));
  if (local == nullptr && core.table->is_dnat_reply(e.destination, e.destination_port, e.source))
    return about_backend_side(core, p, e, client_owner<F>(core, e.source, e.source_port));
  to_kernel_or_drop(core, p, local != nullptr ? DropReason::icmp_unknown_flow : DropReason::not_ours);
}

template void forward_icmp<V4>(WorkerCore&, Packet&);
template void forward_icmp<V6>(WorkerCore&, Packet&);

}  // namespace portico
