// SPDX-License-Identifier: Apache-2.0
// Cycles per packet of the packet path alone (no port, no receive, no send): established flows of dsr and nat
// at several table sizes, and new flows. One row each. Flow memory is in huge pages if the machine has some
// left.
//
//   build/bench/bench-packet-path [--quick]
#include <arpa/inet.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

constexpr uint32_t kRounds = 200000 / kBurstSize;

struct Row {
  Mode mode;
  Family family;
  uint32_t flows;
};

class Runner {
 public:
  explicit Runner(const Row& row) : row_(row), table_(build_table(snapshot_of(content(), nullptr), nullptr)) {
    WorkerConfig config;
    config.flows = std::max(row.flows * 2, 1024u);
    config.tsc_hz = rte_get_tsc_hz();
    config.pool = packet_pool();
    try {
      worker_ = std::make_unique<Worker>(config);
      worker_->prepare(*table_);
    } catch (const std::runtime_error&) {
      huge_ = config.huge_pages = false;
      worker_ = std::make_unique<Worker>(config);
      worker_->prepare(*table_);
    }
    rte_pktmbuf_alloc_bulk(packet_pool(), mbufs_, kBurstSize);
  }
  ~Runner() { rte_pktmbuf_free_bulk(mbufs_, kBurstSize); }

  void run() {
    const double opening = open_flows();
    std::mt19937 random(1);
    std::vector<uint64_t> cycles;
    for (uint32_t round = 0; round < kRounds; ++round) {
      for (uint32_t i = 0; i < kBurstSize; ++i)
        fill(i, static_cast<uint32_t>(random()) % row_.flows, kAckFlag);
      cycles.push_back(burst());
    }
    const double each = per_packet(cycles);
    std::printf("%-6s %s  flows %8u  established %7.1f  new %7.1f cycles/packet  %s\n",
                row_.mode == Mode::nat ? "nat" : "dsr-l2", row_.family == Family::v4 ? "v4" : "v6",
                row_.flows, each, opening, huge_ ? "2 MiB pages" : "4 KiB pages");
  }

