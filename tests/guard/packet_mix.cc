// SPDX-License-Identifier: Apache-2.0
// Runs a fixed mix of packets through the packet path, for tests/guard/packet_instructions, which counts the
// instructions that process() takes.
//
//   packet-mix                 prints the names of the mixes
//   packet-mix NAME [prepare]  runs one, or only what comes before the packets that count
#include <rte_mbuf.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>

#include "bench/packet_load.h"
#include "dataplane/worker.h"

namespace portico {
namespace {

constexpr uint32_t kFlows = 1024, kRounds = 4;
constexpr uint64_t kHz = 1'000'000;

struct Mix {
  const char* name;
  Mode mode;
  Family family;
  bool is_reply, is_new;
  bool has_header = false;  // of the PROXY protocol
};
constexpr Mix kMixes[] = {
    {"dsr-l2", Mode::dsr_l2, Family::v4, false, false},
    {"nat-in", Mode::nat, Family::v4, false, false},
    {"nat-out", Mode::nat, Family::v4, true, false},
    {"dsr-l2-new", Mode::dsr_l2, Family::v4, false, true},
    {"nat-new", Mode::nat, Family::v4, false, true},
    {"dsr-l2-v6", Mode::dsr_l2, Family::v6, false, false},
    {"nat-in-v6", Mode::nat, Family::v6, false, false},
    {"proxy-in", Mode::nat, Family::v4, false, false, true},
    {"proxy-out", Mode::nat, Family::v4, true, false, true},
};

class Path {
 public:
  explicit Path(const Mix& mix)
      : mix_(mix),
        table_(build_table(test::snapshot_of(content(mix), nullptr), nullptr)),
        writer_(mix.mode, mix.family) {
    WorkerConfig config;
    config.flows = 2 * kFlows;
    config.tsc_hz = kHz;
    config.huge_pages = false;
    config.vectors = false;
    config.pool = test::packet_pool();
    worker_ = std::make_unique<Worker>(config);
    worker_->prepare(*table_);
    if (rte_pktmbuf_alloc_bulk(config.pool, packets_, kBurstSize) != 0)
      throw std::runtime_error("no packets");
  }
  static TableContent content(const Mix& mix) {
    TableContent c = bench::bench_content(mix.mode, mix.family);
    if (mix.has_header) c.services[1].proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
    return c;
  }
  ~Path() { rte_pktmbuf_free_bulk(packets_, kBurstSize); }

  void open() {
    for (uint32_t flow = 0; flow < kFlows; flow += kBurstSize) {
      run([&](uint32_t i) { writer_.write(packets_[i], flow + i, test::kSynFlag); });
      if (mix_.mode == Mode::nat) {
        for (uint32_t i = 0; i < kBurstSize; ++i) writer_.learn(packets_[i], flow + i);
        run([&](uint32_t i) {
          writer_.write_reply(packets_[i], flow + i, true);
          if (mix_.has_header) bench::acknowledge_lowered_syn(packets_[i]);
        });
      }
      run([&](uint32_t i) { writer_.write(packets_[i], flow + i, test::kAckFlag); });
      // Acknowledges the header.
      if (mix_.has_header) run([&](uint32_t i) { writer_.write_reply(packets_[i], flow + i, false); });
    }
    now_ += kHz;
    later_packets(false);
  }
  void later_packets(bool are_replies) {
    bench::Shuffle flows(kFlows);
    for (uint32_t n = 0; n < kFlows; n += kBurstSize) {
      run([&](uint32_t i) {
        are_replies ? writer_.write_reply(packets_[i], flows.next(), false)
                    : writer_.write(packets_[i], flows.next(), test::kAckFlag);
      });
    }
  }
  void new_flows() {
    for (uint32_t flow = kFlows; flow < 2 * kFlows; flow += kBurstSize)
      run([&](uint32_t i) { writer_.write(packets_[i], flow + i, test::kSynFlag); });
  }

 private:
  template <typename Write>
  void run(const Write& write) {
    for (uint32_t i = 0; i < kBurstSize; ++i) write(i);
    worker_->process(packets_, kBurstSize, table_.get(), now_);
    PacketBuffer& out = worker_->output().ports[0];
    if (out.count != kBurstSize) throw std::runtime_error("not all packets were forwarded");
    out.count = 0;
  }

  const Mix& mix_;
  std::shared_ptr<const Table> table_;
  bench::Writer writer_;
  std::unique_ptr<Worker> worker_;
  rte_mbuf* packets_[kBurstSize];
  uint64_t now_ = 1'000'000'000;
};

// The packets that count, and how many they were.
uint32_t counted_packets(Path& path, const Mix& mix) {
  if (mix.is_new) {
    path.new_flows();
    return kFlows;
  }
  for (uint32_t round = 0; round < kRounds; ++round) path.later_packets(mix.is_reply);
  return kRounds * kFlows;
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  using namespace portico;
  for (const Mix& mix : kMixes) {
    if (argc < 2) {
      std::puts(mix.name);
    } else if (std::strcmp(argv[1], mix.name) == 0) {
      Path path(mix);
      path.open();
      std::printf("packets %u\n", argc > 2 ? 0 : counted_packets(path, mix));
      return 0;
    }
  }
  return argc < 2 ? 0 : 2;
}
