// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker.h"

#include <rte_mbuf.h>

#include <bit>
#include <random>

#include "dataplane/flow_list.h"
#include "dataplane/fragment_table.h"
#include "dataplane/fragments.h"
#include "dataplane/plain_lanes.h"
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

void forward_others(WorkerCore& core, Packet& packet) {
  packet.is_v6 ? forward_of<V6>(core, packet) : forward_of<V4>(core, packet);
}

[[gnu::always_inline]] inline PlainPacket plain_at(const WorkerCore& core, uint32_t i) {
  return {core.mbufs[i], core.look.frames[i] + kPlainL2Size, core.columns.candidates[i], core.look.lengths[i],
          core.columns.services[i]};
}

// The burst's plain SYNs on a way that has openings.
uint64_t openings_of(const WorkerCore& core) {
  return core.look.syns & core.columns.openable();
}

// Works out what the burst's new flows need, in two steps around the search for known ones: the first has
// time for its own work while lines of the index come, and fetches what the second needs.
[[gnu::noinline]] void choose_slots(WorkerCore& core) {
  PlainOpening opening(core);
  for_each_bit(openings_of(core), [&](uint32_t i) { opening.choose(i, plain_at(core, i)); });
}

void hash_replies(WorkerCore& core, uint64_t packets, const FlowIndex& index, bool are_far) {
  OpeningColumns& o = core.openings;
  const IndexHasherV4 hasher(core.flow_key);
  if (core.has_avx512) return hash_replies_by_avx512(o, packets, hasher, index, are_far);
  for_each_bit(packets, [&](uint32_t i) {
    o.reply_hashes[i] = hasher(o.reply_sources[i], o.reply_destinations[i], o.reply_ports[i]);
    o.reply_buckets[i] = index.bucket_of(o.reply_hashes[i]);
    o.reply_tags[i] = index.tag(o.reply_hashes[i]);
    are_far ? FlowIndex::prefetch(o.reply_buckets[i]) : FlowIndex::prefetch_near(o.reply_buckets[i]);
  });
}

// Returns those whose tags have been seen.
uint64_t find_places(const WorkerCore& core, const std::array<const FlowIndex::Bucket*, kBurstSize>& buckets,
                     const std::array<uint32_t, kBurstSize>& tags, uint64_t packets, const FlowIndex& index,
                     std::array<uint32_t*, kBurstSize>& places) {
  if (core.has_avx512) return find_places_by_avx512(buckets, tags, packets, index, places);
  uint64_t seen = 0;
  for_each_bit(packets, [&](uint32_t i) {
    places[i] = index.place_of_new(*buckets[i], tags[i]);
    if (places[i] == nullptr) seen |= uint64_t{index.candidate(*buckets[i], tags[i]) != 0} << i;
  });
  return seen;
}

[[gnu::noinline]] void plan_openings(WorkerCore& core, bool are_far) {
  PlainOpening opening(core);
  OpeningColumns& o = core.openings;
  const uint64_t nat = core.columns.of_path(Path::nat_in);
  uint64_t planned = 0;
  for_each_bit(openings_of(core), [&](uint32_t i) {
    planned |= uint64_t{opening.plan(i, plain_at(core, i), (nat >> i) & 1)} << i;
  });
  if ((planned & ~nat) != 0) {
    const FlowIndex& index = core.v4.dsr.load(std::memory_order_relaxed)->index();
    o.dsr_erasures = index.erasures();
    find_places(core, core.columns.buckets, core.columns.tags, planned & ~nat, index, o.places);
  }
  if ((planned & nat) == 0) return;
  const FlowIndex& index = core.v4.nat.load(std::memory_order_relaxed)->index();
  o.nat_erasures = index.erasures();
  hash_replies(core, planned & nat, index, are_far);
  find_places(core, core.columns.buckets, core.columns.tags, planned & nat, index, o.places);
  const uint64_t taken =
      find_places(core, o.reply_buckets, o.reply_tags, planned & nat, index, o.reply_places);
  o.has_port = planned & nat;
  for_each_bit(taken, [&](uint32_t i) { o.has_port ^= uint64_t{!opening.plan_anew(i)} << i; });
}

