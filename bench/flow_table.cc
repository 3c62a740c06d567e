// SPDX-License-Identifier: Apache-2.0
// The flow tables alone, in bursts of 64 as the packet path uses them: the index lines of the whole burst are
// fetched first, then the likely entries, then keys are compared. Flows are taken in random order; hashes are
// worked out outside the timed part. `cycles`: of the TSC, per flow, the median of the bursts. Arguments:
// flows in the table, and how full that makes it in percent.
#include "dataplane/flow_table.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <vector>

#include "bench/burst_watch.h"
#include "dataplane/nat_flows.h"

namespace portico {
namespace {

constexpr HashKey kKey{{0x0123456789abcdef, 0xfedcba9876543210}};
constexpr uint32_t kBurst = 64;

template <typename F>
typename F::Ip address_of(uint32_t number) {
  typename F::Ip address{};
  std::memcpy(&address, &number, sizeof number);
  return address;
}
template <typename F>
DsrEntry<F> entry_of(uint32_t flow, const DsrEntry<F>*) {
  DsrEntry<F> entry{};
  entry.client = address_of<F>(flow);
  entry.vitals = Vitals(FlowState::established, false, 0);
  return entry;
}
template <typename F>
NatEntry<F> entry_of(uint32_t flow, const NatEntry<F>*) {
  NatEntry<F> entry{};
  entry.client = address_of<F>(flow);
  entry.backend_address = address_of<F>(~flow);
  entry.vitals = Vitals(FlowState::established, false, 0);
  return entry;
}
template <typename Entry>
uint64_t client_hash_of(const Entry& e) {
  return Entry::Family::hash(kKey, e.client, e.client_port, e.vip, e.vip_port);
}
template <typename F>
uint64_t reply_hash_of(const NatEntry<F>& e) {
  return F::hash(kKey, e.backend_address, e.backend_port, e.nat, e.nat_port);
}

// A flow that is asked for: its key, and what is worked out before the timed part.
template <typename Entry>
struct Asked {
  Entry entry;
  uint64_t hash, reply_hash;
};

// A table with so many flows. All flow numbers form a ring in random order, of which a window is in the
// table; it moves when flows come and go, so that what is inserted or erased was not touched for long.
template <typename Entry>
class Filled {
 public:
  using Burst = std::array<Asked<Entry>, kBurst>;

  Filled(uint32_t flows, uint32_t percent)
      : flows_(flows), table_(static_cast<uint32_t>(uint64_t{flows} * 100 / percent), false, -1) {
    ring_.resize(flows + std::max(flows / 8, kBurst));
    references_.resize(ring_.size());
    std::iota(ring_.begin(), ring_.end(), 1);
    std::shuffle(ring_.begin(), ring_.end(), std::mt19937(flows));
    for (; head_ < flows; ++head_) insert(asked(ring_[head_]), head_);
  }

  // The next flows of the table.
  void present(Burst& burst) {
    for (auto& a : burst) a = asked(ring_[(tail_ + (cursor_ += kStride) % flows_) % ring_.size()]);
  }
  // Flows that it never had.
  void absent(Burst& burst) {
    for (auto& a : burst) a = asked(static_cast<uint32_t>(ring_.size() + 1 + cursor_++ % flows_));
  }
  // The references of a burst; says how many were found.
  uint64_t find(const Burst& burst, std::array<uint32_t, kBurst>& found) const {
    for (const auto& a : burst) table_.index().prefetch(a.hash);
    for (uint32_t i = 0; i < kBurst; ++i) {
      found[i] = table_.index().candidate(burst[i].hash);
      table_.index().entries().prefetch(found[i]);
    }
    uint64_t hits = 0;
    for (uint32_t i = 0; i < kBurst; ++i) {
      const Entry& wanted = burst[i].entry;
      found[i] = table_.find(burst[i].hash, found[i], [&](const Entry& e) {
        return e.is_from_client(wanted.client, wanted.client_port, wanted.vip, wanted.vip_port);
      });
      hits += found[i] != 0;
    }
    return hits;
  }

  // Those that go next, and those that come next.
  void oldest(Burst& burst) const { from(tail_, burst); }
  void newest(Burst& burst) const { from(head_, burst); }
  void erase(const Burst& burst) {
    fetch_index(burst);
    for (const auto& a : burst) {
      const uint32_t reference = references_[tail_++ % ring_.size()];
      if (reference != 0) erase(a, reference);
    }
  }
  void insert(const Burst& burst) {
    fetch_index(burst);
    for (const auto& a : burst) insert(a, head_++);
  }
  // Keys whose buckets were all full.
  uint64_t refused() const { return refused_; }

