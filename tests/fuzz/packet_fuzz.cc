// SPDX-License-Identifier: Apache-2.0
// The whole per-packet path: a script of frames (packet_script.h) runs through two workers, with time
// passing, sweeps and table changes in between. The workers stay from one script to the next; between them
// every flow times out, which must bring all gauges back to 0.
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "tests/fuzz/packet_mutator.h"
#include "tests/fuzz/packet_script.h"
#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint64_t kHz = 1'000'000;
// Longer than every timeout of sample_table.h, shorter than the wrap of the flows' clock.
constexpr uint64_t kUntilAllIsOver = uint64_t{3} * 3600 * kHz;
constexpr int kSecondsPerSweep = 6;

void require(bool holds) {
  if (!holds) std::abort();
}

// Beside the usual services one with an access list, one of clients' affinity, and a network without a MAC
// address.
TableContent rich_content() {
  TableContent c = usual_content();
  c.settings.reset_rate = 1000;
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
  return c;
}

struct Tables {
  std::shared_ptr<const Table> usual, resetting;
};

const Tables& tables() {
  static const Tables built = [] {
    TableContent content = rich_content();
    const auto usual = build_table(snapshot_of(content, nullptr), nullptr);
    content.pools[0].backends[0].disposition = static_cast<uint8_t>(BackendDisposition::reset);
    content.pools[0].backends[1].disposition = static_cast<uint8_t>(BackendDisposition::finish);
    content.next_hops[3].vlan = 9;
    return Tables{usual, build_table(snapshot_of(content, &usual->snapshot()), usual.get())};
  }();
  return built;
}

std::unique_ptr<Worker> make_worker(uint32_t index) {
  WorkerConfig config;
  config.index = index;
  config.worker_count = 2;
  config.flows = 16;
  config.tsc_hz = kHz;
  config.huge_pages = false;
  config.kernel_ports = index;
  config.pool = packet_pool();
  auto worker = std::make_unique<Worker>(config);
  worker->prepare(*tables().usual);
  return worker;
}

void free_all(PacketBuffer& buffer) {
  rte_pktmbuf_free_bulk(buffer.packets.data(), buffer.count);
  buffer.count = 0;
}

// Most mutations would end at the IPv4 header's checksum: makes it right.
void mend_checksum(Bytes& frame) {
  if (frame.size() < 34 || frame[12] != 8 || frame[13] != 0) return;
  const size_t header = static_cast<size_t>(frame[14] & 15) * 4;
  if (header < 20 || frame.size() < 14 + header) return;
  frame[24] = frame[25] = 0;
  const Bytes covered(frame.begin() + 14, frame.begin() + 14 + static_cast<long>(header));
  const auto sum = static_cast<uint16_t>(~internet_sum(covered));
  frame[24] = static_cast<uint8_t>(sum >> 8);
  frame[25] = static_cast<uint8_t>(sum);
}

class Machine {
 public:
  Machine() : buffers_(rte_mempool_in_use_count(packet_pool())) {}

  void run(std::vector<ScriptStep> script) {
    table_ = tables().usual.get();
    for (ScriptStep& s : script) step(s);
    end_all_flows();
  }

 private:
  void step(ScriptStep& s) {
    if (s.control & kPassTime) now_ += 700'000;
    if (s.control & kReset) table_ = tables().resetting.get();
    if (s.control & kSweep) workers_[0]->sweep(*table_, now_ += 100'000);
    if (!(s.control & kKeepChecksum)) mend_checksum(s.frame);
    rte_mbuf* m = rte_pktmbuf_alloc(packet_pool());
    require(m != nullptr);
    auto* const room = rte_pktmbuf_append(m, static_cast<uint16_t>(s.frame.size()));
    std::ranges::copy(s.frame, room);
    m->port = 0;
    m->hash.usr = 0;
    Worker& worker = *workers_[s.control & kSecondWorker ? 1 : 0];
    worker.process(&m, 1, s.control & kNoTable ? nullptr : table_, ++now_);
    pass_on();
  }

  void pass_on() {
    for (int round = 0; round < 4; ++round) {
      for (auto& from : workers_) {
        for (uint32_t to = 0; to < 2; ++to) {
          PacketBuffer& b = from->output().workers[to];
          const uint32_t n = b.count;
          b.count = 0;
          if (n > 0) workers_[to]->process_handed_over(b.packets.data(), n, table_, now_);
        }
      }
    }
    for (auto& worker : workers_) {
      Output& output = worker->output();
      free_all(output.ports[0]);
      free_all(output.kernel);
      require(output.ports[1].count == 0);                         // no such port
      for (const auto& b : output.workers) require(b.count == 0);  // a packet that goes round for ever
      output.ports_used = output.workers_used = 0;
    }
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
      while (worker->resolve_queue().pop()) continue;
      const WorkerCounters& c = worker->counters();
      require(c.flows == 0 && c.nat_ports_used == 0 && c.waiting == 0);
      for (uint16_t id = 1; id <= 3; ++id) require(c.services[id].flows == 0 && c.backends[id].flows == 0);
    }
    require(rte_mempool_in_use_count(packet_pool()) == buffers_);
  }

  std::unique_ptr<Worker> workers_[2] = {make_worker(0), make_worker(1)};
  const unsigned buffers_;
  const Table* table_ = nullptr;
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