// Forwards IPv6 packets [begin, end) of shape `later`, as far as they come without any other. Returns the
// first that does not go a short way.
template <bool kAreFar>
[[gnu::noinline]] uint32_t forward_plain_v6(WorkerCore& core, uint32_t begin, uint32_t end) {
  PlainPath<V6> v6(core);
  for (uint32_t i = begin; i < end; ++i) {
    if constexpr (kAreFar) __builtin_prefetch(core.entries[i + kEntriesAhead], 1);
    const Packet& p = core.packets[i];
    const PlainPacket plain{p.mbuf, p.l3, p.candidate, p.ip_length, p.service};
    const bool is_done = p.shape == Shape::later && p.is_v6 &&
                         (p.path == Path::dsr       ? v6.dsr(plain)
                          : p.path == Path::tunnel  ? v6.ipip(plain)
                          : p.path == Path::nat_in  ? v6.nat_in(plain)
                          : p.path == Path::nat_out ? v6.nat_out(plain)
                                                    : false);
    if (!is_done) return i;
  }
  return end;
}

// Those of a burst that go one short way.
struct ShortWays {
  explicit ShortWays(const WorkerCore& core)
      : dsr(core.look.acks & core.columns.of_path(Path::dsr)),
        tunnel(core.look.acks & core.columns.of_path(Path::tunnel)),
        nat_in(core.look.acks & core.columns.of_path(Path::nat_in)),
        nat_out(core.look.acks & core.columns.of_path(Path::nat_out)),
        openings(core.look.syns & core.columns.openable()),
        nat(core.columns.of_path(Path::nat_in)),
        plain(core.columns.known()) {}
  const uint64_t dsr, tunnel, nat_in, nat_out, openings;
  const uint64_t nat;    // of the openings
  const uint64_t plain;  // on any way, short or not
};

// Where a run of packets ends, and whether because packet `at` has been tried in vain: never again, since the
// attempt may have left its mark on what was planned for it.
struct Stop {
  uint32_t at;
  bool is_failure;
};

// Packets from `begin` on, as long as they are of `way` and forward(i) says true.
template <bool kAreFar, typename Function>
[[gnu::always_inline]] inline Stop run_along(const WorkerCore& core, uint64_t way, uint32_t begin,
                                             const Function& forward) {
  const uint32_t end = begin + static_cast<uint32_t>(std::countr_one(way >> begin));
  uint32_t i = begin;
  for (; i < end; ++i) {
    if constexpr (kAreFar) __builtin_prefetch(core.entries[i + kEntriesAhead], 1);
    if (!forward(i)) return {i, true};
  }
  return {i, false};
}

// Forwards packets from `begin` on that go one short way.
template <bool kAreFar>
[[gnu::always_inline]] inline Stop forward_plain(WorkerCore& core, const ShortWays& ways, PlainPath<V4>& v4,
                                                 PlainOpening& opening, uint32_t begin, uint32_t n) {
  const uint64_t bit = uint64_t{1} << begin;
  if (ways.dsr & bit)
    return run_along<kAreFar>(core, ways.dsr, begin, [&](uint32_t i) { return v4.dsr(plain_at(core, i)); });
  if (ways.nat_in & bit)
    return run_along<kAreFar>(core, ways.nat_in, begin,
                              [&](uint32_t i) { return v4.nat_in(plain_at(core, i)); });
  if (ways.nat_out & bit)
    return run_along<kAreFar>(core, ways.nat_out, begin,
                              [&](uint32_t i) { return v4.nat_out(plain_at(core, i)); });
  if (ways.tunnel & bit)
    return run_along<kAreFar>(core, ways.tunnel, begin,
                              [&](uint32_t i) { return v4.ipip(plain_at(core, i)); });
  if (ways.openings & bit)
    return run_along<kAreFar>(core, ways.openings, begin, [&](uint32_t i) {
      return opening.open(i, plain_at(core, i), (ways.nat >> i) & 1);
    });
  if (ways.plain & bit) return {begin, true};
  const Packet& packet = core.packets[begin];
  if (packet.shape != Shape::later || !packet.is_v6) return {begin, true};
  const auto others = static_cast<uint32_t>(std::countr_zero(ways.plain >> begin));
  const uint32_t end = std::min(n, begin + others);
  const uint32_t at = forward_plain_v6<kAreFar>(core, begin, end);
  return {at, at < end};
}

