// SPDX-License-Identifier: Apache-2.0
// libFuzzer: whatever stands in the table file, nobody who reads it crashes, reads out of bounds or believes
// it. What is adopted all the same then forwards packets.
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "tests/fuzz/table_mutator.h"
#include "tests/packet/rig.h"

namespace portico::test {
namespace {

constexpr size_t kListenersTried = 8;

// A rig's worth of one worker that meets one table after another, as in life.
void use(const std::shared_ptr<const Snapshot>& snapshot, const std::shared_ptr<const Snapshot>& before) {
  const unsigned buffers = rte_mempool_in_use_count(packet_pool());
  {
    // As after every change: parts whose blocks are the same are shared with the table before.
    const auto previous = before ? build_table(before, nullptr) : nullptr;
    const auto table = build_table(snapshot, previous.get());
    WorkerConfig config;
    config.flows = 16;
    config.tsc_hz = 1'000'000;
    config.huge_pages = false;
    config.pool = packet_pool();
    Worker worker(config);
    if (previous) worker.prepare(*previous);
    worker.prepare(*table);
    uint64_t now = 1'000'000'000;
    const auto give = [&](const Bytes& frame) {
      rte_mbuf* m = rte_pktmbuf_alloc(packet_pool());
      require(m != nullptr);
      std::ranges::copy(frame, rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())));
      m->port = 0;
      worker.process(&m, 1, table.get(), ++now);
    };
    // The first answer to each frame that left, as its receiver would give it.
    const auto answer_all = [&] {
      std::vector<Bytes> answers;
      for (uint32_t port = 0; port < kMaxPorts; ++port) {
        PacketBuffer& b = worker.output().ports[port];
        require(b.count == 0 || port < snapshot->ports->ref.count);
        for (uint32_t i = 0; i < b.count; ++i) {
          const auto* const data = rte_pktmbuf_mtod(b.packets[i], const uint8_t*);
          const Seen out = read_frame(Bytes(data, data + b.packets[i]->data_len));
          answers.push_back(Tcp(out.destination, out.destination_port, out.source, out.source_port)
                                .flags(kSynFlag)
                                .ack(out.seq + 1));
        }
        rte_pktmbuf_free_bulk(b.packets.data(), b.count);
        b.count = 0;
      }
      worker.output().ports_used = 0;
      return answers;
    };
    const auto listeners = snapshot->listeners->records<ListenerRecord>();
    for (const ListenerRecord& l : listeners.first(std::min(listeners.size(), kListenersTried))) {
      const std::string vip = to_string(l.address);
      const char* const client = l.address.is_v4() ? kClient4 : kClient6;
      give(Tcp(client, 40000, vip, l.port).flags(kSynFlag));
      for (const Bytes& answer : answer_all()) give(answer);
      answer_all();
      give(Tcp(client, 40000, vip, l.port).ack(1).payload("GET /"));
      answer_all();
    }
    for (int turn = 0; turn < 3; ++turn) {
      worker.sweep(*table, now += 1'000'000);
      answer_all();
    }
    while (worker.resolve_queue().pop()) continue;
  }
  require(rte_mempool_in_use_count(packet_pool()) == buffers);
}

size_t put(const TableScript& script, uint8_t* data, size_t max_size) {
  const auto bytes = write_table_script(script);
  const size_t size = std::min(bytes.size(), max_size);
  std::copy_n(bytes.begin(), size, data);
  return size;
}

}  // namespace
}  // namespace portico::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return portico::test::try_hostile_table({data, size}, portico::test::use);
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  auto script = portico::test::read_table_script({data, size});
  portico::test::TableMutator(seed).mutate(script);
  return portico::test::put(script, data, max_size);
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* a, size_t a_size, const uint8_t* b, size_t b_size,
                                            uint8_t* out, size_t max_size, unsigned seed) {
  using portico::test::read_table_script;
  const auto script =
      portico::test::TableMutator(seed).cross(read_table_script({a, a_size}), read_table_script({b, b_size}));
  return portico::test::put(script, out, max_size);
}
