// SPDX-License-Identifier: Apache-2.0
// The whole per-packet path: a script of frames (packet_script.h) runs through two workers, with time
// passing, sweeps and table changes in between. Each has twins, which must not differ (twins.h), and what
// they send has the checksums that it came with. The workers stay from one script to the next; between them
// every flow times out, which must bring all gauges back to 0.
#include <rte_mempool.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>

#include "tests/fuzz/packet_mutator.h"
#include "tests/fuzz/packet_script.h"
#include "tests/packet/twins.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint64_t kHz = 1'000'000;
// Longer than every timeout of sample_table.h, shorter than the wrap of the flows' clock.
constexpr uint64_t kUntilAllIsOver = uint64_t{3} * 3600 * kHz;
constexpr int kSecondsPerSweep = 6;
constexpr uint16_t kHighestId = 3;  // of services and backends
constexpr int kMostRounds = 5;

void require(bool holds) {
  if (!holds) std::abort();
}

// Of IPv4, which leaves in fragments where its way is narrow.
bool is_fragment(const Bytes& frame) {
  const size_t at = frame.size() > 18 && frame[12] == 0x81 ? 18 : 14;
  if (frame.size() < at + 20 || frame[at - 2] != 8 || frame[at] >> 4 != 4) return false;
  return (frame[at + 6] & 0x3f) != 0 || frame[at + 7] != 0;
}

// Beside the usual services one with an access list, one of clients' affinity, and a network without a MAC
// address.
TableContent rich_content() {
  TableContent c = usual_content();
  c.settings.reset_rate = 1000;
  c.settings.fragments = static_cast<uint8_t>(Fragments::drop);  // fragments_fuzz.cc has the others
  for (NatRecord& nat : c.nat) nat.first_port = kFirstNatPort, nat.last_port = kLastNatPort;
  c.services.push_back(sample_service(3, 1));
  c.services[2].access_list = 4;
  c.services[2].affinity = static_cast<uint8_t>(Affinity::client);
  for (const char* vip : {kVip4, kVip6}) c.listeners.push_back({address(vip), 3306, 3, 0});
  std::ranges::sort(c.listeners, {}, [](const auto& l) { return std::pair(l.address, l.port); });
  c.access = {{address("203.0.113.0"), 4, 24, 1, 0}, {address("2001:db8:c::"), 4, 48, 1, 0}};
  std::ranges::sort(c.access, {}, [](const auto& a) { return a.prefix; });
  c.routes.push_back({address("192.0.2.0"), 24, 1, kNone, 0, 0});
  std::ranges::sort(c.routes, {}, [](const auto& r) { return std::pair(r.prefix, r.length); });
  c.vlans = {{0, 5}, {0, 9}};
  return c;
}

struct Tables {
  std::shared_ptr<const Table> usual, proxying, resetting;
};

const Tables& tables() {
  static const Tables built = [] {
    TableContent content = rich_content();
    const auto usual = build_table(snapshot_of(content, nullptr), nullptr);
    content.services[1].proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
    // And what was direct goes in tunnels, IPv6 inside IPv4, too, over ways of which one is narrow.
    content.services[0].mode = static_cast<uint8_t>(Mode::dsr_ipip);
    content.settings.tunnel_source_v4 = address("198.51.100.0");
    content.settings.tunnel_length_v4 = 24;
    content.next_hops[1].mtu = 100;
    const auto proxying = build_table(snapshot_of(content, &usual->snapshot()), usual.get());
    content.pools[0].backends[0].disposition = static_cast<uint8_t>(BackendDisposition::reset);
    content.pools[0].backends[1].disposition = static_cast<uint8_t>(BackendDisposition::finish);
    content.next_hops[3].vlan = 9;
    // In GUE then, with a further hop; and sources that are held back.
    content.services[0].mode = static_cast<uint8_t>(Mode::dsr_gue);
    TableContent::Pool& pool = content.pools[0];
    pool.record.fallback_columns = 1;
    for (const uint16_t id : pool.lookup)
      pool.fallback.push_back(pool.backends[id == pool.backends[2].id ? 0 : 2].id);
    for (ServiceRecord& s : content.services) s.source_rate = s.source_burst = s.source_flows = 4;
    return Tables{usual, proxying, build_table(snapshot_of(content, &proxying->snapshot()), proxying.get())};
  }();
  return built;
}