[[gnu::noinline]] void forward_otherwise(WorkerCore& core, const ShortWays& ways, uint32_t i,
                                         bool was_handed_over) {
  if ((ways.plain >> i) & 1) fill_plain(core, i, was_handed_over);
  forward_others(core, core.packets[i]);
}

template <bool kAreFar>
[[gnu::noinline]] void forward_burst(WorkerCore& core, uint32_t n, bool were_handed_over) {
  const ShortWays ways(core);
  PlainPath<V4> v4(core);
  PlainOpening opening(core);
  uint32_t otherwise = 0;
  for (uint32_t i = 0; i < n;) {
    const Stop stop = forward_plain<kAreFar>(core, ways, v4, opening, i, n);
    i = stop.at;
    if (!stop.is_failure) continue;
    forward_otherwise(core, ways, i, were_handed_over);
    ++otherwise;
    ++i;
  }
  bump(core.counters.forwarded, n - otherwise);
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
  if (core.config.stages != nullptr) core.config.stages->begin();
  core.openings.has_port = 0;
  if (core.config.short_ways) {
    classify_burst(core, mbufs, n, were_handed_over, are_far);
    if (core.look.syns != 0) choose_slots(core);
    end_stage(core, Stage::slots);
    find_candidates(core, n, are_far);
    end_stage(core, Stage::candidates);
    if (core.look.syns != 0) plan_openings(core, are_far);
    end_stage(core, Stage::openings);
    are_far ? forward_burst<true>(core, n, were_handed_over)
            : forward_burst<false>(core, n, were_handed_over);
  } else {
    // NAT ports go by what is planned for the burst, whichever way its packets take.
    look_ahead(core, mbufs, n);
    if (core.look.syns != 0) choose_slots(core);
    if (core.look.syns != 0) plan_openings(core, are_far);
    classify_generally(core, mbufs, n, were_handed_over);
    for (uint32_t i = 0; i < n; ++i) forward_others(core, core.packets[i]);
  }
  end_stage(core, Stage::forward);
  free_dropped(core);
}

// What has become whole goes the way of what other workers hand over.
[[gnu::noinline]] void process_wholes(WorkerCore& core) {
  std::array<rte_mbuf*, kBurstSize> wholes = core.wholes;
  run_stages(core, wholes.data(), std::exchange(core.whole_count, 0), true);
}

void process_burst(WorkerCore& core, rte_mbuf** mbufs, uint32_t n, const Table* table, uint64_t now,
                   bool were_handed_over) {
  if (table == nullptr) {
    for (uint32_t i = 0; i < n; ++i) drop(core, mbufs[i], DropReason::no_table);
    return free_dropped(core);
  }
  begin(core, *table, now);
  run_stages(core, mbufs, n, were_handed_over);
  if (core.whole_count != 0) process_wholes(core);
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

void prepare_fragments(WorkerCore& core, const Table& table) {
  const bool are_wanted = table.settings().fragments == static_cast<uint8_t>(Fragments::reassemble);
  if (!are_wanted || core.fragments_owner != nullptr || core.config.pool == nullptr) return;
  core.fragments_owner = std::make_unique<FragmentTable>(core.config.pool);
  core.fragments.store(core.fragments_owner.get(), std::memory_order_release);
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
      evictions(c.tsc_hz),
      answers(c.tsc_hz),
      sweep_resets(c.tsc_hz),
      icmp_rounds(c.tsc_hz),
      whole_rounds(c.tsc_hz),
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
  prepare_fragments(*core_, table);
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
  expire_fragments(*core_);
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

bool Worker::is_captured(const CaptureFilter& filter, const Table& table,
                         std::span<const uint8_t> frame) const {
  return portico::is_captured(*core_, table, filter, frame);
}

void Worker::answer_mailbox(const Table& table, uint64_t now) {
  if (const ExplainQuery* query = core_->mailbox.pending())
    core_->mailbox.answer(explain(*query, table, now));
}

void Worker::look_through(FlowWalk& walk, uint64_t now) const {
  go_on(walk, *core_, now);
}

ExplainMailbox& Worker::mailbox() {
  return core_->mailbox;
}

}  // namespace portico
