// SPDX-License-Identifier: Apache-2.0
// Which backends leave SYNs unanswered. A flow is in its backend's list of half-open ones from its SYN to the
// client's proof anyhow, oldest first: looking at the old end costs packets nothing.
#include <algorithm>

#include "dataplane/stages.h"

namespace portico {

namespace {

// Far above what a local network and a busy host take, far below the second after which clients repeat a SYN
// (RFC 6298).
constexpr uint32_t kAnswerTicks = 200 / kTickMs + 1;
// Per call: lists looked at, and flows judged. A flood's flows are judged about as fast as they come.
constexpr uint32_t kMostLists = 512, kMostFlows = 64;

// Judges the list's flows from the oldest on. Returns how many.
template <typename F>
uint32_t judge(WorkerCore& core, NatFlows<F>& flows, uint32_t list, uint32_t most) {
  uint32_t n = 0;
  for (uint32_t reference = flows.unjudged(list); reference != 0 && n < most; ++n) {
    const NatEntry<F>& entry = flows[reference];
    if (!entry.is_answered) {
      if (ticks_since(core.now, entry.vitals.seen()) < kAnswerTicks) break;
      bump(core.counters.backends[entry.backend].syns_unanswered);
    }
    flows.pass_judgement(reference);
    reference = flows.unjudged(list);
  }
  return n;
}

// A pass over all lists begins with each tick.
template <typename F>
void judge_table(WorkerCore& core, FlowSet<F>& set) {
  JudgeHand& hand = set.judge_hand;
  NatFlows<F>* const flows = set.nat.load(std::memory_order_acquire);
  if (hand.tick == core.now || flows == nullptr) return;
  const uint32_t end = std::min(flows->lists_linked(), hand.list + kMostLists);
  uint32_t left = kMostFlows;
  for (; hand.list < end; ++hand.list) {
    left -= judge(core, *flows, hand.list, left);
    if (left == 0) return;
  }
  if (hand.list < flows->lists_linked()) return;
  hand.list = 0;
  hand.tick = core.now;
}

}  // namespace

void judge_half_open(WorkerCore& core) {
  judge_table(core, core.v4);
  judge_table(core, core.v6);
}

}  // namespace portico
