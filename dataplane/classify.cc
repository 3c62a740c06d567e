// SPDX-License-Identifier: Apache-2.0
// What a parsed packet is to us.
#include "dataplane/fragments.h"
#include "dataplane/kernel_rules.h"
#include "dataplane/parse.h"
#include "dataplane/plain.h"
#include "dataplane/plain_lanes.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

template <typename F>
void prefetch_flow(WorkerCore& core, Packet& packet) {
  const uint8_t* const l3 = packet.l3;
  packet.hash = F::hash(core.flow_key, source_of<F>(l3), tcp_source_port(packet.l4), destination_of<F>(l3),
                        tcp_destination_port(packet.l4));
  const bool is_direct = packet.path == Path::dsr || packet.path == Path::tunnel;
  packet.index = is_direct ? &core.set<F>().dsr.load(std::memory_order_acquire)->index()
                           : &core.set<F>().nat.load(std::memory_order_acquire)->index();
  packet.index->prefetch(packet.hash);
}

// A reply to a NAT address is for the worker that owns its port. Where a hash says which, it has come here
// because of that: else its flow is not found (nat.cc).
template <typename F>
void classify_reply(WorkerCore& core, Packet& packet, uint16_t nat) {
  const uint16_t port = ntohs(tcp_destination_port(packet.l4));
  const uint32_t owner = port_owner(core.table->nat()[nat], port, core.port_sharers<F>());
  if (owner == core.port_sharers<F>()) return to_kernel_or_drop(core, packet, DropReason::not_ours);
  if (core.port_sharers<F>() > 1 && owner != core.config.index) return hand_over(core, packet, owner);
  if (core.set<F>().nat.load(std::memory_order_acquire) == nullptr) {
    packet.path = Path::done;
    return drop(core, packet.mbuf, DropReason::unknown_reply);
  }
  packet.nat = nat;
  packet.path = Path::nat_out;
}

// In mode dnat both directions of a flow meet at the worker that its client names.
template <typename F>
void classify_by_client(WorkerCore& core, Packet& packet, Path path, const typename F::Ip& client,
                        uint16_t port) {
  const uint32_t owner = client_owner<F>(core, client, port);
  if (owner != core.config.index) return hand_over(core, packet, owner);
  packet.path = path;
}

// A packet for no service: a reply, or the kernel's.
template <typename F>
void classify_serviceless(WorkerCore& core, Packet& packet) {
  const auto destination = destination_of<F>(packet.l3);
  const LocalAddress* const local = core.table->find_local(destination);
  if (local != nullptr && local->is_nat) return classify_reply<F>(core, packet, local->nat);
  if (local != nullptr ||
      !core.table->is_dnat_reply(source_of<F>(packet.l3), tcp_source_port(packet.l4), destination))
    return to_kernel_or_drop(core, packet, DropReason::not_ours);
  classify_by_client<F>(core, packet, Path::nat_out, destination, tcp_destination_port(packet.l4));
}

template <typename F>
[[gnu::noinline]] void classify_tcp(WorkerCore& core, Packet& packet) {
  const uint8_t* const l3 = packet.l3;
  packet.service = core.table->find_service(destination_of<F>(l3), tcp_destination_port(packet.l4));
  if (packet.service == kNone) {
    classify_serviceless<F>(core, packet);
  } else if (const Mode mode = core.table->service(packet.service).mode; mode == Mode::dnat) {
    classify_by_client<F>(core, packet, Path::nat_in, source_of<F>(l3), tcp_source_port(packet.l4));
  } else {
    packet.path = path_of(mode);
  }
  if (packet.path == Path::done) return;
  if (packet.l3[F::kTtlOffset] <= 1) {
    packet.path = Path::done;
    return drop(core, packet.mbuf, DropReason::ttl_expired);
  }
  prefetch_flow<F>(core, packet);
}

