// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker.h"

#include <rte_mbuf.h>

#include <bit>
#include <random>

#include "dataplane/plain_opening.h"
#include "dataplane/proxy.h"
#include "dataplane/source_limits.h"
#include "dataplane/stages.h"
#include "dataplane/take_over.h"

namespace portico {

namespace {

HashKey random_key() {
  std::random_device source;
  const auto word = [&source] { return (uint64_t{source()} << 32) | source(); };
  return {{word(), word()}};
}

template <typename F>
void forward_of(WorkerCore& core, Packet& packet) {
  switch (packet.path) {
    case Path::done:
      return;
    case Path::dsr:
    case Path::tunnel:
      return forward_dsr<F>(core, packet);
    case Path::nat_in:
      return forward_nat_in<F>(core, packet);
    case Path::nat_out:
      return forward_nat_out<F>(core, packet);
    case Path::icmp:
      return forward_icmp<F>(core, packet);
  }
}

void forward_others(WorkerCore& core, Packet& packet, bool was_handed_over) {
  if (packet.is_bare) complete(packet, was_handed_over);
  packet.is_v6 ? forward_of<V6>(core, packet) : forward_of<V4>(core, packet);
}

// Calls f(packet, opening) for the burst's plain SYNs.
template <typename Function>
void for_each_opening(WorkerCore& core, const Function& f) {
  for (uint64_t syns = core.look.syns; syns != 0; syns &= syns - 1) {
    const auto i = static_cast<uint32_t>(std::countr_zero(syns));
    if (core.packets[i].is_bare) f(core.packets[i], core.openings[i]);
  }
}

// Works out what the burst's new flows need, in two steps around the search for known ones: the first has
// time for its own work while lines of the index come, and fetches what the second needs.
[[gnu::noinline]] void choose_slots(WorkerCore& core) {
  PlainOpening opening(core);
  for_each_opening(core, [&](const Packet& p, Opening& o) { opening.choose(p, o); });
}
[[gnu::noinline]] void plan_openings(WorkerCore& core) {
  PlainOpening opening(core);
  PlainOpening::Planned planned{};
  for_each_opening(core, [&](const Packet& p, Opening& o) { opening.plan(p, o, planned); });
}

// True: forwarded on a short way.
[[gnu::always_inline]] inline bool forward_plain(WorkerCore& core, PlainPath<V4>& v4, PlainOpening& opening,
                                                 uint32_t i) {
  const Packet& packet = core.packets[i];
  if (packet.shape == Shape::later) {
    if (packet.is_bare || !packet.is_v6) return v4.forward(packet, packet.l3);
    return PlainPath<V6>(core).forward(packet, packet.l3);
  }
  return packet.shape == Shape::opening && packet.is_bare &&
         opening.open(packet, core.openings[i], packet.l3);
}

template <bool kAreFar>
[[gnu::noinline]] void forward_burst(WorkerCore& core, uint32_t n, bool were_handed_over) {
  PlainPath<V4> v4(core);
  PlainOpening opening(core);
  uint64_t forwarded = 0;
  for (uint32_t i = 0; i < n; ++i) {
    if constexpr (kAreFar) __builtin_prefetch(core.entries[i + kEntriesAhead], 1);
    if (forward_plain(core, v4, opening, i)) {
      ++forwarded;
    } else {
      forward_others(core, core.packets[i], were_handed_over);
    }
  }
  bump(core.counters.forwarded, forwarded);
}

template <typename Flows>
uint64_t bytes_in_use(const std::atomic<Flows*>& flows) {
  const Flows* const table = flows.load(std::memory_order_acquire);
  return table == nullptr ? 0 : uint64_t{table->highest()} * Flows::kBytesPerFlow;
}
bool are_entries_far(const WorkerCore& core) {
  return bytes_in_use(core.v4.dsr) + bytes_in_use(core.v4.nat) + bytes_in_use(core.v6.dsr) +
             bytes_in_use(core.v6.nat) >
         core.config.near_bytes;
}

// The stages, each over the whole burst, so that the cache misses of one packet overlap those of the others:
// headers, index buckets, entries.
void run_stages(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, bool were_handed_over) {
  const bool are_far = are_entries_far(core);
  if (core.config.short_ways) {
    classify_burst(core, mbufs, n, were_handed_over);
    if (core.look.syns != 0) choose_slots(core);
    find_candidates(core, n, are_far);
    if (core.look.syns != 0) plan_openings(core);
  } else {
    classify_generally(core, mbufs, n, were_handed_over);
  }
  are_far ? forward_burst<true>(core, n, were_handed_over) : forward_burst<false>(core, n, were_handed_over);
  free_dropped(core);
}

void process_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, const Table* table, uint64_t now,
                   bool were_handed_over) {
  if (table == nullptr) {
    for (uint32_t i = 0; i < n; ++i) drop(core, mbufs[i], DropReason::no_table);
    return free_dropped(core);
  }
  begin(core, *table, now);
  run_stages(core, mbufs, n, were_handed_over);
}

template <typename F>
void prepare_family(WorkerCore& core, const Table& table) {
  FlowSet<F>& set = core.set<F>();
  const WorkerConfig& c = core.config;
  constexpr bool is_v6 = F::kFamily == Family::v6;
  if (set.dsr_owner == nullptr && table.uses(Mode::dsr_l2, F::kFamily)) {
    set.dsr_owner = open_flows<typename FlowSet<F>::Dsr>(core, is_v6 ? FlowKind::dsr_v6 : FlowKind::dsr_v4);
    bump(core.counters.flow_capacity, c.flows);
    set.dsr.store(set.dsr_owner.get(), std::memory_order_release);
  }
  if (set.nat_owner == nullptr && table.uses(Mode::nat, F::kFamily)) {
    set.nat_owner = open_flows<typename FlowSet<F>::Nat>(core, is_v6 ? FlowKind::nat_v6 : FlowKind::nat_v4);
    bump(core.counters.flow_capacity, c.flows);
    set.nat.store(set.nat_owner.get(), std::memory_order_release);
  }
}

template <typename Flows>
void list_table(const WorkerCore& core, const Flows* flows, std::vector<MovedFlows::Place>& places) {
  for (uint32_t r = 1; flows != nullptr && r <= flows->highest(); ++r)
    if (flows->is_live(r)) places.push_back({keys_of(core, (*flows)[r], r).client_side, core.config.index});
}
template <typename F>
void list_family(const WorkerCore& core, std::vector<MovedFlows::Place>& places) {
  list_table(core, core.set<F>().dsr_owner.get(), places);
  list_table(core, core.set<F>().nat_owner.get(), places);
}

template <typename Flows>
void note_table(WorkerCore& core, Flows* flows) {
  for (uint32_t r = 1; flows != nullptr && r <= flows->highest(); ++r)
    if (flows->is_live(r)) note_moved(core, *flows, r);
}
template <typename F>
void note_family(WorkerCore& core) {
  FlowSet<F>& set = core.set<F>();
  set.dsr_moved.assign(core.config.flows + 1, false);
  set.nat_moved.assign(core.config.flows + 1, false);
  note_table(core, set.dsr_owner.get());
  note_table(core, set.nat_owner.get());
}

template <typename F>
void add_fullest(const WorkerCore& core, const Table& table, NatFullest& fullest) {
  const auto* const flows = core.set<F>().nat.load(std::memory_order_acquire);
  if (flows == nullptr || !table.uses(Mode::nat, F::kFamily)) return;
  uint64_t ports = 0;
  for (const uint16_t nat : table.nat_of(F::kFamily))
    ports += port_share<F>(table.nat()[nat], core.config).ports();
  const EndpointUse::Fullest found = flows->use().fullest();
  if (fullest.ports == 0 || found.flows * fullest.ports > fullest.used * ports)
    fullest = {found.backend, found.flows, ports};
}

}  // namespace

