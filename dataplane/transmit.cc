// SPDX-License-Identifier: Apache-2.0
// The last stage: the Ethernet header of the next hop, and the queue of its port.
#include <rte_mbuf.h>

#include "dataplane/fragments.h"
#include "dataplane/kernel_rules.h"
#include "dataplane/own_packet.h"
#include "dataplane/rewrite.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

constexpr uint32_t kUntaggedSize = 14, kTaggedSize = 18;

bool append(PacketBuffer& buffer, rte_mbuf* mbuf) {
  if (buffer.count == kOutputSize) return false;
  buffer.packets[buffer.count++] = mbuf;
  return true;
}

// Moves the frame's start so that the IP header follows a header of the next hop's size.
void write_l2(Packet& packet, const TableNextHop& hop) {
  rte_mbuf* const m = packet.mbuf;
  const uint32_t size = hop.vlan != 0 ? kTaggedSize : kUntaggedSize;
  uint8_t* const start = packet.l3 - size;
  prepend(m, rte_pktmbuf_mtod(m, uint8_t*) - start);
  m->ol_flags &= kBufferFlags;
  std::memcpy(start, hop.macs.data(), hop.macs.size());
  if (hop.vlan != 0) {
    store(start + 12, htons(0x8100));
    store(start + 14, hop.vlan);
  }
  store(packet.l3 - 2, htons(packet.is_v6 ? 0x86dd : 0x0800));
}

// Asks for the neighbour's MAC address and lets the packet wait for it.
bool resolve(WorkerCore& core, Packet& packet, const Address& address, uint16_t port) {
  core.resolve.push({address, port}, core.now * kTickMs);
  if (wait_for_hop(core, packet, address)) return true;
  drop(core, packet.mbuf, DropReason::next_hop_unresolved);
  return false;
}

// Whether a frame for the kernel goes before others.
bool goes_first(WorkerCore& core, const rte_mbuf* m) {
  switch (urgency_of(*core.table, rte_pktmbuf_mtod(m, const uint8_t*), rte_pktmbuf_data_len(m))) {
    case Urgency::none:
      return false;
    case Urgency::claimed:
      return core.claimed_urgent.take(core.cycles, kClaimedUrgentPerSecond / core.config.worker_count);
    case Urgency::certain:
      return true;
  }
  return false;
}

}  // namespace

void drop(WorkerCore& core, rte_mbuf* mbuf, DropReason reason) {
  bump(core.counters.drops[static_cast<uint32_t>(reason)]);
  discard(core, mbuf);
}

void discard(WorkerCore& core, rte_mbuf* mbuf) {
  core.to_free[core.to_free_count++] = mbuf;
  if (core.to_free_count == core.to_free.size()) free_dropped(core);
}

void free_dropped(WorkerCore& core) {
  if (core.to_free_count == 0) return;
  rte_pktmbuf_free_bulk(core.to_free.data(), core.to_free_count);
  core.to_free_count = 0;
}

void to_kernel_or_drop(WorkerCore& core, Packet& packet, DropReason reason) {
  packet.path = Path::done;
  if (!has_kernel_path(core, packet)) return drop(core, packet.mbuf, reason);
  rte_mbuf* const m = packet.mbuf;
  Note::for_kernel(reason != DropReason::unknown_vlan && goes_first(core, m)).write(m);
  if (!append(core.output.kernel, m)) return drop(core, packet.mbuf, DropReason::tx_full);
  bump(core.counters.to_kernel);
}

void hand_over(WorkerCore& core, Packet& packet, uint32_t worker, Note note) {
  packet.path = Path::done;
  if (packet.was_handed_over) note = note.behind(Note::read(packet.mbuf));
  note.write(packet.mbuf);
  if (!append(core.output.workers[worker], packet.mbuf))
    return drop(core, packet.mbuf, DropReason::handover_full);
  core.output.workers_used |= uint64_t{1} << worker;
  bump(core.counters.handed_over);
}

namespace {

// Gives a SYN whose flow is over back to the worker that asked for it.
bool hand_back(WorkerCore& core, Packet& packet) {
  const uint32_t asker = Note::read(packet.mbuf).wanted_by();  // kNobody is none of the workers
  if ((packet.flags & (kSyn | kAck)) != kSyn || asker >= core.config.worker_count) return false;
  hand_over(core, packet, asker);
  return true;
}

bool hand_over_moved(WorkerCore& core, Packet& packet) {
  if (core.moved == nullptr) return false;
  if (was_given(packet)) return hand_back(core, packet);
  if (core.moved->is_over()) return false;
  const uint32_t worker = core.moved->find(packet.hash);
  if (worker >= core.config.worker_count || worker == core.config.index) return false;
  hand_over(core, packet, worker, Note::wanted_by(core.config.index));
  return true;
}

// Sends a packet that is larger than its way in fragments, if that may be.
template <typename F>
[[gnu::noinline]] bool send_split(WorkerCore& core, Packet& packet, const TableNextHop& hop) {
  Pieces pieces;
  if (!split<F>(core, packet, hop.mtu, pieces)) return false;
  for (uint32_t i = 0; i < pieces.count; ++i) {
    write_l2(pieces.packets[i], hop);
    queue_frame(core, pieces.packets[i].mbuf, hop.port);
  }
  return true;
}

}  // namespace

template <typename F>
bool hand_over_unknown(WorkerCore& core, Packet& packet) {
  return hand_over_moved(core, packet) || hand_over_whole<F>(core, packet);
}

void queue_frame(WorkerCore& core, rte_mbuf* mbuf, uint16_t port) {
  if (!append(core.output.ports[port], mbuf)) return drop(core, mbuf, DropReason::tx_full);
  core.output.ports_used |= uint64_t{1} << port;
}

bool send_by_hop(WorkerCore& core, Packet& packet, uint16_t next_hop) {
  const TableNextHop& hop = core.table->next_hop(next_hop);
  if (!hop.resolved) return resolve(core, packet, core.table->next_hop_address(next_hop), hop.port);
  if (packet.ip_length > hop.mtu)
    return packet.is_v6 ? send_split<V6>(core, packet, hop) : send_split<V4>(core, packet, hop);
  write_l2(packet, hop);
  queue_frame(core, packet.mbuf, hop.port);
  return true;
}

template <typename F>
bool send_by_route(WorkerCore& core, Packet& packet, const typename F::Ip& destination) {
  const RouteChoice route = core.table->route(destination);
  if (route.next_hop != kNone) return send_by_hop(core, packet, route.next_hop);
  if (route.port != kNone) return resolve(core, packet, F::address(destination), route.port);
  drop(core, packet.mbuf, DropReason::no_route);
  return false;
}

template <typename F>
bool send_to_backend(WorkerCore& core, Packet& packet, uint16_t backend, const typename F::Ip& address) {
  const TableBackend& b = core.table->backend(backend);
  const uint16_t hop = F::kFamily == Family::v4 ? b.next_hop_v4 : b.next_hop_v6;
  if (b.exists && hop != kNone) return send_by_hop(core, packet, hop);
  return send_by_route<F>(core, packet, address);
}

template bool hand_over_unknown<V4>(WorkerCore&, Packet&);
template bool hand_over_unknown<V6>(WorkerCore&, Packet&);
template bool send_by_route<V4>(WorkerCore&, Packet&, const V4::Ip&);
template bool send_by_route<V6>(WorkerCore&, Packet&, const V6::Ip&);
template bool send_to_backend<V4>(WorkerCore&, Packet&, uint16_t, const V4::Ip&);
template bool send_to_backend<V6>(WorkerCore&, Packet&, uint16_t, const V6::Ip&);

}  // namespace portico