template <typename F>
void classify_ip(WorkerCore& core, Packet& packet) {
  if (packet.kind == Kind::tcp) return classify_tcp<F>(core, packet);
  const auto destination = destination_of<F>(packet.l3);
  const bool is_about_tunnel =
      packet.kind == Kind::icmp_error && core.table->tunnel_source<F>().contains(destination);
  const bool may_be_about_dnat = packet.kind == Kind::icmp_error && core.table->uses_dnat();
  if (!is_about_tunnel && !may_be_about_dnat && core.table->find_local(destination) == nullptr)
    return to_kernel_or_drop(core, packet, DropReason::not_ours);
  if (packet.kind == Kind::icmp_error) {
    packet.path = Path::icmp;
    return;
  }
  if (packet.kind == Kind::other_ip) return to_kernel_or_drop(core, packet, DropReason::not_tcp);
  take_fragment<F>(core, packet);
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

// For a packet without columns: hash, index and bucket.
template <typename F>
bool classify_plainly(const PlainView<F>& view, Packet& packet) {
  const auto destination = destination_of<F>(packet.l3);
  const uint16_t port = tcp_destination_port(packet.l4);
  const auto found = view.find(destination, port);
  if (found.path == Path::done) return false;
  packet.hash = view.hash()(source_of<F>(packet.l3), tcp_source_port(packet.l4), destination, port);
  found.index->prefetch(packet.hash);
  packet.index = found.index;
  packet.service = found.service;
  packet.path = found.path;
  return true;
}

// Whether a frame is for a group. Such frames are the kernel's, and short ways do not look at MAC addresses.
bool is_for_group(const uint8_t* frame) {
  return (frame[0] & 1) != 0;
}

// Whether a frame is for another station: its port receives all, since it cannot be told of groups alone.
bool is_for_other(const WorkerCore& core, const rte_mbuf* mbuf) {
  if (!(core.config.promiscuous_ports >> mbuf->port & 1)) return false;
  const auto* const frame = rte_pktmbuf_mtod(mbuf, const uint8_t*);
  const auto& own = core.config.macs[mbuf->port];
  return rte_pktmbuf_data_len(mbuf) >= own.size() && !is_for_group(frame) &&
         std::memcmp(frame, own.data(), own.size()) != 0;
}

// Of frames for groups and for others: short ways are not theirs. Steering has kept them from all ports but
// those that DPDK drives alone.
[[gnu::noinline]] void leave_strangers(const WorkerCore& core, FirstLook& look, rte_mbuf** mbufs,
                                       uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) {
    const bool is_strange = is_for_group(look.frames[i]) || is_for_other(core, mbufs[i]);
    const uint64_t others = ~(uint64_t{is_strange} << i);
    look.acks &= others;
    look.syns &= others;
  }
}

// Of what is the kernel's: on a port with a way to it, a flood of what it could only throw away stays here.
void leave_to_kernel(WorkerCore& core, Packet& packet) {
  const auto* const frame = rte_pktmbuf_mtod(packet.mbuf, const uint8_t*);
  if (!is_for_nobody(*core.table, frame, rte_pktmbuf_data_len(packet.mbuf)))
    return to_kernel_or_drop(core, packet, DropReason::not_ours);
  packet.path = Path::done;
  drop(core, packet.mbuf, DropReason::not_tcp);
}

// On a port with a way to the kernel: whether the frame is the kernel's although classify() would not say so.
// It judges TCP and what is not IP as the steering rules do, but drops what is malformed or a fragment, and
// takes all ICMP errors, whoever they are for.
bool is_kernels(const WorkerCore& core, const Packet& packet) {
  if (!has_kernel_path(core, packet)) return false;
  const auto* const frame = rte_pktmbuf_mtod(packet.mbuf, const uint8_t*);
  const uint32_t size = rte_pktmbuf_data_len(packet.mbuf);
  if (packet.kind == Kind::tcp) {
    const auto l2_size = static_cast<uint32_t>(packet.l3 - frame);
    const bool is_tagged_once = l2_size == kPlainL2Size + 4 && load<uint16_t>(frame + 12) == htons(0x8100);
    if (!is_for_group(frame) && (l2_size == kPlainL2Size || is_tagged_once)) return false;
  }
  return packet.kind != Kind::not_ip && !is_for_dataplane(*core.table, frame, size);
}

