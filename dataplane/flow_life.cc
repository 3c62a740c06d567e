// SPDX-License-Identifier: Apache-2.0
// Birth and death of flow entries, and who gives way when there is no room.
#include "dataplane/new_entry.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

// Entries looked at for one to evict before giving up.
constexpr uint32_t kEvictionSteps = 64, kFirstEvictionSteps = 4;

// Established flows never give way.
template <typename Entry>
bool may_be_evicted(const WorkerCore& core, const Entry& entry) {
  return entry.vitals.probationary() || is_closed(entry.vitals.state()) || is_expired(core, entry);
}

// Frees an entry anywhere in a full table, if there is one among so many.
template <typename Flows>
bool evict_any(WorkerCore& core, Flows& flows, uint32_t& victim, uint32_t steps) {
  for (uint32_t step = 0; step < steps && step < flows.highest(); ++step) {
    victim = victim >= flows.highest() ? 1 : victim + 1;
    if (!flows.is_live(victim) || !may_be_evicted(core, flows[victim])) continue;
    erase_flow(core, flows, victim);
    bump(core.counters.evictions);
    return true;
  }
  return false;
}

// Frees a place in one of the hash's first two buckets: the flow that has been silent longest. Not `self`,
// which is being inserted.
template <typename Flows>
bool evict_neighbour(WorkerCore& core, Flows& flows, uint64_t hash, uint32_t self) {
  uint32_t oldest = 0, silence = 0;
  flows.for_each_neighbour(hash, [&](uint32_t reference) {
    // What is left of a key that stood twice may name a free entry.
    if (reference == self || !flows.is_live(reference) || !may_be_evicted(core, flows[reference])) return;
    const uint32_t s = ticks_since(core.now, flows[reference].vitals.seen());
    if (oldest == 0 || s > silence) oldest = reference, silence = s;
  });
  if (oldest == 0) return false;
  erase_flow(core, flows, oldest);
  bump(core.counters.evictions);
  return true;
}

template <typename Flows>
bool insert_key(WorkerCore& core, Flows& flows, uint64_t hash, uint32_t reference) {
  if (flows.insert_key(hash, reference)) return true;
  return evict_neighbour(core, flows, hash, reference) && flows.insert_key(hash, reference);
}

template <typename Entry>
uint64_t hash_of_client_side(const WorkerCore& core, const Entry& e) {
  return Entry::Family::hash(core.flow_key, e.client, e.client_port, e.vip, e.vip_port);
}
template <typename F>
uint64_t hash_of_backend_side(const WorkerCore& core, const NatEntry<F>& e) {
  return F::hash(core.flow_key, e.backend_address, e.backend_port, e.nat, e.nat_port);
}

// A flow more, also for the limit of its source: on the short ways there is none.
template <typename Entry>
void count_with_source(WorkerCore& core, const Entry& e) {
  count_flow(core, e);
  if (core.source_limits.load(std::memory_order_relaxed) != nullptr)
    count_source<typename Entry::Family>(core, e.service, e.client);
}

template <typename Entry>
void uncount_flow(WorkerCore& core, const Entry& e) {
  if (core.source_limits.load(std::memory_order_relaxed) != nullptr)
    uncount_source<typename Entry::Family>(core, e.service, e.client);
  lower(core.counters.flows);
  lower(core.counters.services[e.service].flows);
  lower(core.counters.backends[e.backend].flows);
}

// Counts of NAT ports, which a flow that shows its client takes none of.
template <typename F>
void count_port(WorkerCore& core, NatFlows<F>& flows, const NatEntry<F>& e) {
  if (e.shows_client()) return;
  bump(core.counters.nat_ports_used);
  flows.use().add(e.backend, e.backend_port);
}
template <typename F>
void uncount_port(WorkerCore& core, NatFlows<F>& flows, const NatEntry<F>& e) {
  if (e.shows_client()) return;
  lower(core.counters.nat_ports_used);
  flows.use().remove(e.backend, e.backend_port);
}

template <typename F>
std::vector<bool>& moved_of(WorkerCore& core, const DsrFlows<F>&) {
  return core.set<F>().dsr_moved;
}
template <typename F>
std::vector<bool>& moved_of(WorkerCore& core, const NatFlows<F>&) {
  return core.set<F>().nat_moved;
}

template <typename Flows>
void forget_moved(WorkerCore& core, const Flows& flows, uint32_t reference) {
  if (core.moved == nullptr || !moved_of(core, flows)[reference]) return;
  moved_of(core, flows)[reference] = false;
  --core.moved_count;
}