WorkerCore::WorkerCore(const WorkerConfig& c)
    : config(c),
      clock(c.tsc_hz, c.tick_offset),
      has_avx512(c.vectors && portico::has_avx512()),
      flow_key(c.flow_key           ? *c.flow_key
               : c.store != nullptr ? c.store->flow_key()
                                    : random_key()),
      new_flows(c.tsc_hz),
      answers(c.tsc_hz),
      sweep_resets(c.tsc_hz),
      icmp_rounds(c.tsc_hz),
      too_big(c.tsc_hz),
      claimed_urgent(c.tsc_hz, kClaimedUrgentBurst) {}

WorkerCore::~WorkerCore() = default;

void begin(WorkerCore& core, const Table& table, uint64_t now) {
  core.table = &table;
  core.cycles = now;
  core.now = core.clock.tick(now);
  core.timeouts = table.timeouts();
}

Worker::Worker(const WorkerConfig& config) : core_(std::make_unique<WorkerCore>(config)) {}
Worker::~Worker() {
  empty_waiting_room(*core_);
}

void Worker::prepare(const Table& table, uint64_t now) {
  if (now != 0) begin(*core_, table, now);
  prepare_source_limits(*core_, table);
  prepare_family<V4>(*core_, table);
  prepare_family<V6>(*core_, table);
  prepare_header_timers(*core_, table);
}

void Worker::list_flows(std::vector<MovedFlows::Place>& places) const {
  list_family<V4>(*core_, places);
  list_family<V6>(*core_, places);
}

void Worker::set_moved_flows(std::shared_ptr<const MovedFlows> moved) {
  WorkerCore& core = *core_;
  core.moved_owner = std::move(moved);
  core.moved = core.moved_owner.get();
  core.moved_count = 0;
  core.moved_last_had = core.now;
  note_family<V4>(core);
  note_family<V6>(core);
  core.holds_moved = core.moved_count > 0;
  if (core.holds_moved) core.moved->enter();
}

void Worker::process(rte_mbuf** packets, uint32_t n, const Table* table, uint64_t now) {
  process_burst(*core_, packets, n, table, now, false);
}

void Worker::process_handed_over(rte_mbuf** packets, uint32_t n, const Table* table, uint64_t now) {
  process_burst(*core_, packets, n, table, now, true);
}

void Worker::sweep(const Table& table, uint64_t now) {
  begin(*core_, table, now);
  visit_waiting_room(*core_);
  sweep_flows(*core_, now);
  free_dropped(*core_);
}

Output& Worker::output() {
  return core_->output;
}

void Worker::count_drops(DropReason reason, uint32_t n) {
  bump(core_->counters.drops[static_cast<uint32_t>(reason)], n);
}

const WorkerCounters& Worker::counters() const {
  return core_->counters;
}

NatFullest Worker::nat_fullest(const Table& table) const {
  NatFullest fullest;
  add_fullest<V4>(*core_, table, fullest);
  add_fullest<V6>(*core_, table, fullest);
  return fullest;
}

ResolveQueue& Worker::resolve_queue() {
  return core_->resolve;
}

ExplainAnswer Worker::explain(const ExplainQuery& query, const Table& table, uint64_t now) const {
  return explain_flow(*core_, query, table, core_->clock.tick(now));
}

void Worker::answer_mailbox(const Table& table, uint64_t now) {
  if (const ExplainQuery* query = core_->mailbox.pending())
    core_->mailbox.answer(explain(*query, table, now));
}

ExplainMailbox& Worker::mailbox() {
  return core_->mailbox;
}

}  // namespace portico