 private:
  static Asked<Entry> asked(uint32_t flow) {
    Asked<Entry> a{entry_of(flow, static_cast<const Entry*>(nullptr)), 0, 0};
    a.hash = client_hash_of(a.entry);
    if constexpr (Entry::kKeys == 2) a.reply_hash = reply_hash_of(a.entry);
    return a;
  }
  void from(size_t position, Burst& burst) const {
    for (auto& a : burst) a = asked(ring_[position++ % ring_.size()]);
  }
  void fetch_index(const Burst& burst) const {
    for (const auto& a : burst) {
      table_.index().prefetch(a.hash);
      if constexpr (Entry::kKeys == 2) table_.index().prefetch(a.reply_hash);
    }
  }
  void erase(const Asked<Entry>& a, uint32_t reference) {
    table_.erase_key(a.hash, reference);
    if constexpr (Entry::kKeys == 2) table_.erase_key(a.reply_hash, reference);
    table_.release(reference);
  }
  void insert(const Asked<Entry>& a, size_t position) {
    uint32_t reference = table_.allocate();
    if (reference == 0) throw std::runtime_error("the table is full");
    table_.fill(reference, a.entry);
    bool is_in = table_.insert_key(a.hash, reference);
    if constexpr (Entry::kKeys == 2) is_in = is_in && table_.insert_key(a.reply_hash, reference);
    if (!is_in) {
      erase(a, reference);
      reference = 0;
      ++refused_;
    }
    references_[position % ring_.size()] = reference;
  }

  // A prime, so that flows are not asked for in the order in which their entries stand.
  static constexpr size_t kStride = 7368787;

  const uint32_t flows_;
  FlowTable<Entry> table_;
  std::vector<uint32_t> ring_, references_;
  size_t tail_ = 0, head_ = 0, cursor_ = 0;
  uint64_t refused_ = 0;
};

// The table of the arguments. Google Benchmark runs each benchmark several times until it knows how often:
// filling a large table takes longer than using it, so the last one is kept.
template <typename Entry>
Filled<Entry>& filled(const benchmark::State& state) {
  static std::unique_ptr<Filled<Entry>> kept;
  static std::pair<int64_t, int64_t> of;
  if (const std::pair wanted(state.range(0), state.range(1)); !kept || of != wanted) {
    kept.reset();
    kept = std::make_unique<Filled<Entry>>(static_cast<uint32_t>(wanted.first),
                                           static_cast<uint32_t>(wanted.second));
    of = wanted;
  }
  return *kept;
}

template <typename Entry>
void look_up(benchmark::State& state, bool are_present) {
  Filled<Entry>& flows = filled<Entry>(state);
  typename Filled<Entry>::Burst burst;
  std::array<uint32_t, kBurst> found;
  uint64_t hits = 0;
  BurstWatch watch(state, kBurst);
  for (auto _ : state) {
    are_present ? flows.present(burst) : flows.absent(burst);
    watch.time([&] { hits += flows.find(burst, found); });
  }
  const uint64_t expected = are_present ? static_cast<uint64_t>(state.iterations()) * kBurst : 0;
  if (hits > expected || hits + flows.refused() < expected) state.SkipWithError("wrong number of hits");
}
template <typename Entry>
void hit(benchmark::State& state) {
  look_up<Entry>(state, true);
}
template <typename Entry>
void miss(benchmark::State& state) {
  look_up<Entry>(state, false);
}

// Flows go and as many others come.
template <typename Entry>
void change(benchmark::State& state, bool times_insertion) {
  Filled<Entry>& flows = filled<Entry>(state);
  typename Filled<Entry>::Burst old, young;
  BurstWatch watch(state, kBurst);
  const auto erase = [&] { flows.erase(old); };
  const auto insert = [&] { flows.insert(young); };
  for (auto _ : state) {
    flows.oldest(old);
    flows.newest(young);
    times_insertion ? erase() : watch.time(erase);
    times_insertion ? watch.time(insert) : insert();
  }
  state.counters["refused"] = static_cast<double>(flows.refused());
}
template <typename Entry>
void insert(benchmark::State& state) {
  change<Entry>(state, true);
}
template <typename Entry>
void expire(benchmark::State& state) {
  change<Entry>(state, false);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"flows", "percent"})->UseManualTime();
  for (const int64_t flows : {1000, 64000, 1000000}) b->Args({flows, 100});
  b->Args({1000000, 50})->Args({10000000, 100});
}

#define PORTICO_BENCHMARK(Entry)                   \
  BENCHMARK_TEMPLATE(hit, Entry)->Apply(sizes);    \
  BENCHMARK_TEMPLATE(miss, Entry)->Apply(sizes);   \
  BENCHMARK_TEMPLATE(insert, Entry)->Apply(sizes); \
  BENCHMARK_TEMPLATE(expire, Entry)->Apply(sizes)
PORTICO_BENCHMARK(DsrEntry<V4>);
PORTICO_BENCHMARK(DsrEntry<V6>);
PORTICO_BENCHMARK(NatEntry<V4>);
PORTICO_BENCHMARK(NatEntry<V6>);
#undef PORTICO_BENCHMARK

}  // namespace
}  // namespace portico

BENCHMARK_MAIN();