template <typename Flows, typename Entry>
uint32_t find_client_side(const Flows& flows, const Entry& entry, const FlowKeys& keys) {
  return flows.find(keys.client_side, 0, [&](const Entry& e) {
    return e.is_from_client(entry.client, entry.client_port, entry.vip, entry.vip_port);
  });
}

}  // namespace

template <typename Entry>
bool is_expired(const WorkerCore& core, const Entry& entry) {
  const TableService& service = core.table->service(entry.service);
  const uint32_t idle = ticks_of_ms(service.idle_timeout_ms);
  return ticks_since(core.now, entry.vitals.seen()) > timeout_of(entry.vitals.state(), core.timeouts, idle);
}

// What the next eviction of the list's half-open flows will touch, and of the one after that the entry.
template <typename F>
void prefetch_oldest(const WorkerCore& core, NatFlows<F>& flows, uint32_t list) {
  const NatEntry<F>& next = flows[flows.oldest_half_open(list)];
  flows.index().prefetch(hash_of_client_side(core, next));
  flows.index().prefetch(hash_of_backend_side(core, next));
  __builtin_prefetch(&flows[next.newer], 1);
}

// A few steps find a flow that is over, if the table is full of such; else it is likely full of half-open
// ones.
template <typename F>
bool make_room(WorkerCore& core, NatFlows<F>& flows, uint32_t list) {
  uint32_t& victim = core.set<F>().nat_victim;
  return evict_any(core, flows, victim, kFirstEvictionSteps) || evict_half_open(core, flows, list) ||
         evict_any(core, flows, victim, kEvictionSteps - kFirstEvictionSteps);
}

template <typename F>
bool evict_half_open(WorkerCore& core, NatFlows<F>& flows, uint32_t list) {
  const uint32_t oldest = flows.oldest_half_open(list);
  if (oldest == 0) return false;
  erase_flow(core, flows, oldest);
  bump(core.counters.evictions);
  prefetch_oldest(core, flows, list);
  return true;
}

template <typename F>
uint32_t insert_flow(WorkerCore& core, DsrFlows<F>& flows, const DsrEntry<F>& entry) {
  uint32_t reference = flows.allocate();
  if (reference == 0 && core.evictions.take(core.cycles, kDsrEvictionRate) &&
      evict_any(core, flows, core.set<F>().dsr_victim, kEvictionSteps))
    reference = flows.allocate();
  if (reference == 0) return 0;
  flows.fill(reference, entry);
  if (!insert_key(core, flows, hash_of_client_side(core, entry), reference)) {
    flows.release(reference);
    return 0;
  }
  count_with_source(core, entry);
  return reference;
}

template <typename F>
uint32_t insert_flow(WorkerCore& core, NatFlows<F>& flows, const NatEntry<F>& entry) {
  uint32_t reference = flows.allocate();
  if (reference == 0 && make_room(core, flows, NatFlows<F>::half_open_list(entry)))
    reference = flows.allocate();
  if (reference == 0) return 0;
  flows.fill(reference, entry);
  const uint64_t client_side = hash_of_client_side(core, entry);
  const bool has_first = insert_key(core, flows, client_side, reference);
  if (!has_first || !insert_key(core, flows, hash_of_backend_side(core, entry), reference)) {
    flows.erase_key(client_side, reference);
    flows.release(reference);
    return 0;
  }
  if (entry.vitals.state() == FlowState::syn) flows.link_half_open(reference);
  count_with_source(core, entry);
  count_port(core, flows, entry);
  return reference;
}

// The client's key stays as it is, and the only step that can fail comes first.
template <typename F>
uint32_t replace_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t old, const NatEntry<F>& entry) {
  if (!insert_key(core, flows, hash_of_backend_side(core, entry), old)) return 0;
  flows.unlink_half_open(old);
  const NatEntry<F>& before = flows[old];
  flows.erase_key(hash_of_backend_side(core, before), old);
  uncount_port(core, flows, before);
  uncount_flow(core, before);
  forget_moved(core, flows, old);
  flows.fill(old, entry);
  flows.link_half_open(old);
  count_port(core, flows, entry);
  count_with_source(core, entry);
  return old;
}

template <typename F>
void erase_flow(WorkerCore& core, DsrFlows<F>& flows, uint32_t reference) {
  const DsrEntry<F>& entry = flows[reference];
  uncount_flow(core, entry);
  forget_moved(core, flows, reference);
  flows.erase_key(hash_of_client_side(core, entry), reference);
  flows.release(reference);
}

