// SPDX-License-Identifier: Apache-2.0
// From frames to the place of their headers, a burst of 64 that is in the first-level cache: what the
// instructions cost. The first look (portable, AVX-512) is for plain IPv4; parse_frame() takes all. `cycles`:
// of the TSC, per frame.
#include "dataplane/parse.h"

#include <benchmark/benchmark.h>
#include <rte_mbuf.h>

#include <vector>

#include "bench/burst_watch.h"
#include "dataplane/first_look.h"
#include "tests/packet/frame.h"

namespace portico {
namespace {

using test::Bytes;
using test::Tcp;

// Different clients, so that no branch can learn one address.
class Burst {
 public:
  template <typename MakeFrame>
  explicit Burst(const MakeFrame& make) : mbufs_(kBurstSize) {
    for (uint32_t i = 0; i < kBurstSize; ++i) frames_.push_back(make(static_cast<uint16_t>(40000 + i)));
    for (uint32_t i = 0; i < kBurstSize; ++i) {
      rte_mbuf& mbuf = mbufs_[i];
      mbuf.buf_addr = frames_[i].data();
      mbuf.data_len = static_cast<uint16_t>(frames_[i].size());
      mbuf.pkt_len = mbuf.data_len;
      mbuf.nb_segs = 1;
      pointers_.push_back(&mbuf);
    }
  }
  rte_mbuf** mbufs() { return pointers_.data(); }

 private:
  std::vector<Bytes> frames_;
  std::vector<rte_mbuf> mbufs_;
  std::vector<rte_mbuf*> pointers_;
};

void first_look(benchmark::State& state, void (*look_at)(FirstLook&, uint32_t), bool can_run) {
  if (!can_run) return state.SkipWithError("this CPU has no AVX-512");
  Burst burst([](uint16_t port) { return Tcp("198.18.0.2", port, "198.18.0.10", 80).ack(1); });
  FirstLook look{};
  BurstWatch watch(state, kBurstSize);
  for (auto _ : state) {
    watch.time([&] {
      open_frames(look, burst.mbufs(), kBurstSize);
      look_at(look, kBurstSize);
      benchmark::ClobberMemory();
    });
  }
  if (look.acks != ~uint64_t{0} || look.syns != 0) state.SkipWithError("not all were seen to be plain");
}

template <typename MakeFrame>
void parse(benchmark::State& state, const MakeFrame& make, Kind expected) {
  Burst burst(make);
  std::array<Packet, kBurstSize> packets{};
  BurstWatch watch(state, kBurstSize);
  for (auto _ : state) {
    watch.time([&] {
      for (uint32_t i = 0; i < kBurstSize; ++i) {
        packets[i] = {};
        packets[i].mbuf = burst.mbufs()[i];
        benchmark::DoNotOptimize(parse_frame(packets[i]));
      }
      benchmark::ClobberMemory();
    });
  }
  for (const Packet& packet : packets) {
    if (packet.kind != expected) state.SkipWithError("a frame was taken for another kind");
  }
}

Tcp v4(uint16_t port) {
  return Tcp("198.18.0.2", port, "198.18.0.10", 80).ack(1);
}
Tcp v6(uint16_t port) {
  return Tcp("2001:db8::2", port, "2001:db8::10", 80).ack(1);
}

#define PORTICO_PARSE(name, frame, kind)                               \
  BENCHMARK_CAPTURE(                                                   \
      parse, name, [](uint16_t port) -> Bytes { return frame; }, kind) \
      ->UseManualTime()

BENCHMARK_CAPTURE(first_look, portable, look_portably, true)->UseManualTime();
BENCHMARK_CAPTURE(first_look, avx512, look_with_avx512, has_avx512())->UseManualTime();
PORTICO_PARSE(v4, v4(port), Kind::tcp);
PORTICO_PARSE(v4_tagged, v4(port).vlan(100), Kind::tcp);
PORTICO_PARSE(v4_ip_options, v4(port).ip_options({1, 1, 1, 0}), Kind::tcp);
PORTICO_PARSE(v4_fragment, v4(port).fragment(0x2000), Kind::fragment);
PORTICO_PARSE(v6, v6(port), Kind::tcp);
PORTICO_PARSE(v6_extension, v6(port).extension(60, Bytes(6)), Kind::tcp);
PORTICO_PARSE(icmp_error, test::icmp_error("198.18.0.3", "198.18.0.10", 3, v4(port).ip(), 28),
              Kind::icmp_error);
#undef PORTICO_PARSE

}  // namespace
}  // namespace portico

BENCHMARK_MAIN();
