// SPDX-License-Identifier: Apache-2.0
#include "dataplane/take_over.h"

#include <algorithm>
#include <array>
#include <vector>

#include "dataplane/nat_deltas.h"
#include "dataplane/stages.h"

namespace portico {

namespace {

// Entries whose buckets are fetched while others are judged.
constexpr uint32_t kBatch = 32;

template <typename Entry>
std::optional<FlowLoss> common_objection(const WorkerCore& core, const Entry& e,
                                         const std::bitset<kMaxBackends>& same_backends) {
  if (e.service >= kMaxServices || e.backend >= kMaxBackends || e.client_port == 0 || e.vip_port == 0)
    return FlowLoss::torn;
  if (is_expired(core, e)) return FlowLoss::expired;
  if (!same_backends[e.backend]) return FlowLoss::unknown_backend;
  if (core.table->find_service(e.vip, e.vip_port) != e.service) return FlowLoss::unknown_service;
  return std::nullopt;
}

// Whether an entry of another shape's table, that of worker `had_it`, is this worker's. A NAT port has its
// owner; the rest may be anywhere, since whoever gets such a flow's packets looks up where it is: where it
// was, or spread over another number of workers.
template <typename F>
bool is_mine(const WorkerCore& core, const DsrEntry<F>&, uint64_t hash, uint32_t had_it) {
  const uint32_t workers = core.config.worker_count;
  const bool may_stay = core.config.store->earlier_workers() == workers;
  return (may_stay ? had_it : (hash >> 32) % workers) == core.config.index;
}
template <typename F>
bool is_mine(const WorkerCore& core, const NatEntry<F>& e, uint64_t, uint32_t) {
  const uint32_t owner = owner_of(core, e);
  // One that nobody owns is the first worker's to count.
  return (owner == core.config.worker_count ? 0 : owner) == core.config.index;
}

// What only the process before could use.
template <typename F>
void forget_past(DsrEntry<F>&) {}
template <typename F>
void forget_past(NatEntry<F>& e) {
  e.return_version = 0;
  e.older = e.newer = 0;
  if (e.vitals.state() != FlowState::syn) e.is_half_open = 0;
}

void count_loss(WorkerCore& core, FlowLoss loss) {
  bump(core.counters.flows_lost[static_cast<uint32_t>(loss)]);
}

// References of half-open flows that have been taken up.
using HalfOpen = std::vector<uint32_t>;

template <typename F>
void note_half_open(DsrFlows<F>&, uint32_t, HalfOpen&) {}
template <typename F>
void note_half_open(NatFlows<F>& flows, uint32_t reference, HalfOpen& half_open) {
  if (!flows[reference].is_half_open) return;
  flows[reference].is_half_open = 0;
  half_open.push_back(reference);
}

// Lists them in the order of their age, as they were.
template <typename F>
void link_half_open_flows(WorkerCore&, DsrFlows<F>&, HalfOpen&) {}
template <typename F>
void link_half_open_flows(WorkerCore& core, NatFlows<F>& flows, HalfOpen& half_open) {
  const auto silence = [&](uint32_t r) { return ticks_since(core.now, flows[r].vitals.seen()); };
  std::stable_sort(half_open.begin(), half_open.end(),
                   [&](uint32_t a, uint32_t b) { return silence(a) > silence(b); });
  for (const uint32_t r : half_open) flows.link_half_open(r);
}

template <typename Flows>
void index_all(WorkerCore& core, Flows& flows, std::span<const FlowKeys> batch, HalfOpen& half_open) {
  for (const FlowKeys& keys : batch) {
    if (const auto loss = index_flow(core, flows, keys)) {
      count_loss(core, *loss);
      flows.release(keys.reference);
    } else {
      bump(core.counters.flows_kept);
      note_half_open(flows, keys.reference, half_open);
    }
  }
}

}  // namespace

template <typename F>
std::optional<FlowLoss> objection_to(const WorkerCore& core, const DsrEntry<F>& e,
                                     const std::bitset<kMaxBackends>& same_backends) {
  return common_objection(core, e, same_backends);
}

template <typename F>
std::optional<FlowLoss> objection_to(const WorkerCore& core, const NatEntry<F>& e,
                                     const std::bitset<kMaxBackends>& same_backends) {
  if (deltas_of(e) != NatDeltas{e.address_delta, e.tcp_delta} || e.nat_port == 0 || e.backend_port == 0 ||
      e.is_half_open > 1 || e.is_answered > 1 || e.reset_by_client > 1)
    return FlowLoss::torn;
  if (const auto objection = common_objection(core, e, same_backends)) return objection;
  if (e.shows_client() != (core.table->service(e.service).mode == Mode::dnat))
    return FlowLoss::unknown_service;
  if (owner_of(core, e) != core.config.index) return FlowLoss::foreign_port;
  return std::nullopt;
}

namespace {

// From the last entry to the first, so that the free list gives the first ones first.
template <typename Flows>
void take_up(WorkerCore& core, Flows& flows, const std::bitset<kMaxBackends>& same_backends,
             HalfOpen& half_open) {
  std::array<FlowKeys, kBatch> batch;
  uint32_t count = 0;
  for (uint32_t r = flows.take_up(); r > 0; --r) {
    const bool is_live = flows.is_live(r);
    const auto objection = is_live ? objection_to(core, flows[r], same_backends) : std::nullopt;
    if (objection) count_loss(core, *objection);
    if (!is_live || objection) {
      flows.release(r);
      continue;
    }
    forget_past(flows[r]);
    batch[count] = keys_of(core, flows[r], r);
    flows.index().prefetch(batch[count].client_side);
    flows.index().prefetch(batch[count].backend_side);
    if (++count < kBatch) continue;
    index_all(core, flows, batch, half_open);
    count = 0;
  }
  index_all(core, flows, std::span(batch).first(count), half_open);
}

// Copies those of another table's entries, from its entry 0 on, that are this worker's to have.
template <typename Flows>
void move_in(WorkerCore& core, Flows& flows, const FlowStore::EarlierEntries& earlier,
             const std::bitset<kMaxBackends>& same_backends, HalfOpen& half_open) {
  using Entry = typename Flows::Entry;
  const auto* const before = reinterpret_cast<const Entry*>(earlier.entries.data());
  for (size_t i = 1; i < earlier.entries.size() / sizeof(Entry); ++i) {
    if (before[i].vitals.state() == FlowState::none) continue;
    Entry entry = before[i];
    FlowKeys keys = keys_of(core, entry, 0);
    if (!is_mine(core, entry, keys.client_side, earlier.worker)) continue;
    auto objection = objection_to(core, entry, same_backends);
    if (!objection && (keys.reference = flows.allocate()) == 0) objection = FlowLoss::no_room;
    if (objection) {
      count_loss(core, *objection);
      continue;
    }
    forget_past(entry);
    flows.fill(keys.reference, entry);
    index_all(core, flows, {&keys, 1}, half_open);
  }
}

}  // namespace

template <typename Flows>
std::unique_ptr<Flows> open_flows(WorkerCore& core, FlowKind kind) {
  const WorkerConfig& c = core.config;
  if (c.store == nullptr) return std::make_unique<Flows>(c.flows, c.huge_pages, c.numa_node);
  auto memory = c.store->map(kind, c.index, Flows::entries_size(c.flows), c.numa_node);
  auto flows =
      std::make_unique<Flows>(c.flows, std::move(memory.region), memory.offset, c.huge_pages, c.numa_node);
  const auto earlier = c.store->earlier(kind);
  if (!memory.has_content && earlier.empty()) return flows;
  const auto same = c.store->same_backends(*core.table, Flows::Entry::Family::kFamily);
  HalfOpen half_open;
  if (memory.has_content) take_up(core, *flows, same, half_open);
  for (const auto& file : earlier) move_in(core, *flows, file, same, half_open);
  link_half_open_flows(core, *flows, half_open);
  return flows;
}

template std::optional<FlowLoss> objection_to(const WorkerCore&, const DsrEntry<V4>&,
                                              const std::bitset<kMaxBackends>&);
template std::optional<FlowLoss> objection_to(const WorkerCore&, const NatEntry<V4>&,
                                              const std::bitset<kMaxBackends>&);
template std::optional<FlowLoss> objection_to(const WorkerCore&, const DsrEntry<V6>&,
                                              const std::bitset<kMaxBackends>&);
template std::optional<FlowLoss> objection_to(const WorkerCore&, const NatEntry<V6>&,
                                              const std::bitset<kMaxBackends>&);
template std::unique_ptr<DsrFlows<V4>> open_flows(WorkerCore&, FlowKind);
template std::unique_ptr<NatFlows<V4>> open_flows(WorkerCore&, FlowKind);
template std::unique_ptr<DsrFlows<V6>> open_flows(WorkerCore&, FlowKind);
template std::unique_ptr<NatFlows<V6>> open_flows(WorkerCore&, FlowKind);

}  // namespace portico
