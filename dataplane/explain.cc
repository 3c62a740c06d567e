// SPDX-License-Identifier: Apache-2.0
#include "dataplane/stages.h"

namespace portico {

namespace {

template <typename F>
struct Tuple {
  typename F::Ip client, vip;
  uint16_t client_port, vip_port;  // network byte order
};

template <typename Entry>
void describe(const Entry& entry, uint32_t now, ExplainAnswer& answer) {
  answer.found = true;
  answer.state = is_guessed(entry) ? FlowState::established : entry.vitals.state();
  answer.is_probationary = entry.vitals.probationary();
  answer.idle_ms = ticks_since(now, entry.vitals.seen()) * kTickMs;
  answer.backend = entry.backend;
  if constexpr (Entry::kKeys == 2) {
    answer.nat_address = Entry::Family::address(entry.nat);
    answer.nat_port = ntohs(entry.nat_port);
  }
}

template <typename F, typename Flows>
bool find_flow(const WorkerCore& core, const Flows* flows, const Tuple<F>& t, uint32_t now,
               ExplainAnswer& answer) {
  if (flows == nullptr) return false;
  const uint64_t hash = F::hash(core.flow_key, t.client, t.client_port, t.vip, t.vip_port);
  const uint32_t reference = flows->find(
      hash, 0, [&](const auto& e) { return e.is_from_client(t.client, t.client_port, t.vip, t.vip_port); });
  if (reference != 0) describe((*flows)[reference], now, answer);
  return reference != 0;
}

// What a new flow of the client would get.
template <typename F>
void predict(const Table& table, const TableService& service, const Tuple<F>& t, ExplainAnswer& answer) {
  const TablePool& pool = table.pool(service.pool);
  if (pool.lookup == nullptr) return;
  answer.slot = choose_slot<F>(table, service, t.client, t.client_port, t.vip, t.vip_port);
  if (!answer.found && pool.disposition == PoolDisposition::serve) answer.backend = pool.lookup[answer.slot];
}

// The tunnel to the answer's backend.
template <typename F>
void add_tunnel(const Table& table, const Tuple<F>& t, ExplainAnswer& answer) {
  const TableBackend& b = table.backend(answer.backend);
  const auto family = table.tunnel_family(b, F::kFamily);
  if (!family) return;
  const uint64_t hash = table.slot_hash(t.client, t.client_port, t.vip, t.vip_port);
  const bool is_v4 = family == Family::v4;
  answer.next_hop = is_v4 ? b.next_hop_v4 : b.next_hop_v6;
  answer.tunnel_source = is_v4 ? V4::address(table.tunnel_source<V4>().pick(hash))
                               : V6::address(table.tunnel_source<V6>().pick(hash));
  answer.tunnel_destination = is_v4 ? V4::address(b.address_v4) : V6::address(b.address_v6);
}

template <typename F>
ExplainAnswer explain_of(const WorkerCore& core, const ExplainQuery& q, const Table& table, uint32_t now) {
  const Tuple<F> t{F::from(q.client), F::from(q.vip), htons(q.client_port), htons(q.vip_port)};
  ExplainAnswer answer;
  answer.service = table.find_service(t.vip, t.vip_port);
  if (answer.service == kNone) return answer;
  const TableService& service = table.service(answer.service);
  answer.allowed = table.allows(service.access_list, t.client);
  const auto& set = core.set<F>();
  if (!find_flow<F>(core, set.nat.load(std::memory_order_acquire), t, now, answer))
    find_flow<F>(core, set.dsr.load(std::memory_order_acquire), t, now, answer);
  predict<F>(table, service, t, answer);
  if (translates(service.mode)) answer.return_hop = table.route(t.client).next_hop;
  if (answer.backend != kNone && is_tunnel(service.mode)) {
    add_tunnel<F>(table, t, answer);
  } else if (answer.backend != kNone) {
    const TableBackend& b = table.backend(answer.backend);
    answer.next_hop = F::kFamily == Family::v4 ? b.next_hop_v4 : b.next_hop_v6;
  }
  return answer;
}

}  // namespace

ExplainAnswer explain_flow(const WorkerCore& core, const ExplainQuery& query, const Table& table,
                           uint32_t now) {
  if (query.client.family() != query.vip.family()) return {};
  return query.vip.is_v4() ? explain_of<V4>(core, query, table, now)
                           : explain_of<V6>(core, query, table, now);
}

}  // namespace portico
