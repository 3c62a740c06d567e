// SPDX-License-Identifier: Apache-2.0
// The short way of a plain SYN that opens a flow: the backend and, in nat, the port toward it are worked out
// for the whole burst before the first entry is made, so that the index line of the replies is on its way
// meanwhile. As in plain.h, each function does what the general stages would do, or nothing and says false.
#pragma once

#include "dataplane/nat_deltas.h"
#include "dataplane/new_entry.h"
#include "dataplane/plain.h"

namespace portico {

class PlainOpening {
  using F = V4;  // of other families, first looks know nothing
  using NewKey = NatFlows<F>::NewKey;

 public:
  explicit PlainOpening(WorkerCore& core)
      : core_(core),
        table_(*core.table),
        ways_(table_.plain_ways(F::Ip{})),
        dsr_(core.set<F>().dsr.load(std::memory_order_relaxed)),
        nat_(core.set<F>().nat.load(std::memory_order_relaxed)) {}

  // How many openings of a burst have been planned for ports of each NAT address.
  using Planned = std::array<uint8_t, kMaxNatAddresses>;

  // For a packet of shape `opening`, whether its flow is known or not: its slot, which is fetched. Finds none
  // where the general stages are to look.
  void choose(const PlainPacket& p, Opening& o) {
    o.slot = Opening::kNoSlot;
    // Where flows are other workers' still, the general stages know.
    if (core_.moved != nullptr) return;
    const uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    const TableService& service = table_.service(p.service);
    if (!service.opens_plainly()) return;
    const TablePool& pool = table_.pool(service.pool);
    const auto client = source_of<F>(l3);
    if (pool.disposition != PoolDisposition::serve || pool.lookup == nullptr) return;
    if (table_.find_local(client) != nullptr || !table_.allows(service.access_list, client)) return;
    o.slot = choose_slot<F>(table_, service, client, tcp_source_port(l4), destination_of<F>(l3),
                            tcp_destination_port(l4));
    __builtin_prefetch(&pool.lookup[o.slot]);
  }

  // For the same, once choose() has been called for all and candidates have been looked for. Leaves the
  // backend kNone where the general stages are to look.
  void plan(const PlainPacket& p, bool is_nat, Opening& o, Planned& planned) {
    o.backend = kNone;
    if (p.candidate != 0 || o.slot == Opening::kNoSlot) return;
    const uint8_t* const l4 = p.l3 + F::kHeaderSize;
    const TableService& service = table_.service(p.service);
    const uint16_t backend = table_.pool(service.pool).lookup[o.slot];
    if (p.length > ways_[backend].mtu) return;
    if (is_nat && !plan_port(service, backend, tcp_source_port(l4), tcp_destination_port(l4), o, planned))
      return;
    o.backend = backend;
  }

  // Opens the flow, whose hash is known, and forwards its SYN, uncounted in `forwarded`.
  bool open(const PlainPacket& p, bool is_nat, uint64_t hash, Opening& o) {
    if (o.backend == kNone) return false;
    return is_nat ? open_nat(p, hash, o) : open_dsr(p, hash, o.backend);
  }

 private:
  // Works out the port whose turn it will be when those planned before are open. It is taken by open_nat().
  bool plan_port(const TableService& service, uint16_t backend, uint16_t client_port, uint16_t vip_port,
                 Opening& o, Planned& planned) {
    const auto addresses = table_.nat_of(F::kFamily);
    if (addresses.empty() || nat_->ports_generation() != table_.generation()) return false;
    const auto count = static_cast<uint32_t>(addresses.size());
    o.nat_index = addresses[count == 1 ? 0 : ntohs(client_port) % count];
    o.backend_port = service.backend_port != 0 ? htons(service.backend_port) : vip_port;
    if (!aim(o, backend, planned[o.nat_index])) return false;
    ++planned[o.nat_index];
    nat_->index().prefetch(o.reply_hash);
    return true;
  }

  // Aims the opening at the port of its address that comes after `ahead` others.
  [[gnu::always_inline]] bool aim(Opening& o, uint16_t backend, uint32_t ahead) {
    const PortShare& share = nat_->share(o.nat_index);
    const uint32_t count = share.count();
    if (count == 0) return false;
    const uint32_t cursor = nat_->cursor(o.nat_index);
    const auto turn = [&](uint32_t i) { return i < count ? i : i % count; };
    o.before = ahead == 0 ? cursor : turn(cursor + ahead);
    o.after = turn(o.before + 1);
    o.nat = F::from(table_.nat()[o.nat_index].address);
    const auto& backend_address = ways_[backend].address;
    const uint16_t port =
        share.port(o.after, reply_rest<F>(core_, share, backend_address, o.backend_port, o.nat));
    if (port == 0) return false;
    o.nat_port = htons(port);
    o.reply_hash = F::hash(core_.flow_key, backend_address, o.backend_port, o.nat, o.nat_port);
    return true;
  }
  // For an opening whose port is not the one in turn, since a SYN before took more than one, or none.
  [[gnu::noinline]] bool aim_anew(Opening& o) { return aim(o, o.backend, 0); }

