// SPDX-License-Identifier: Apache-2.0
// The stages of the packet path, in the order in which a packet meets them. Each gives a packet its verdict
// (forward, answer, kernel, hand over, drop) or leaves it to the next.
#pragma once

#include <rte_mbuf.h>

#include <optional>

#include "contract/flow_losses.h"
#include "dataplane/core.h"
#include "dataplane/note.h"
#include "dataplane/stage_cycles.h"

namespace portico {

inline void end_stage(WorkerCore& core, Stage stage) {
  if (core.config.stages != nullptr) core.config.stages->end(stage);
}

// --- classify.cc ---
// Parses a burst and finds out what its packets are to us: sets path and service or nat, the flow's hash, and
// prefetches its bucket.
void classify_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over, bool are_far);
// The same without first looks, packet by packet, whose shape then is general: no short way is for them.
void classify_generally(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over);
// Fills in the columns of the plain packets, for planning their openings; they have no verdict yet.
void look_ahead(WorkerCore& core, rte_mbuf** mbufs, uint32_t n);
// Fills in the packet of a plain one, of which there are columns: what a short way does not need.
void fill_plain(WorkerCore& core, uint32_t i, bool was_handed_over);
// Picks the likely entry of each packet's flow and prefetches it: if entries are far, to the second-level
// cache, and says in WorkerCore::entries where it is.
void find_candidates(WorkerCore& core, uint32_t n, bool are_far);

// --- balance.cc ---
// What becomes of a client's packet whose flow is known.
enum class Fate : uint8_t {
  forward,
  renew,  // the flow is over and this SYN starts a new one
  reset,  // the backend or service is gone: answer with RST
};
template <typename Entry>
Fate fate_of(const WorkerCore& core, const Entry& entry, const Packet& packet);
// Whether a backend's state says that flows to `port` (network byte order) are to be reset now.
bool must_reset(const TableBackend& backend, uint16_t port);
// Whether a packet without a flow may pass: own source, access list. Else it has its verdict.
template <typename F>
bool may_enter(WorkerCore& core, Packet& packet);
// The backend of a new flow, or kNone after giving the packet its verdict: access, own source, pool.
template <typename F>
uint16_t admit(WorkerCore& core, Packet& packet);
// The slot of the service's pool for a client. The pool has a look-up table.
template <typename F>
uint32_t choose_slot(const Table& table, const TableService& service, const typename F::Ip& client,
                     uint16_t client_port, const typename F::Ip& vip, uint16_t vip_port);

// --- dsr.cc, nat.cc ---
template <typename F>
void forward_dsr(WorkerCore& core, Packet& packet);
template <typename F>
void forward_nat_in(WorkerCore& core, Packet& packet);
template <typename F>
void forward_nat_out(WorkerCore& core, Packet& packet);
// The worker's ports of a NAT address.
template <typename F>
PortShare port_share(const TableNat& nat, const WorkerConfig& config) {
  const ReplySpread<F>* const spread = config.spreads != nullptr ? config.spreads->of<F>() : nullptr;
  if (spread != nullptr) return PortShare(nat, config.index, *spread);
  return PortShare(nat, config.index, config.worker_count);
}
// What PortShare::port() needs to know of an endpoint.
template <typename F>
uint32_t reply_rest(const WorkerCore& core, const PortShare& share, const typename F::Ip& backend,
                    uint16_t backend_port, const typename F::Ip& nat) {
  if (!share.is_spread()) return 0;
  return core.config.spreads->of<F>()->rest(backend, backend_port, nat);
}
// The worker that has a NAT flow, if any has, or worker_count if its port is outside the range. Ports in
// network byte order. `nat`: index of the NAT address.
template <typename F>
uint32_t reply_owner(const WorkerCore& core, uint16_t nat, const typename F::Ip& backend,
                     uint16_t backend_port, uint16_t nat_port) {
  const TableNat& range = core.table->nat()[nat];
  const uint32_t sharer = port_owner(range, ntohs(nat_port), core.port_sharers<F>());
  if (core.port_sharers<F>() == core.config.worker_count) return sharer;
  if (sharer != 0) return core.config.worker_count;
  const ReplySpread<F>& spread = *core.config.spreads->of<F>();
  return spread.owner(spread.rest(backend, backend_port, F::from(range.address)), ntohs(nat_port));
}
template <typename F>
uint32_t reply_owner(const WorkerCore& core, uint16_t nat, const NatEntry<F>& e) {
  return reply_owner<F>(core, nat, e.backend_address, e.backend_port, e.nat_port);
}
// The worker that has a flow of mode dnat: its client's address and port are what packets of both directions
// show. The port in network byte order.
template <typename F>
uint32_t client_owner(const WorkerCore& core, const typename F::Ip& client, uint16_t port) {
  if (core.config.worker_count == 1) return 0;
  return slot_of(core.table->slot_hash(client, port, typename F::Ip{}, 0), core.config.worker_count);
}
// The worker that has a flow, or worker_count if its NAT address or port is none of ours.
template <typename F>
uint32_t owner_of(const WorkerCore& core, const NatEntry<F>& e) {
  if (e.shows_client()) return client_owner<F>(core, e.client, e.client_port);
  const LocalAddress* const local = core.table->find_local(e.nat);
  if (local == nullptr || !local->is_nat) return core.config.worker_count;
  return reply_owner<F>(core, local->nat, e);
}
// A port for a new flow's entry, whose addresses but `nat`, and all ports but `nat_port`, are filled in: the
// one that was planned for its SYN, `packet` of the burst, if there is one and it is free. False: none is
// free.
template <typename F>
bool take_nat_port(WorkerCore& core, NatFlows<F>& flows, NatEntry<F>& entry, const Packet& packet);

