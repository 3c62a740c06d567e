// SPDX-License-Identifier: Apache-2.0
// The whole per-packet path: a script of frames, each with a control byte, runs through two fresh workers,
// with time passing, sweeps and table changes in between. Format: control, size (2 bytes, big endian), frame;
// again.
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "tests/fuzz/packet_script.h"
#include "tests/packet/rig.h"

namespace portico::test {
namespace {

struct Tables {
  std::shared_ptr<const Table> usual, resetting;
};

const Tables& tables() {
  static const Tables built = [] {
    TableContent content = usual_content();
    content.settings.reset_rate = 1000;
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
  config.tsc_hz = 1'000'000;
  config.huge_pages = false;
  config.kernel_path = index == 1;
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

class Run {
 public:
  void step(uint8_t control, Bytes frame) {
    if (control & kPassTime) now_ += 700'000;
    if (control & kReset) table_ = tables().resetting.get();
    if (control & kSweep) workers_[0]->sweep(*table_, now_ += 100'000);
    if (!(control & kKeepChecksum)) mend_checksum(frame);
    rte_mbuf* m = rte_pktmbuf_alloc(packet_pool());
    if (m == nullptr) abort();
    auto* const room = rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size()));
    std::copy(frame.begin(), frame.end(), room);
    m->port = 0;
    m->hash.usr = 0;
    Worker& worker = *workers_[control & kSecondWorker ? 1 : 0];
    worker.process(&m, 1, table_, now_);
    pass_on();
  }

 private:
  void pass_on() {
    for (int round = 0; round < 4; ++round) {
      for (auto& from : workers_) {
        for (uint32_t to = 0; to < 2; ++to) {
          PacketBuffer& b = from->output().workers[to];
          const uint32_t n = b.count;
          b.count = 0;
          workers_[to]->process_handed_over(b.packets.data(), n, table_, now_);
        }
      }
    }
    for (auto& worker : workers_) {
      free_all(worker->output().ports[0]);
      free_all(worker->output().kernel);
      for (auto& b : worker->output().workers) {
        if (b.count != 0) abort();  // a packet that goes round for ever
      }
    }
  }

  std::unique_ptr<Worker> workers_[2] = {make_worker(0), make_worker(1)};
  const Table* table_ = tables().usual.get();
  uint64_t now_ = 1'000'000'000;
};

}  // namespace
}  // namespace portico::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace portico::test;
  const unsigned before = rte_mempool_in_use_count(packet_pool());
  {
    Run run;
    while (size >= 3) {
      const size_t length = std::min<size_t>((static_cast<size_t>(data[1]) << 8 | data[2]) & 0x7ff, size - 3);
      run.step(data[0], Bytes(data + 3, data + 3 + length));
      data += 3 + length;
      size -= 3 + length;
    }
  }
  if (rte_mempool_in_use_count(packet_pool()) != before) abort();
  return 0;
}
