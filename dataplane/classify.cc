// SPDX-License-Identifier: Apache-2.0
// What a parsed packet is to us.
#include "dataplane/kernel_rules.h"
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

template <typename F>
[[gnu::noinline]] void classify_tcp(WorkerCore& core, Packet& packet) {
  const auto destination = destination_of<F>(packet.l3);
  packet.service = core.table->find_service(destination, tcp_destination_port(packet.l4));
  if (packet.service != kNone) {
    packet.path = path_of(core.table->service(packet.service).mode);
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
  const auto destination = destination_of<F>(packet.l3);
  const bool is_about_tunnel =
      packet.kind == Kind::icmp_error && core.table->tunnel_source<F>().contains(destination);
  if (!is_about_tunnel && core.table->find_local(destination) == nullptr)
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

// What classifying plain packets needs, so that a burst keeps it in registers: the stages write into packets,
// and the compiler must take every such write for one to anything.
template <typename F>
class PlainView {
 public:
  explicit PlainView(const WorkerCore& core)
      : listeners_(core.table->listeners(typename F::Ip{})),
        locals_(core.table->local_map(typename F::Ip{})),
        services_(&core.table->service(0)),
        local_addresses_(core.table->local_addresses()),
        nat_addresses_(core.table->nat().data()),
        hash_(core.flow_key),
        sharer_count_(core.port_sharers<F>()),
        sharer_(sharer_count_ == 1 ? 0 : core.config.index) {
    if (const auto* const dsr = core.set<F>().dsr.load(std::memory_order_acquire)) dsr_ = &dsr->index();
    if (const auto* const nat = core.set<F>().nat.load(std::memory_order_acquire)) nat_ = &nat->index();
  }

  // False: the packet is for no service and for no NAT port of this worker; nothing done.
  [[gnu::always_inline]] bool classify(Packet& packet, const uint8_t* l3, const uint8_t* l4) const {
    const auto destination = destination_of<F>(l3);
    const uint16_t port = tcp_destination_port(l4);
    const uint16_t service = listeners_.find({destination, port});
    const FlowIndex* index = nat_;
    Path path = Path::nat_in;
    if (service == kNone) {
      if (!is_own_reply(destination, port)) return false;
      path = Path::nat_out;
    } else if (!translates(services_[service].mode)) {
      index = dsr_;
      path = services_[service].mode == Mode::dsr_l2 ? Path::dsr : Path::tunnel;
    }
    const uint64_t hash = hash_(source_of<F>(l3), tcp_source_port(l4), destination, port);
    index->prefetch(hash);
    packet.hash = hash;
    packet.index = index;
    packet.service = service;
    packet.path = path;
    return true;
  }

 private:
  bool is_own_reply(const typename F::Ip& destination, uint16_t port) const {
    const uint16_t local = locals_.find({destination, 0});
    if (local == kNone || nat_ == nullptr || !local_addresses_[local].is_nat) return false;
    return port_owner(nat_addresses_[local_addresses_[local].nat], ntohs(port), sharer_count_) == sharer_;
  }

  const typename AddressMap<typename F::Ip>::Reader listeners_, locals_;
  const TableService* const services_;
  const LocalAddress* const local_addresses_;
  const TableNat* const nat_addresses_;
  const typename F::Hasher hash_;
  const uint32_t sharer_count_, sharer_;
  const FlowIndex* dsr_ = nullptr;
  const FlowIndex* nat_ = nullptr;
};

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
[[gnu::noinline]] void classify_other(WorkerCore& core, Packet& packet, rte_mbuf* mbuf,
                                      bool was_handed_over) {
  const bool is_strange = is_for_group(rte_pktmbuf_mtod(mbuf, const uint8_t*)) || is_for_other(core, mbuf);
  if (!is_strange && parse_plain<V4>(packet, mbuf, was_handed_over)) return classify_tcp<V4>(core, packet);
  if (!is_strange && parse_plain<V6>(packet, mbuf, was_handed_over)) {
    if (!PlainView<V6>(core).classify(packet, packet.l3, packet.l4)) classify_tcp<V6>(core, packet);
    return;
  }
  parse_and_classify(core, packet, mbuf, was_handed_over);
}

// A plain packet for nothing of this worker's.
[[gnu::noinline]] void classify_stray(WorkerCore& core, Packet& packet, bool was_handed_over) {
  complete(packet, was_handed_over);
  classify_tcp<V4>(core, packet);
}

}  // namespace

void classify_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over) {
  FirstLook& look = core.look;
  open_frames(look, mbufs, n);
  core.has_avx512 ? look_with_avx512(look, n) : look_portably(look, n);
  if ((core.config.kernel_ports | core.config.promiscuous_ports) != 0) leave_strangers(core, look, mbufs, n);
  const PlainView<V4> v4(core);
  const uint64_t acks = look.acks, plain = look.acks | look.syns;
  for (uint32_t i = 0; i < n; ++i) {
    Packet& packet = core.packets[i];
    if (!((plain >> i) & 1)) {
      classify_other(core, packet, mbufs[i], were_handed_over);
      continue;
    }
    uint8_t* const l3 = look.frames[i] + kPlainL2Size;
    packet.mbuf = mbufs[i];
    packet.l3 = l3;
    packet.ip_length = look.lengths[i];
    packet.shape = (acks >> i) & 1 ? Shape::later : Shape::opening;
    packet.is_bare = true;
    if (!v4.classify(packet, l3, l3 + V4::kHeaderSize)) classify_stray(core, packet, were_handed_over);
  }
}

