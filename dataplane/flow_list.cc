// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_list.h"

#include "dataplane/core.h"
#include "dataplane/flow_store.h"
#include "dataplane/parameters.h"

namespace portico {

namespace {

// A position is the table's number, as FlowKind, then the reference.
constexpr uint32_t kReferenceBits = 32, kWorkerShift = 40;

// Copies what the worker may be writing, word by word.
template <typename E>
E copy_of(const E& entry) {
  std::array<uint32_t, sizeof(E) / sizeof(uint32_t)> words;
  static_assert(sizeof words == sizeof(E) && alignof(E) % alignof(uint32_t) == 0);
  const auto* from = reinterpret_cast<const uint32_t*>(&entry);
  for (uint32_t& word : words) word = __atomic_load_n(from++, __ATOMIC_RELAXED);
  E copy;
  std::memcpy(static_cast<void*>(&copy), words.data(), sizeof copy);
  return copy;
}

template <typename F>
bool is_same_flow(const DsrEntry<F>& a, const DsrEntry<F>& b) {
  return a.is_from_client(b.client, b.client_port, b.vip, b.vip_port) && a.service == b.service &&
         a.backend == b.backend;
}
template <typename F>
bool is_same_flow(const NatEntry<F>& a, const NatEntry<F>& b) {
  return a.is_from_client(b.client, b.client_port, b.vip, b.vip_port) &&
         a.is_from_backend(b.backend_address, b.backend_port, b.nat, b.nat_port) && a.service == b.service &&
         a.backend == b.backend;
}

template <typename F>
void add_translation(const DsrEntry<F>&, ListedFlow&) {}
template <typename F>
void add_translation(const NatEntry<F>& e, ListedFlow& flow) {
  if (e.shows_client()) return;
  flow.nat = F::address(e.nat);
  flow.nat_port = ntohs(e.nat_port);
}

uint32_t idle_ms(uint32_t now, uint32_t seen) {
  const uint32_t ticks = ticks_since(now, seen);
  return ticks > kTickMask / 2 ? 0 : ticks * kTickMs;  // a packet came while we looked
}

// Whether an entry that was copied twice is a flow that fits.
template <typename E>
bool fits(const FlowFilter& filter, const E& entry, const E& again) {
  using F = typename E::Family;
  if (entry.vitals.state() == FlowState::none || !is_same_flow(entry, again)) return false;
  return (filter.service == kNone || filter.service == entry.service) &&
         (filter.backend == kNone || filter.backend == entry.backend) &&
         (!filter.client || filter.client->contains(F::address(entry.client)));
}

template <typename E>
void list(FlowWalk& walk, const E& e, uint32_t now) {
  using F = typename E::Family;
  ListedFlow flow{.client = F::address(e.client), .vip = F::address(e.vip)};
  flow.client_port = ntohs(e.client_port);
  flow.vip_port = ntohs(e.vip_port);
  flow.service = e.service;
  flow.backend = e.backend;
  flow.state = e.vitals.state();
  flow.is_probationary = e.vitals.probationary();
  flow.idle_ms = idle_ms(now, e.vitals.seen());
  add_translation(e, flow);
  walk.flows.push_back(flow);
}

// Walks through a table from `reference` on. Returns where to go on; 0: it is at its end.
template <typename Flows>
uint32_t walk_table(FlowWalk& walk, uint32_t& visits, const Flows* flows, uint32_t reference, uint32_t now) {
  if (flows == nullptr) return 0;
  for (reference = std::max(reference, 1u); reference <= flows->highest(); ++reference, --visits) {
    if (visits == 0 || (walk.most_flows != 0 && walk.flows.size() >= walk.most_flows)) return reference;
    const auto& entry = (*flows)[reference];
    const auto copy = copy_of(entry);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (!fits(walk.filter, copy, copy_of(entry))) continue;
    ++walk.by_state[static_cast<uint32_t>(copy.vitals.state())];
    if (walk.most_flows != 0) list(walk, copy, now);
  }
  return 0;
}

bool read_id(std::string_view text, uint16_t& id) {
  return text == "-" || (read_number(text, id) && id != kNone);
}

}  // namespace

void go_on(FlowWalk& walk, const WorkerCore& core, uint64_t now) {
  const uint32_t tick = core.clock.tick(now);
  uint32_t visits = walk.most_visits;
  auto reference = static_cast<uint32_t>(walk.at);
  for (uint64_t table = walk.at >> kReferenceBits; table < kFlowKinds; ++table, reference = 0) {
    const auto walk_through = [&](const auto& flows) {
      return walk_table(walk, visits, flows.load(std::memory_order_acquire), reference, tick);
    };
    const uint32_t next = table == 0   ? walk_through(core.v4.dsr)
                          : table == 1 ? walk_through(core.v6.dsr)
                          : table == 2 ? walk_through(core.v4.nat)
                                       : walk_through(core.v6.nat);
    if (next == 0) continue;
    walk.at = table << kReferenceBits | next;
    return;
  }
  walk.is_over = true;
}

std::optional<FlowsQuery> parse_flows_query(std::string_view parameters, std::string& complaint) {
  std::array<std::string_view, 5> parts;
  FlowsQuery query;
  uint64_t cursor = 0;
  if (!split_parameters(parameters, parts)) {
    complaint = "takes five parameters: service id, backend id, client prefix, count, cursor; - for any";
  } else if (!read_id(parts[0], query.filter.service) || !read_id(parts[1], query.filter.backend)) {
    complaint = "ids are 0 to 65534, or -";
  } else if (parts[2] != "-" && !(query.filter.client = Prefix::parse(parts[2]))) {
    complaint = "the client is no prefix";
  } else if (!read_number(parts[3], query.count)) {
    complaint = "the count is no number";
  } else if (!read_number(parts[4], cursor)) {
    complaint = "the cursor is none that an answer named";
  } else {
    query.worker = static_cast<uint32_t>(cursor >> kWorkerShift);
    query.at = cursor & ((uint64_t{1} << kWorkerShift) - 1);
    return query;
  }
  return std::nullopt;
}

uint64_t flows_cursor(uint32_t worker, uint64_t at) {
  return uint64_t{worker} << kWorkerShift | at;
}

}  // namespace portico