 private:
  TableContent content() {
    TableContent c = usual_content();
    c.settings.timeout_syn_ms = 3600000;
    const uint32_t addresses = 1 + row_.flows / 100000;
    c.nat.clear();
    for (uint32_t i = 0; i < addresses; ++i) c.nat.push_back({nat_address(row_.family, i), 1024, 65535, 0});
    const Family other = row_.family == Family::v4 ? Family::v6 : Family::v4;
    c.nat.push_back({nat_address(other, 0), 1024, 65535, 0});
    std::sort(c.nat.begin(), c.nat.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
    return c;
  }
  static Address nat_address(Family family, uint32_t i) {
    const std::string text = (family == Family::v4 ? "198.18.9." : "2001:db8:9::") + std::to_string(20 + i);
    return Address::parse(text).value();
  }

  // Writes a packet of the flow into the burst's buffer, and warms its headers as a NIC with DDIO does.
  void fill(uint32_t i, uint32_t flow, uint8_t flags) {
    if (templates_.empty()) templates_ = {packet(kSynFlag), packet(kAckFlag)};
    rte_mbuf* const m = mbufs_[i];
    rte_pktmbuf_reset(m);
    const Bytes& bytes = templates_[flags == kAckFlag];
    uint8_t* const frame = rte_pktmbuf_mtod(m, uint8_t*);
    std::memcpy(frame, bytes.data(), bytes.size());
    m->data_len = static_cast<uint16_t>(bytes.size());
    m->pkt_len = m->data_len;
    m->port = 0;
    const bool is_v4 = row_.family == Family::v4;
    uint8_t* const client = frame + 14 + (is_v4 ? 12 : 8 + 12);
    const uint32_t address = htonl(0xcb007100u + (flow >> 14));
    const auto port = htons(static_cast<uint16_t>(10000 + (flow & 0x3fff)));
    std::memcpy(client, &address, 4);
    std::memcpy(frame + 14 + (is_v4 ? 20 : 40), &port, 2);
    if (is_v4) mend(frame + 14);
  }
  Bytes packet(uint8_t flags) const {
    const uint16_t port = row_.mode == Mode::nat ? kNat : kDsr;
    Tcp tcp = row_.family == Family::v4 ? Tcp(kClient4, 1, kVip4, port) : Tcp(kClient6, 1, kVip6, port);
    return flags == kAckFlag ? tcp.seq(1001).ack(1001) : tcp.flags(flags).seq(1000);
  }
  static void mend(uint8_t* ip) {
    uint32_t sum = 0;
    ip[10] = ip[11] = 0;
    for (int i = 0; i < 20; i += 2) {
      uint16_t word;
      std::memcpy(&word, ip + i, 2);
      sum += word;
    }
    sum = (sum & 0xffff) + (sum >> 16);
    const auto checksum = static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16)));
    std::memcpy(ip + 10, &checksum, 2);
  }

  // The median burst's: others run on this machine, too.
  static double per_packet(std::vector<uint64_t>& bursts) {
    const auto middle = bursts.begin() + static_cast<long>(bursts.size() / 2);
    std::nth_element(bursts.begin(), middle, bursts.end());
    return static_cast<double>(*middle) / kBurstSize;
  }

  uint64_t burst() {
    const uint64_t begin = rte_rdtsc();
    worker_->process(mbufs_, kBurstSize, table_.get(), begin);
    const uint64_t cycles = rte_rdtsc() - begin;
    PacketBuffer& out = worker_->output().ports[0];
    if (out.count != kBurstSize) throw std::runtime_error("not all packets were forwarded");
    out.count = 0;
    return cycles;
  }

  // Makes the backend's SYN-ACK of a translated SYN that has just left.
  void turn_around(uint32_t i) {
    const size_t size = row_.family == Family::v4 ? 4 : 16;
    uint8_t* const ip = rte_pktmbuf_mtod(mbufs_[i], uint8_t*) + 14;
    uint8_t* const source = ip + (size == 4 ? 12 : 8);
    std::swap_ranges(source, source + size, source + size);
    uint8_t* const tcp = source + 2 * size;
    std::swap_ranges(tcp, tcp + 2, tcp + 2);
    tcp[13] = kSynFlag | kAckFlag;
  }

  void shake_hands(uint32_t flow) {
    if (row_.mode == Mode::nat) {
      for (uint32_t i = 0; i < kBurstSize; ++i) turn_around(i);
      burst();
    }
    for (uint32_t i = 0; i < kBurstSize; ++i) fill(i, flow + i, kAckFlag);
    burst();
  }

  double open_flows() {
    std::vector<uint64_t> cycles;
    for (uint32_t flow = 0; flow < row_.flows; flow += kBurstSize) {
      for (uint32_t i = 0; i < kBurstSize; ++i) fill(i, flow + i, kSynFlag);
      cycles.push_back(burst());
      shake_hands(flow);
    }
    if (worker_->counters().flows != row_.flows) throw std::runtime_error("not all flows are remembered");
    return per_packet(cycles);
  }

  const Row row_;
  std::shared_ptr<const Table> table_;
  std::unique_ptr<Worker> worker_;
  std::vector<Bytes> templates_;
  rte_mbuf* mbufs_[kBurstSize];
  bool huge_ = true;
};

}  // namespace
}  // namespace portico::test

int main(int argc, char** argv) {
  using namespace portico;
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  test::packet_pool();
  for (const Mode mode : {Mode::dsr_l2, Mode::nat}) {
    for (const Family family : {Family::v4, Family::v6}) {
      for (const uint32_t flows : {1024u, 65536u, 1048576u}) {
        if (quick && flows > 65536) continue;
        test::Runner({mode, family, flows}).run();
      }
    }
  }
  return 0;
}