  bool open_dsr(const PlainPacket& p, uint64_t hash, uint16_t backend) {
    uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    const auto& way = ways_[backend];
    const auto is_it = [&](const DsrEntry<F>& e) { return e.is_client_of(l3, l4); };
    const DsrFlows<F>::NewKey key(*dsr_, hash, is_it);
    if (!key.is_new() || !has_room(core_, way.port) || !remember_dsr(p, key, backend)) return false;
    count_new_flow(core_, p.service, backend);
    count_in(core_.counters, p.service, backend, p.length);
    age_header<F>(l3);
    send_plain(core_, p.mbuf, l3, way.macs, way.port);
    return true;
  }

  // Makes the flow's entry, unless the rate of new flows or a full table is in the way: then the flow goes by
  // the hash alone. False: the general stages are to look.
  bool remember_dsr(const PlainPacket& p, const DsrFlows<F>::NewKey& key, uint16_t backend) {
    const uint32_t rate = table_.settings().new_flow_rate;
    const bool is_slow_enough = rate == 0 || core_.new_flows.take(core_.cycles, rate);
    if (!is_slow_enough || (!dsr_->has_free() && !core_.evictions.has_any(core_.cycles, kDsrEvictionRate))) {
      bump(core_.counters.flows_uninserted);
      return true;
    }
    const uint32_t reference = dsr_->allocate();
    if (reference == 0 || !key.insert(*dsr_, reference)) {
      if (reference != 0) dsr_->release(reference);
      if (rate != 0) core_.new_flows.give_back();  // the general stages take it
      return false;
    }
    const uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    DsrEntry<F>& e = (*dsr_)[reference];
    e.client = source_of<F>(l3);
    e.vip = destination_of<F>(l3);
    e.client_port = tcp_source_port(l4);
    e.vip_port = tcp_destination_port(l4);
    e.service = p.service;
    e.backend = backend;
    e.client_ack = tcp_sequence(l4);
    begin_life(e);
    count_flow(core_, e);
    return true;
  }

  bool open_nat(const PlainPacket& p, uint64_t hash, Opening& o) {
    uint8_t* const l3 = p.l3;
    uint8_t* const l4 = l3 + F::kHeaderSize;
    const uint16_t backend = o.backend;
    if (nat_->cursor(o.nat_index) != o.before && !aim_anew(o)) return false;
    const auto& way = ways_[backend];
    const auto is_it = [&](const NatEntry<F>& e) { return e.is_client_of(l3, l4); };
    const auto has_port = [&](const NatEntry<F>& e) {
      return e.is_from_backend(way.address, o.backend_port, o.nat, o.nat_port);
    };
    if (nat_->ports_generation() != table_.generation() || !has_room(core_, way.port)) return false;
    const NewKey client_side(*nat_, hash, is_it), backend_side(*nat_, o.reply_hash, has_port);
    if (!client_side.is_new() || !backend_side.is_new()) return false;
    const uint32_t list = nat_->port_list(backend);
    if (nat_->half_open_count(list) >= nat_->half_open_limit()) evict_half_open(core_, *nat_, list);
    if (!nat_->has_free() && !make_room(core_, *nat_, list)) return false;
    const uint32_t reference = insert_keys(client_side, backend_side, hash);
    if (reference == 0) return false;
    nat_->cursor(o.nat_index) = o.after;
    NatEntry<F>& e = (*nat_)[reference];
    fill_nat_entry(core_, e, l3, l4, p.service, backend);
    e.nat = o.nat;
    e.nat_port = o.nat_port;
    const NatDeltas deltas = deltas_of(e);
    e.address_delta = deltas.address;
    e.tcp_delta = deltas.tcp;
    begin_life(e);
    nat_->link_half_open(reference);
    count_flow(core_, e);
    count_new_flow(core_, p.service, backend);
    bump(core_.counters.nat_ports_used);
    nat_->use().add(e.backend, e.backend_port);
    count_in(core_.counters, p.service, backend, p.length);
    rewrite<F>(l3, l4, e.nat, e.nat_port, e.backend_address, e.backend_port, e.address_delta, e.tcp_delta);
    send_plain(core_, p.mbuf, l3, way.macs, way.port);
    return true;
  }

  // The state comes last, as in FlowTable::fill(), which copies: that waits until all stores before it are
  // through. All other fields of a free entry but the first are zero.
  template <typename Entry>
  void begin_life(Entry& e) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    e.vitals = Vitals(FlowState::syn, true, core_.now);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  // A free entry under both keys, or 0.
  [[gnu::always_inline]] uint32_t insert_keys(const NewKey& client_side, const NewKey& backend_side,
                                              uint64_t client_hash) {
    const uint32_t reference = nat_->allocate();
    if (reference == 0) return 0;
    if (client_side.insert(*nat_, reference)) {
      if (backend_side.insert(*nat_, reference, &client_side)) return reference;
      nat_->erase_key(client_hash, reference);
    }
    nat_->release(reference);
    return 0;
  }

  WorkerCore& core_;
  const Table& table_;
  const PlainWay<F::Ip>* const ways_;
  DsrFlows<F>* const dsr_;
  NatFlows<F>* const nat_;
};

}  // namespace portico