// --- tunnel.cc ---
// What a tunnel's outer source is chosen by: the same on all balancers with one key.
template <typename F>
uint64_t tunnel_hash(const Table& table, const uint8_t* l3, const uint8_t* l4) {
  return table.slot_hash(source_of<F>(l3), tcp_source_port(l4), destination_of<F>(l3),
                         tcp_destination_port(l4));
}
// The flow whose packet goes through a tunnel, or which an ICMP error there is about. `client`: its address.
// `hash`: tunnel_hash() of its packets. Ports in network byte order.
template <typename F>
struct TunnelFlow {
  uint16_t service, backend, vip_port;
  typename F::Ip client;
  uint64_t hash;
};
// Sends a packet for a backend inside an outer header to it, of whichever family there is a way for. False:
// the packet has another verdict; one that is too large has been answered.
template <typename F>
bool send_through_tunnel(WorkerCore& core, Packet& packet, const TunnelFlow<F>& flow);

// --- tunnel_error.cc ---
// Turns an ICMP error about a tunnel packet of ours, F its family, into one about the client's packet in it.
template <typename F>
void forward_tunnel_error(WorkerCore& core, Packet& packet);

// --- too_big.cc ---
// Tells the sender of a packet what fits the way that it was to go: `mtu` bytes, or the least that senders
// take for an MTU. What no answer would mend is dropped as exceeds_mtu: what is no larger than that least,
// ICMP errors. No more are answered than the rate of RSTs allows.
template <typename F>
void answer_too_big(WorkerCore& core, Packet& packet, uint32_t mtu);

// --- flow_life.cc ---
template <typename F>
uint64_t client_hash_of(const WorkerCore& core, const typename F::Ip& client, uint16_t client_port,
                        const typename F::Ip& vip, uint16_t vip_port) {
  return F::hash(core.flow_key, client, client_port, vip, vip_port);
}
// So many flows a second may evict others from a full table in dsr; further ones go by the hash alone, which
// is right for them as long as the pool's table is: a flood would but turn the table over.
inline constexpr uint32_t kDsrEvictionRate = 100'000;
// Frees an entry of a full table. False: there is none that may give way, or it was not found.
template <typename F>
bool make_room(WorkerCore& core, NatFlows<F>& flows, uint32_t list);
// Frees the entry of the oldest flow in a list of half-open ones (NatFlows::half_open_list()), if it has any.
template <typename F>
bool evict_half_open(WorkerCore& core, NatFlows<F>& flows, uint32_t list);
// Puts a filled-in entry into the table; makes room by evicting probationary and closed flows, never an
// established one. Returns its reference, or 0.
template <typename F>
uint32_t insert_flow(WorkerCore& core, DsrFlows<F>& flows, const DsrEntry<F>& entry);
template <typename F>
uint32_t insert_flow(WorkerCore& core, NatFlows<F>& flows, const NatEntry<F>& entry);
// The same in place of the entry `old`, a flow of the same client. 0: there is no room, and `old` is as it
// was.
template <typename F>
uint32_t replace_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t old, const NatEntry<F>& entry);
template <typename F>
void erase_flow(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference);
template <typename F>
void erase_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t reference);
// Notes that other workers may ask for the flow, in the list of WorkerCore::moved, until it is erased.
template <typename F>
void note_moved(WorkerCore& core, const DsrFlows<F>& flows, uint32_t reference);
template <typename F>
void note_moved(WorkerCore& core, const NatFlows<F>& flows, uint32_t reference);
// The hashes of a flow's keys; backend_side is not used in dsr.
struct FlowKeys {
  uint32_t reference;
  uint64_t client_side, backend_side;
};
template <typename F>
FlowKeys keys_of(const WorkerCore& core, const DsrEntry<F>& entry, uint32_t reference);
template <typename F>
FlowKeys keys_of(const WorkerCore& core, const NatEntry<F>& entry, uint32_t reference);
// Makes a whole entry that stands in the table a flow: indexes and counts it. Half-open ones are not listed.
// Says why not; then the entry is to be released.
template <typename F>
std::optional<FlowLoss> index_flow(WorkerCore& core, DsrFlows<F>& flows, const FlowKeys& keys);
template <typename F>
std::optional<FlowLoss> index_flow(WorkerCore& core, NatFlows<F>& flows, const FlowKeys& keys);
// Whether the flow has been silent for longer than its state allows.
template <typename Entry>
bool is_expired(const WorkerCore& core, const Entry& entry);

