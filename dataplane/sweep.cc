// SPDX-License-Identifier: Apache-2.0
// Walks the flow tables, a few entries per turn: the silent expire, and those whose backend went down or
// whose service went away are reset, since a client that waits for an answer never sends another packet.
#include <algorithm>

#include "dataplane/stages.h"

namespace portico {

namespace {

// A whole pass takes this long, or a tenth of it while flows may have to be reset.
constexpr uint64_t kPassMs = 2000, kHurriedPassMs = 200;
// So long after a change of the table a hurried pass waits for a neighbour's answer; then it is likely gone
// for good, and ordinary passes will do.
constexpr uint32_t kResolveTicks = 3000 / kTickMs;
// After this long, or at once if the client never took the flow up, the flow ends without the client's
// knowing: it shall not hold its NAT port and the backend's socket.
constexpr uint32_t kGiveUpTicks = 10000 / kTickMs;
// Per call and table, so that packets do not wait long for a sweep.
constexpr uint32_t kMostVisits = 512;
// A flow's reset makes two packets at most.
constexpr uint32_t kPacketsPerReset = 2;

template <typename F>
bool is_gone(const WorkerCore& core, const DsrEntry<F>& e) {
  const Table& table = *core.table;
  return table.find_service(e.vip, e.vip_port) != e.service ||
         must_reset(table.backend(e.backend), e.vip_port);
}

template <typename F>
bool is_gone(const WorkerCore& core, const NatEntry<F>& e) {
  const Table& table = *core.table;
  const TableBackend& backend = table.backend(e.backend);
  if (must_reset(backend, e.backend_port) || e.backend_address != address_of<F>(backend)) return true;
  if (table.find_service(e.vip, e.vip_port) != e.service) return true;
  if (e.shows_client() != (table.service(e.service).mode == Mode::dnat)) return true;
  // Replies to a port that the range has no more, or that is another worker's now, do not come here.
  return owner_of(core, e) != core.config.index;
}

// Forgets a next hop of other routes, so that none is left when the version has gone round.
template <typename F>
void forget_old_hop(const Table&, DsrEntry<F>&) {}
template <typename F>
void forget_old_hop(const Table& table, NatEntry<F>& e) {
  if (e.return_version != table.route_version()) e.return_version = 0;
}

enum class Visit : uint8_t {
  done,
  put_off,  // for the next, hurried pass
  left,     // for the next pass
};

// `may_be_gone`: what the flow stands for may have changed since it was visited last. Else its look-ups,
// misses mostly, are saved.
template <typename Flows>
Visit visit(WorkerCore& core, Flows& flows, uint32_t reference, bool may_be_gone) {
  if (!flows.is_live(reference)) return Visit::done;
  auto& entry = flows[reference];
  const FlowState state = entry.vitals.state();
  forget_old_hop(*core.table, entry);
  if (is_expired(core, entry)) {
    erase_flow(core, flows, reference);
  } else if (may_be_gone && state != FlowState::dead && is_gone(core, entry)) {
    if (is_closed(state) || is_guessed(entry)) {
      erase_flow(core, flows, reference);
    } else {
      const ResetOutcome outcome = reset_flow(core, flows, reference);
      const uint32_t waited = ticks_since(core.now, core.swept_since);
      if (outcome == ResetOutcome::put_off || (outcome == ResetOutcome::no_way && waited < kResolveTicks))
        return Visit::put_off;
      if (outcome == ResetOutcome::done) return Visit::done;
      if (waited < kGiveUpTicks && state != FlowState::syn) return Visit::left;
      bury(core, flows, reference);
    }
  }
  return Visit::done;
}

// When no worker has a flow any more that others may ask for, nobody asks. What was on its way to a worker
// then has come by the end of this time; until then SYNs are given back still.
constexpr uint32_t kMovedTicks = 2000 / kTickMs;

void see_to_moved(WorkerCore& core) {
  if (core.moved == nullptr) return;
  if (core.holds_moved != (core.moved_count > 0)) {
    core.holds_moved = core.moved_count > 0;
    core.holds_moved ? core.moved->enter() : core.moved->leave();
  }
  if (!core.moved->is_over())
    core.moved_last_had = core.now;
  else if (ticks_since(core.now, core.moved_last_had) > kMovedTicks)
    core.moved = nullptr;
}

// How many flows the time since the last call asks for.
uint32_t visits_due(const WorkerCore& core, SweepHand& hand, uint32_t flows, uint64_t elapsed) {
  const uint64_t pass_ms = hand.hurry > 0 ? kHurriedPassMs : kPassMs;
  const uint64_t pass = core.clock.cycles_per_tick() * pass_ms / kTickMs;
  hand.credit += elapsed * flows;
  if (hand.credit < pass) return 0;
  const uint64_t due = std::min<uint64_t>({hand.credit / pass, kMostVisits, flows});
  hand.credit = due == hand.credit / pass ? hand.credit % pass : 0;
  return static_cast<uint32_t>(due);
}

template <typename Flows>
void sweep_table(WorkerCore& core, Flows* flows, SweepHand& hand, uint64_t elapsed, uint64_t output_end) {
  if (flows == nullptr || flows->highest() == 0) return;
  for (uint32_t n = visits_due(core, hand, flows->highest(), elapsed); n > 0; --n) {
    if (core.counters.originated + kPacketsPerReset > output_end) return;
    hand.position = hand.position >= flows->highest() ? 1 : hand.position + 1;
    const bool may_be_gone = hand.judge > 0;
    if (hand.hurry > 0) --hand.hurry;
    if (hand.judge > 0) --hand.judge;
    // What was put off wants another pass.
    const Visit outcome = visit(core, *flows, hand.position, may_be_gone);
    if (outcome == Visit::put_off) hand.hurry = flows->highest();
    if (outcome != Visit::done) hand.judge = flows->highest();
  }
}

// Has all flows judged, in a hurry.
template <typename F>
void hurry(FlowSet<F>& set) {
  const auto begin_pass = [](const auto* flows, SweepHand& hand) {
    if (flows != nullptr) hand.hurry = hand.judge = flows->highest();
  };
  begin_pass(set.dsr.load(std::memory_order_acquire), set.dsr_hand);
  begin_pass(set.nat.load(std::memory_order_acquire), set.nat_hand);
}

}  // namespace

void sweep_flows(WorkerCore& core, uint64_t now) {
  const uint64_t second = core.clock.cycles_per_tick() * 1000 / kTickMs;
  const uint64_t elapsed = core.last_sweep == 0 ? 0 : std::min(now - core.last_sweep, second);
  core.last_sweep = now;
  if (core.swept_version != core.table->flow_version()) {
    core.swept_version = core.table->flow_version();
    core.swept_since = core.now;
    hurry(core.v4);
    hurry(core.v6);
  }
  see_to_moved(core);
  judge_half_open(core);
  const uint64_t output_end = core.counters.originated + kSweepOutput;
  repeat_headers(core, core.counters.originated + kSweepOutput / 2);
  const auto sweep = [&](auto* flows, SweepHand& hand) {
    sweep_table(core, flows, hand, elapsed, output_end);
  };
  sweep(core.v4.dsr.load(std::memory_order_acquire), core.v4.dsr_hand);
  sweep(core.v4.nat.load(std::memory_order_acquire), core.v4.nat_hand);
  sweep(core.v6.dsr.load(std::memory_order_acquire), core.v6.dsr_hand);
  sweep(core.v6.nat.load(std::memory_order_acquire), core.v6.nat_hand);
}

}  // namespace portico