std::unique_ptr<Twins> make_worker(uint32_t index) {
  WorkerConfig config;
  config.index = index;
  config.worker_count = 2;
  config.flows = 16;
  config.tsc_hz = kHz;
  config.kernel_ports = index;
  return std::make_unique<Twins>(config, *tables().proxying, kHighestId);
}

class Machine {
 public:
  Machine() : buffers_(rte_mempool_in_use_count(packet_pool())) {}

  void run(std::vector<ScriptStep> script) {
    table_ = tables().usual.get();
    residues_ = {0xffff};
    for (ScriptStep& s : script) step(s);
    end_all_flows();
  }

 private:
  void step(ScriptStep& s) {
    if (s.control & kPassTime) now_ += 700'000;
    if (s.control & kProxy) table_ = tables().proxying.get();
    if (s.control & kReset) table_ = tables().resetting.get();
    if (s.control & kSweep) workers_[0]->sweep(*table_, now_ += 100'000);
    if (!(s.control & kKeepChecksum)) mend_ip_sum(s.frame);
    residues_.insert(residue_of(s.frame));
    workers_[s.control & kSecondWorker ? 1 : 0]->process({{.frame = s.frame}}, false,
                                                         s.control & kNoTable ? nullptr : table_, ++now_);
    pass_on();
  }

  // Delivers what workers have for each other, until nothing is left: no packet goes round for ever.
  void pass_on() {
    bool is_done = false;
    for (int round = 0; round < kMostRounds && !is_done; ++round) {
      is_done = true;
      for (auto& from : workers_) {
        require_same(*from);
        for (const Sent& s : from->take_output()) {
          if (s.to == Sent::To::port) check(s);
          if (s.to != Sent::To::worker) continue;
          require(s.index < std::size(workers_));
          workers_[s.index]->process({{.frame = s.frame, .user = s.user}}, true, table_, now_);
          is_done = false;
        }
      }
    }
    require(is_done);
  }

  static void require_same(Twins& worker) {
    const std::string difference = worker.difference();
    if (difference.empty()) return;
    std::fprintf(stderr, "%s\n", difference.c_str());
    std::abort();
  }

  // A checksum that came right leaves right; a wrong one, as wrong as it was.
  void check(const Sent& sent) const {
    require(sent.index == 0);  // there is no other port
    const Bytes inner = unwrapped(sent.frame);
    require(has_right_ip_sum(sent.frame) && has_right_ip_sum(inner));
    require(is_fragment(inner) || residues_.contains(residue_of(inner)));
  }

  // As good as new workers, at a hundredth of their price. A sweep goes through all flows in some seconds.
  void end_all_flows() {
    now_ += kUntilAllIsOver;
    table_ = tables().usual.get();
    for (int seconds = 0; seconds < kSecondsPerSweep; ++seconds, now_ += kHz) {
      for (auto& worker : workers_) worker->sweep(*table_, now_);
    }
    pass_on();
    for (auto& worker : workers_) {
      const WorkerCounters& c = worker->general().counters();
      require(c.flows == 0 && c.nat_ports_used == 0 && c.waiting == 0);
      for (uint16_t id = 1; id <= kHighestId; ++id)
        require(c.services[id].flows == 0 && c.backends[id].flows == 0);
    }
    require(rte_mempool_in_use_count(packet_pool()) == buffers_);
  }

  std::unique_ptr<Twins> workers_[2] = {make_worker(0), make_worker(1)};
  const unsigned buffers_;
  const Table* table_ = nullptr;
  std::set<uint16_t> residues_;  // of the script's frames: see residue_of()
  uint64_t now_ = 1'000'000'000;
};

size_t put(const std::vector<ScriptStep>& script, uint8_t* data, size_t max_size) {
  const Bytes bytes = write_script(script);
  const size_t size = std::min(bytes.size(), max_size);
  std::copy_n(bytes.begin(), size, data);
  return size;
}

}  // namespace
}  // namespace portico::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static portico::test::Machine machine;
  machine.run(portico::test::read_script({data, size}));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  auto script = portico::test::read_script({data, size});
  portico::test::PacketMutator(seed).mutate(script);
  return portico::test::put(script, data, max_size);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* a, size_t a_size, const uint8_t* b, size_t b_size,
                                            uint8_t* out, size_t max_size, unsigned seed) {
  using portico::test::read_script;
  const auto script =
      portico::test::PacketMutator(seed).cross(read_script({a, a_size}), read_script({b, b_size}));
  return portico::test::put(script, out, max_size);
}