// --- icmp.cc ---
template <typename F>
void forward_icmp(WorkerCore& core, Packet& packet);

// --- rst.cc ---
// Answers a TCP packet with RST by the way it came (RFC 9293 section 3.10.7.1), or drops it: RSTs are not
// answered, and no more than the rate allows are. Counts `reason` either way. True if answered.
bool answer_with_reset(WorkerCore& core, Packet& packet, DropReason reason);
enum class ResetOutcome : uint8_t {
  done,
  put_off,  // for the rate limit or a buffer
  no_way,   // for the MAC address on the way to the client, which may never come
};
// Resets the client, in nat the backend as well, and marks the flow dead; it is alive before.
template <typename F>
ResetOutcome reset_flow(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference);
template <typename F>
ResetOutcome reset_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t reference);
// Marks a flow dead whose client has just been answered with RST; in nat its backend is reset, if it was
// alive.
template <typename F>
void bury(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference);
template <typename F>
void bury(WorkerCore& core, NatFlows<F>& flows, uint32_t reference);

// Sends the backend a RST with the number that it acknowledged last, as far as is known.
template <typename F>
void reset_backend(WorkerCore& core, const NatEntry<F>& entry);

// --- source_limits.cc (see source_limits.h) ---
// Whether a new connection is within what the service lets one source prefix have; else it has its verdict.
template <typename F>
bool is_within_limits(WorkerCore& core, Packet& packet);
// A flow of a client more, and one less.
template <typename F>
void count_source(WorkerCore& core, uint16_t service, const typename F::Ip& client);
template <typename F>
void uncount_source(WorkerCore& core, uint16_t service, const typename F::Ip& client);
// Makes room for the counts, if the table's services need them. Main thread, before the table is given to the
// worker.
void prepare_source_limits(WorkerCore& core, const Table& table);

// --- proxy.cc (see proxy.h) ---
// Makes room for the timers, if the table's services need them. Main thread, before the table is given to the
// worker.
void prepare_header_timers(WorkerCore& core, const Table& table);
// Sends headers again that are due, until so many packets have been originated.
void repeat_headers(WorkerCore& core, uint64_t output_end);

// --- transmit.cc ---
void drop(WorkerCore& core, rte_mbuf* mbuf, DropReason reason);
// Frees a buffer behind the burst, whose packet has been counted.
void discard(WorkerCore& core, rte_mbuf* mbuf);
// Whether the packet came by a port with a way to the kernel.
inline bool has_kernel_path(const WorkerCore& core, const Packet& packet) {
  return (core.config.kernel_ports >> packet.mbuf->port & 1) != 0;
}
// To the kernel if there is a way to it, else dropped for `reason`.
void to_kernel_or_drop(WorkerCore& core, Packet& packet, DropReason reason);
// `note` goes with the packet.
void hand_over(WorkerCore& core, Packet& packet, uint32_t worker, Note note = Note::none());
// Whether the worker where the client's packet arrived has found this one in that list.
inline bool was_asked_for(const Packet& packet) {
  return packet.was_handed_over && Note::read(packet.mbuf).wanted_by() != Note::kNobody;
}
// For a client's packet whose flow this worker does not know: to the worker that has it from before the
// restart; if this is that worker, and the flow is over, a SYN goes back to where it arrived; one that came
// in fragments, to a worker that may know the flow. False: neither.
template <typename F>
bool hand_over_unknown(WorkerCore& core, Packet& packet);
// Writes the Ethernet header and queues the packet. False: dropped (unresolved, MTU). `reason` of no_route
// and the like are counted here.
bool send_by_hop(WorkerCore& core, Packet& packet, uint16_t next_hop);
// The same by longest-prefix match.
template <typename F>
bool send_by_route(WorkerCore& core, Packet& packet, const typename F::Ip& destination);
// To a backend, by its own next hop if it has one.
template <typename F>
bool send_to_backend(WorkerCore& core, Packet& packet, uint16_t backend, const typename F::Ip& address);
// Queues a finished frame on its port.
void queue_frame(WorkerCore& core, rte_mbuf* mbuf, uint16_t port);
// Frees what was dropped.
void free_dropped(WorkerCore& core);

// --- waiting_room.cc ---
// Keeps a packet until `hop` has a MAC address; it counts as sent. False: no room.
bool wait_for_hop(WorkerCore& core, Packet& packet, const Address& hop);
// Sends those whose neighbour the table knows by now, drops those that have waited too long. Once per sweep.
void visit_waiting_room(WorkerCore& core);
// Drops them all: the worker ends.
void empty_waiting_room(WorkerCore& core);

// --- half_open.cc ---
// Counts the nat flows whose SYN has waited too long for its answer. Once per turn of the loop.
void judge_half_open(WorkerCore& core);

// --- sweep.cc ---
// Visits the next flows of every table.
void sweep_flows(WorkerCore& core, uint64_t now);

// --- explain.cc ---
ExplainAnswer explain_flow(const WorkerCore& core, const ExplainQuery& query, const Table& table,
                           uint32_t now);

}  // namespace portico