void parse_and_classify(WorkerCore& core, Packet& packet, rte_mbuf* mbuf, bool was_handed_over) {
  packet = {};
  packet.mbuf = mbuf;
  packet.was_handed_over = was_handed_over;
  if (is_for_other(core, mbuf)) {
    packet.path = Path::done;
    return drop(core, mbuf, DropReason::not_ours);
  }
  const uint16_t vlan = parse_frame(packet);
  if (vlan != 0 && !core.table->takes_vlan(mbuf->port, vlan))
    to_kernel_or_drop(core, packet, DropReason::unknown_vlan);
  else if (!was_handed_over && is_kernels(core, packet))
    leave_to_kernel(core, packet);
  else
    classify(core, packet);
}

// All but plain IPv4. Apart, so that it takes no registers from the loop.
[[gnu::noinline]] void classify_other(WorkerCore& core, const PlainView<V6>& v6, Packet& packet,
                                      rte_mbuf* mbuf, bool was_handed_over) {
  const bool is_strange = is_for_group(rte_pktmbuf_mtod(mbuf, const uint8_t*)) || is_for_other(core, mbuf);
  if (!is_strange && parse_plain<V4>(packet, mbuf, was_handed_over)) return classify_tcp<V4>(core, packet);
  if (!is_strange && parse_plain<V6>(packet, mbuf, was_handed_over)) {
    if (!classify_plainly(v6, packet)) classify_tcp<V6>(core, packet);
    return;
  }
  parse_and_classify(core, packet, mbuf, was_handed_over);
}

// A plain packet for nothing of this worker's.
[[gnu::noinline]] void classify_stray(WorkerCore& core, uint32_t i, bool was_handed_over) {
  fill_plain(core, i, was_handed_over);
  classify_tcp<V4>(core, core.packets[i]);
}

// Fills in the columns of one packet that is for this worker, and fetches its bucket.
[[gnu::always_inline]] inline void classify_one(const FirstLook& look, PlainColumns& columns,
                                                const PlainView<V4>& view, uint32_t i, bool are_far) {
  const uint8_t* const l3 = look.frames[i] + kPlainL2Size;
  const uint8_t* const l4 = l3 + V4::kHeaderSize;
  const auto destination = destination_of<V4>(l3);
  const auto found = view.find(destination, tcp_destination_port(l4));
  columns.of_path(found.path) |= uint64_t{1} << i;
  if (found.path == Path::done) return;
  const uint64_t hash = view.hash()(source_of<V4>(l3), destination, load<uint32_t>(l4));
  const FlowIndex::Bucket* const bucket = found.index->bucket_of(hash);
  are_far ? FlowIndex::prefetch(bucket) : FlowIndex::prefetch_near(bucket);
  columns.hashes[i] = hash;
  columns.buckets[i] = bucket;
  columns.tags[i] = found.index->tag(hash);
  columns.services[i] = found.service;
}

void classify_plain(WorkerCore& core, uint32_t n, bool are_far) {
  const FirstLook& look = core.look;
  PlainColumns& columns = core.columns;
  const PlainView<V4> view(core);
  uint32_t i = 0;
  columns.of = {};
  if (core.has_avx512) {
    for (; i + kLanes <= n; i += kLanes) classify_lanes(look, columns, view, i, are_far);
  }
  for (; i < n; ++i)
    if (((look.acks | look.syns) >> i) & 1) classify_one(look, columns, view, i, are_far);
}

uint64_t first_bits(uint32_t n) {
  return n == 0 ? 0 : ~uint64_t{0} >> (64 - n);
}

[[gnu::noinline]] void classify_others(WorkerCore& core, uint64_t packets, bool were_handed_over) {
  const uint64_t plain = core.look.acks | core.look.syns;
  const PlainView<V6> v6(core);
  // In their order, since the kernel and other workers get them in this one.
  for_each_bit(packets, [&](uint32_t i) {
    if ((plain >> i) & 1)
      classify_stray(core, i, were_handed_over);
    else
      classify_other(core, v6, core.packets[i], core.mbufs[i], were_handed_over);
  });
}

}  // namespace

