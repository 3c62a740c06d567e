// SPDX-License-Identifier: Apache-2.0
#include "dataplane/source_limits.h"

#include <algorithm>
#include <tuple>

#include "dataplane/new_entry.h"
#include "dataplane/stages.h"

namespace portico {

void SourceLimits::follow(uint32_t version) {
  if (version == version_) return;
  version_ = version;
  std::fill(buckets_.begin(), buckets_.end(), Bucket{});
}

SourceLimits::Cell& SourceLimits::claim(uint64_t hash, uint64_t now) {
  Bucket& bucket = bucket_of(hash);
  const uint32_t tag = tag_of(hash);
  for (Cell& cell : bucket.cells)
    if (cell.tag == tag) return cell;
  // What is free has no connections and all its tokens: the least of all.
  const auto weight = [now](const Cell& cell) { return std::tuple(cell.flows, std::max(cell.due, now)); };
  Cell& least = *std::min_element(std::begin(bucket.cells), std::end(bucket.cells),
                                  [&](const Cell& a, const Cell& b) { return weight(a) < weight(b); });
  least = {now, tag, 0};
  return least;
}

SourceVerdict SourceLimits::take(uint64_t hash, const SourceShare& share, uint64_t now) {
  Cell& cell = claim(hash, now);
  if (share.flows != 0 && cell.flows >= share.flows) return SourceVerdict::too_many;
  if (share.period == 0) return SourceVerdict::pass;
  const uint64_t due = std::max(cell.due, now);
  if (due - now > (share.burst - 1) * share.period) return SourceVerdict::too_fast;
  cell.due = due + share.period;
  return SourceVerdict::pass;
}

void SourceLimits::remove(uint64_t hash) {
  for (Cell& cell : bucket_of(hash).cells)
    if (cell.tag == tag_of(hash) && cell.flows > 0) --cell.flows;
}

uint32_t SourceLimits::flows(uint64_t hash) const {
  for (const Cell& cell : bucket_of(hash).cells)
    if (cell.tag == tag_of(hash)) return cell.flows;
  return 0;
}

namespace {

// The counts as the table in use wants them; null: it needs none.
SourceLimits* limits_of(WorkerCore& core, bool is_counted) {
  SourceLimits* const limits = core.source_limits.load(std::memory_order_acquire);
  if (limits == nullptr || !is_counted) return nullptr;
  limits->follow(core.table->limits_version());
  return limits;
}

uint32_t prefix_of(uint32_t client, const TableService& service) {
  return client & htonl(~uint32_t{0} << (32 - service.source_prefix_v4));
}
std::array<uint64_t, 2> prefix_of(const std::array<uint64_t, 2>& client, const TableService& service) {
  const uint32_t bits = service.source_prefix_v6;
  const auto mask = [](uint32_t n) { return n == 0 ? 0 : htobe64(~uint64_t{0} << (64 - n)); };
  return {client[0] & mask(std::min(bits, 64u)), client[1] & mask(bits > 64 ? bits - 64 : 0)};
}

template <typename F>
uint64_t source_hash(const WorkerCore& core, uint16_t service, const typename F::Ip& client) {
  return F::hash(core.flow_key, prefix_of(client, core.table->service(service)), service, {}, 0);
}

// Each worker gives a source its part: connections come to all of them alike.
SourceShare share_of(const WorkerCore& core, const TableService& service) {
  const uint32_t workers = core.config.worker_count;
  const auto part = [workers](uint32_t whole) { return (whole + workers - 1) / workers; };
  return {service.source_rate == 0 ? 0 : core.config.tsc_hz * workers / service.source_rate,
          part(service.source_burst), part(service.source_flows)};
}

}  // namespace

template <typename F>
bool is_within_limits(WorkerCore& core, Packet& p) {
  const TableService& service = core.table->service(p.service);
  SourceLimits* const limits = limits_of(core, service.limits_sources != 0);
  if (limits == nullptr) return true;
  const uint64_t source = source_hash<F>(core, p.service, source_of<F>(p.l3));
  const SourceVerdict verdict = limits->take(source, share_of(core, service), core.cycles);
  if (verdict == SourceVerdict::pass) return true;
  bump(core.counters.services[p.service].source_limited);
  drop(core, p.mbuf,
       verdict == SourceVerdict::too_fast ? DropReason::source_too_fast : DropReason::source_too_many);
  return false;
}

namespace {

template <typename Function>
void of_limited(WorkerCore& core, uint16_t service, const Function& f) {
  SourceLimits* const limits = limits_of(core, core.table->service(service).source_flows != 0);
  if (limits != nullptr) f(*limits);
}

}  // namespace

template <typename F>
void count_source(WorkerCore& core, uint16_t service, const typename F::Ip& client) {
  of_limited(core, service,
             [&](SourceLimits& limits) { limits.add(source_hash<F>(core, service, client), core.cycles); });
}

template <typename F>
void uncount_source(WorkerCore& core, uint16_t service, const typename F::Ip& client) {
  of_limited(core, service,
             [&](SourceLimits& limits) { limits.remove(source_hash<F>(core, service, client)); });
}

void prepare_source_limits(WorkerCore& core, const Table& table) {
  if (!table.limits_sources() || core.source_limits_owner != nullptr) return;
  core.source_limits_owner = std::make_unique<SourceLimits>();
  core.source_limits.store(core.source_limits_owner.get(), std::memory_order_release);
}

template bool is_within_limits<V4>(WorkerCore&, Packet&);
template bool is_within_limits<V6>(WorkerCore&, Packet&);
template void count_source<V4>(WorkerCore&, uint16_t, const V4::Ip&);
template void count_source<V6>(WorkerCore&, uint16_t, const V6::Ip&);
template void uncount_source<V4>(WorkerCore&, uint16_t, const V4::Ip&);
template void uncount_source<V6>(WorkerCore&, uint16_t, const V6::Ip&);

}  // namespace portico