void classify_generally(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over) {
  for (uint32_t i = 0; i < n; ++i) parse_and_classify(core, core.packets[i], mbufs[i], were_handed_over);
}

namespace {

bool has_index(const Packet& packet) {
  return packet.path != Path::done && packet.path != Path::icmp;
}

// Most of a burst looks into one index, whose parameters stay in registers meanwhile.
#define PORTICO_FIND_CANDIDATES(candidate_in, fetch)                                      \
  for (uint32_t i = 0; i < n;) {                                                          \
    if (!has_index(core.packets[i])) {                                                    \
      ++i;                                                                                \
      continue;                                                                           \
    }                                                                                     \
    const FlowIndex& index = *core.packets[i].index;                                      \
    for (; i < n && core.packets[i].index == &index && has_index(core.packets[i]); ++i) { \
      Packet& packet = core.packets[i];                                                   \
      const uint32_t candidate = index.candidate_in(packet.hash);                         \
      packet.candidate = candidate;                                                       \
      fetch;                                                                              \
    }                                                                                     \
  }
#define PORTICO_FETCH_NEAR index.prefetch_entry(candidate)
#define PORTICO_FETCH_FAR core.entries[i] = index.prefetch_far_entry(candidate)

void find_candidates_portably(WorkerCore& core, uint32_t n, bool are_far) {
  if (are_far) {
    PORTICO_FIND_CANDIDATES(candidate, PORTICO_FETCH_FAR)
  } else {
    PORTICO_FIND_CANDIDATES(candidate, PORTICO_FETCH_NEAR)
  }
}

#if defined(__x86_64__)
[[gnu::target("avx512f,bmi2")]] void find_candidates_by_avx512(WorkerCore& core, uint32_t n, bool are_far) {
  if (are_far) {
    PORTICO_FIND_CANDIDATES(candidate_by_avx512, PORTICO_FETCH_FAR)
  } else {
    PORTICO_FIND_CANDIDATES(candidate_by_avx512, PORTICO_FETCH_NEAR)
  }
}
#else
void find_candidates_by_avx512(WorkerCore& core, uint32_t n, bool are_far) {
  find_candidates_portably(core, n, are_far);
}
#endif

#undef PORTICO_FIND_CANDIDATES
#undef PORTICO_FETCH_NEAR
#undef PORTICO_FETCH_FAR

}  // namespace

void find_candidates(WorkerCore& core, uint32_t n, bool are_far) {
  core.has_avx512 ? find_candidates_by_avx512(core, n, are_far) : find_candidates_portably(core, n, are_far);
}

}  // namespace portico