void classify_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over, bool are_far) {
  FirstLook& look = core.look;
  core.mbufs = mbufs;
  open_frames(look, mbufs, n);
  end_stage(core, Stage::open);
  core.has_avx512 ? look_with_avx512(look, n) : look_portably(look, n);
  if ((core.config.kernel_ports | core.config.promiscuous_ports) != 0) leave_strangers(core, look, mbufs, n);
  end_stage(core, Stage::look);
  classify_plain(core, n, are_far);
  const uint64_t others = first_bits(n) & ~core.columns.known();
  if (others != 0) classify_others(core, others, were_handed_over);
  end_stage(core, Stage::classify);
}

void classify_generally(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over) {
  for (uint32_t i = 0; i < n; ++i) parse_and_classify(core, core.packets[i], mbufs[i], were_handed_over);
}

namespace {

bool has_index(const Packet& packet) {
  return packet.path != Path::done && packet.path != Path::icmp;
}

template <bool kAreFar>
void find_portably(PlainColumns& columns, uint64_t packets, const FlowIndex& index, const void** far) {
  const FlowIndex::Entries entries = index.entries();
  for_each_bit(packets, [&](uint32_t i) {
    const uint32_t candidate = index.candidate(*columns.buckets[i], columns.tags[i]);
    columns.candidates[i] = candidate;
    if constexpr (kAreFar)
      far[i] = entries.prefetch_far(candidate);
    else
      entries.prefetch(candidate);
  });
}

// Of the plain packets, those of one index.
void find_plain(WorkerCore& core, uint64_t packets, const FlowIndex* index, const void** far) {
  if (packets == 0) return;
  if (core.has_avx512) return find_candidates_by_avx512(core.columns, packets, *index, far);
  far != nullptr ? find_portably<true>(core.columns, packets, *index, far)
                 : find_portably<false>(core.columns, packets, *index, far);
}

void find_all_plain(WorkerCore& core, const void** far) {
  const PlainView<V4> view(core);
  find_plain(core, core.columns.in_dsr(), view.dsr(), far);
  find_plain(core, core.columns.in_nat(), view.nat(), far);
}

void find_other(Packet& packet, const void** far) {
  if (!has_index(packet)) return;
  packet.candidate = packet.index->candidate(packet.hash);
  if (far != nullptr)
    *far = packet.index->entries().prefetch_far(packet.candidate);
  else
    packet.index->entries().prefetch(packet.candidate);
}

}  // namespace

void look_ahead(WorkerCore& core, rte_mbuf** mbufs, uint32_t n) {
  core.mbufs = mbufs;
  open_frames(core.look, mbufs, n);
  look_portably(core.look, n);
  if ((core.config.kernel_ports | core.config.promiscuous_ports) != 0)
    leave_strangers(core, core.look, mbufs, n);
  classify_plain(core, n, false);
  find_all_plain(core, nullptr);
}

void find_candidates(WorkerCore& core, uint32_t n, bool are_far) {
  const void** const far = are_far ? core.entries.data() : nullptr;
  find_all_plain(core, far);
  for_each_bit(first_bits(n) & ~core.columns.known(),
               [&](uint32_t i) { find_other(core.packets[i], are_far ? far + i : nullptr); });
}

void fill_plain(WorkerCore& core, uint32_t i, bool was_handed_over) {
  const FirstLook& look = core.look;
  const PlainColumns& columns = core.columns;
  Packet& p = core.packets[i];
  const bool is_known = (columns.known() >> i) & 1;
  p.mbuf = core.mbufs[i];
  p.l3 = look.frames[i] + kPlainL2Size;
  p.l4 = p.l3 + V4::kHeaderSize;
  p.ip_length = look.lengths[i];
  p.payload = static_cast<uint16_t>(p.ip_length - V4::kHeaderSize - (p.l4[12] >> 4) * 4u);
  p.flags = p.l4[13] & 0x3f;
  p.is_v6 = false;
  p.was_handed_over = was_handed_over;
  p.shape = (look.acks >> i) & 1 ? Shape::later : Shape::opening;
  p.kind = Kind::tcp;
  if (!is_known) return;
  p.hash = columns.hashes[i];
  p.service = columns.services[i];
  p.path = columns.path(i);
  p.candidate = columns.candidates[i];
  p.index = p.path == Path::nat_in || p.path == Path::nat_out
                ? &core.v4.nat.load(std::memory_order_relaxed)->index()
                : &core.v4.dsr.load(std::memory_order_relaxed)->index();
}

}  // namespace portico