template <typename F>
void erase_flow(WorkerCore& core, NatFlows<F>& flows, uint32_t reference) {
  flows.unlink_half_open(reference);
  const NatEntry<F>& entry = flows[reference];
  uncount_flow(core, entry);
  forget_moved(core, flows, reference);
  uncount_port(core, flows, entry);
  flows.erase_key(hash_of_client_side(core, entry), reference);
  flows.erase_key(hash_of_backend_side(core, entry), reference);
  flows.release(reference);
}

template <typename F>
void note_moved(WorkerCore& core, const DsrFlows<F>& flows, uint32_t reference) {
  moved_of(core, flows)[reference] = true;
  ++core.moved_count;
}
template <typename F>
void note_moved(WorkerCore& core, const NatFlows<F>& flows, uint32_t reference) {
  moved_of(core, flows)[reference] = true;
  ++core.moved_count;
}

template <typename F>
FlowKeys keys_of(const WorkerCore& core, const DsrEntry<F>& entry, uint32_t reference) {
  return {reference, hash_of_client_side(core, entry), 0};
}
template <typename F>
FlowKeys keys_of(const WorkerCore& core, const NatEntry<F>& entry, uint32_t reference) {
  return {reference, hash_of_client_side(core, entry), hash_of_backend_side(core, entry)};
}

template <typename F>
std::optional<FlowLoss> index_flow(WorkerCore& core, DsrFlows<F>& flows, const FlowKeys& keys) {
  const DsrEntry<F>& entry = flows[keys.reference];
  if (find_client_side(flows, entry, keys) != 0) return FlowLoss::duplicate;
  if (!flows.insert_key(keys.client_side, keys.reference)) return FlowLoss::no_room;
  count_with_source(core, entry);
  return std::nullopt;
}

template <typename F>
std::optional<FlowLoss> index_flow(WorkerCore& core, NatFlows<F>& flows, const FlowKeys& keys) {
  const NatEntry<F>& entry = flows[keys.reference];
  const uint32_t user = flows.find(keys.backend_side, 0, [&](const NatEntry<F>& e) {
    return e.is_from_backend(entry.backend_address, entry.backend_port, entry.nat, entry.nat_port);
  });
  if (user != 0 || find_client_side(flows, entry, keys) != 0) return FlowLoss::duplicate;
  if (!flows.insert_key(keys.client_side, keys.reference)) return FlowLoss::no_room;
  if (!flows.insert_key(keys.backend_side, keys.reference)) {
    flows.erase_key(keys.client_side, keys.reference);
    return FlowLoss::no_room;
  }
  count_with_source(core, entry);
  count_port(core, flows, entry);
  return std::nullopt;
}

#define PORTICO_FOR_FAMILY(F)                                                              \
  template bool is_expired(const WorkerCore&, const DsrEntry<F>&);                         \
  template bool is_expired(const WorkerCore&, const NatEntry<F>&);                         \
  template uint32_t insert_flow(WorkerCore&, DsrFlows<F>&, const DsrEntry<F>&);            \
  template uint32_t insert_flow(WorkerCore&, NatFlows<F>&, const NatEntry<F>&);            \
  template uint32_t replace_flow(WorkerCore&, NatFlows<F>&, uint32_t, const NatEntry<F>&); \
  template bool make_room(WorkerCore&, NatFlows<F>&, uint32_t);                            \
  template bool evict_half_open(WorkerCore&, NatFlows<F>&, uint32_t);                      \
  template void erase_flow(WorkerCore&, DsrFlows<F>&, uint32_t);                           \
  template void erase_flow(WorkerCore&, NatFlows<F>&, uint32_t);                           \
  template void note_moved(WorkerCore&, const DsrFlows<F>&, uint32_t);                     \
  template void note_moved(WorkerCore&, const NatFlows<F>&, uint32_t);                     \
  template FlowKeys keys_of(const WorkerCore&, const DsrEntry<F>&, uint32_t);              \
  template FlowKeys keys_of(const WorkerCore&, const NatEntry<F>&, uint32_t);              \
  template std::optional<FlowLoss> index_flow(WorkerCore&, DsrFlows<F>&, const FlowKeys&); \
  template std::optional<FlowLoss> index_flow(WorkerCore&, NatFlows<F>&, const FlowKeys&);
PORTICO_FOR_FAMILY(V4)
PORTICO_FOR_FAMILY(V6)
#undef PORTICO_FOR_FAMILY

}  // namespace portico
