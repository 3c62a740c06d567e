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
        nat_(core.set<F>().nat.load(std::memory_order_relaxed)),
        o_(core.openings),
        hasher_(core.flow_key) {
    const auto addresses = table_.nat_of(F::kFamily);
    if (nat_ == nullptr || nat_->ports_generation() != table_.generation()) return;
    nat_list_ = addresses.data();
    nat_count_ = static_cast<uint32_t>(addresses.size());
  }

  // For packet i of shape `opening`, whether its flow is known or not: its slot, which is fetched. Finds none
  // where the general stages are to look.
  [[gnu::always_inline]] void choose(uint32_t i, const PlainPacket& p) {
    o_.slots[i] = o_.kNoSlot;
    const uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    const TableService& service = table_.service(p.service);
    if (!service.opens_plainly()) return;
    const TablePool& pool = table_.pool(service.pool);
    const auto client = source_of<F>(l3);
    if (pool.disposition != PoolDisposition::serve || pool.lookup == nullptr) return;
    if (table_.find_local(client) != nullptr || !table_.allows(service.access_list, client)) return;
    o_.slots[i] = choose_slot<F>(table_, service, client, tcp_source_port(l4), destination_of<F>(l3),
                                 tcp_destination_port(l4));
    __builtin_prefetch(&pool.lookup[o_.slots[i]]);
  }

  // For the same, once choose() has been called for all and candidates have been looked for: the backend and,
  // in nat, address and port of the replies. False, and no backend, where the general stages are to look.
  [[gnu::always_inline]] bool plan(uint32_t i, const PlainPacket& p, bool is_nat) {
    o_.backends[i] = kNone;
    if (p.candidate != 0 || o_.slots[i] == o_.kNoSlot) return false;
    const uint8_t* const l4 = p.l3 + F::kHeaderSize;
    const TableService& service = table_.service(p.service);
    const uint16_t backend = table_.pool(service.pool).lookup[o_.slots[i]];
    if (p.length > ways_[backend].mtu) return false;
    if (is_nat && !plan_reply(i, service, backend, tcp_source_port(l4), tcp_destination_port(l4)))
      return false;
    o_.backends[i] = backend;
    return true;
  }

  // For a planned one in nat whose port the index seems to have: plans another. False, and no backend, if
  // there is none.
  bool plan_anew(uint32_t i) {
    o_.reply_places[i] = nullptr;
    if (!take_turn(i, static_cast<uint16_t>(o_.reply_ports[i]))) {
      o_.backends[i] = kNone;
      return false;
    }
    o_.reply_hashes[i] = hasher_(o_.reply_sources[i], o_.reply_destinations[i], o_.reply_ports[i]);
    nat_->index().prefetch(o_.reply_hashes[i]);
    return true;
  }

  // Opens the flow and forwards its SYN, uncounted in `forwarded`.
  bool open(uint32_t i, const PlainPacket& p, bool is_nat) {
    // Where flows are other workers' still, the general stages know.
    if (o_.backends[i] == kNone || core_.moved != nullptr) return false;
    return is_nat ? open_nat(i, p) : open_dsr(i, p);
  }

 private:
  [[gnu::always_inline]] bool plan_reply(uint32_t i, const TableService& service, uint16_t backend,
                                         uint16_t client_port, uint16_t vip_port) {
    if (nat_count_ == 0) return false;
    o_.nat[i] = nat_list_[nat_turn(client_port, nat_count_)];
    o_.reply_sources[i] = ways_[backend].address;
    o_.reply_destinations[i] = F::from(table_.nat()[o_.nat[i]].address);
    return take_turn(i, service.backend_port != 0 ? htons(service.backend_port) : vip_port);
  }

  // Takes the next turn of the address's ports. One that is not used is lost, the port comes again.
  [[gnu::always_inline]] bool take_turn(uint32_t i, uint16_t backend_port) {
    const PortShare& share = nat_->share(o_.nat[i]);
    if (share.count() == 0) return false;
    uint32_t& cursor = nat_->cursor(o_.nat[i]);
    if (++cursor >= share.count()) cursor %= share.count();
    const uint32_t rest =
        reply_rest<F>(core_, share, o_.reply_sources[i], backend_port, o_.reply_destinations[i]);
    const uint16_t port = share.port(cursor, rest);
    o_.reply_ports[i] = uint32_t{htons(port)} << 16 | backend_port;
    return port != 0;
  }

  // A place that was found ahead, if it still holds.
  static uint32_t* holding(uint32_t* place, const FlowIndex& index, uint32_t erasures) {
    return place != nullptr && *place == 0 && index.erasures() == erasures ? place : nullptr;
  }

  bool open_dsr(uint32_t i, const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    const uint8_t* const l4 = l3 + F::kHeaderSize;
    const uint16_t backend = o_.backends[i];
    const auto& way = ways_[backend];
    const auto is_it = [&](const DsrEntry<F>& e) { return e.is_client_of(l3, l4); };
    const DsrFlows<F>::NewKey key(*dsr_, core_.columns.hashes[i], is_it,
                                  holding(o_.places[i], dsr_->index(), o_.dsr_erasures));
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

  bool open_nat(uint32_t i, const PlainPacket& p) {
    uint8_t* const l3 = p.l3;
    uint8_t* const l4 = l3 + F::kHeaderSize;
    const uint16_t backend = o_.backends[i];
    const uint64_t hash = core_.columns.hashes[i];
    const auto& way = ways_[backend];
    const auto is_it = [&](const NatEntry<F>& e) { return e.is_client_of(l3, l4); };
    const std::array<uint32_t, 2> reply{o_.reply_sources[i], o_.reply_destinations[i]};
    const auto has_port = [&](const NatEntry<F>& e) {
      return e.backend_address == reply[0] && e.nat == reply[1] &&
             load<uint32_t>(reinterpret_cast<const uint8_t*>(&e.backend_port)) == o_.reply_ports[i];
    };
    if (!has_room(core_, way.port)) return false;
    const FlowIndex& index = nat_->index();
    const NewKey client_side(*nat_, hash, is_it, holding(o_.places[i], index, o_.nat_erasures));
    const NewKey backend_side(*nat_, o_.reply_hashes[i], has_port,
                              holding(o_.reply_places[i], index, o_.nat_erasures));
    if (!client_side.is_new() || !backend_side.is_new()) return false;
    const uint32_t list = nat_->port_list(backend);
    if (nat_->half_open_count(list) >= nat_->half_open_limit()) evict_half_open(core_, *nat_, list);
    if (!nat_->has_free() && !make_room(core_, *nat_, list)) return false;
    const uint32_t reference = insert_keys(client_side, backend_side, hash);
    if (reference == 0) return false;
    NatEntry<F>& e = (*nat_)[reference];
    fill_nat_entry<F>(e, l3, l4, p.service, backend, reply[0], static_cast<uint16_t>(o_.reply_ports[i]));
    e.nat = reply[1];
    e.nat_port = static_cast<uint16_t>(o_.reply_ports[i] >> 16);
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
  // Of the family's NAT addresses; none as long as ports have not been shared out under this table.
  const uint16_t* nat_list_ = nullptr;
  uint32_t nat_count_ = 0;
  OpeningColumns& o_;
  const F::Hasher hasher_;
};

}  // namespace portico
