// SPDX-License-Identifier: Apache-2.0
// One row of the packet path's benchmark: a worker, its flows and a device in memory, in this process.
#pragma once

#include <rte_mbuf.h>

#include <memory>
#include <string>
#include <vector>

#include "bench/memory_device.h"
#include "bench/packet_load.h"
#include "dataplane/stage_cycles.h"
#include "dataplane/worker.h"

namespace portico::bench {

inline constexpr uint32_t kBuffers = 8192;

struct Options {
  std::string only, json;
  uint32_t processes = 5, bursts = 4000, ahead = 1;
  int cpu = -1;
  bool list = false, quick = false, warm_only = false;
};

enum class What : uint8_t {
  established,
  reply,
  opening,
  flood,   // established, while SYNs that nobody follows up fill the flow table
  full,    // SYNs that find the table full of established flows
  device,  // nothing but the device
  memory,  // nothing but reads of as much memory as flows take
  pair,    // two workers at a time, each on a CPU of its own
};

struct Row {
  const char* kind;
  Mode mode;
  What what;
  Family family;
  uint32_t flows;
  bool is_cold = false;
  bool has_header = false;  // of the PROXY protocol
  bool by_stage = false;

  std::string name() const;
  // What one run measures.
  struct Figure {
    const char* name;  // after the row's name; empty: nothing
    const char* unit;
  };
  std::vector<Figure> figures() const;
};

double median(std::vector<double>& values);

// Starts DPDK in this process.
rte_mempool* start_dpdk(bool huge_pages);

class Run {
 public:
  // `number`: of those in this process.
  Run(const Row& row, const Options& options, rte_mempool* pool, bool huge_pages, uint32_t number = 0);

  // The row's figures; not of What::memory and pair.
  std::vector<double> measure();
  // Cycles per packet, those of the device included.
  double measure_whole();

 private:
  double measure_bursts(uint32_t bursts);
  std::vector<double> measure_stages();
  std::vector<double> measure_flood();
  double measure_full();
  void warm_up();
  void fill_table();
  void start_over();
  void open_burst();
  void send_later_packets(uint32_t seconds);
  template <typename Write>
  void send(uint32_t n, const Write& write);
  template <typename Write>
  void fill(uint32_t n, const Write& write);
  void generate(uint32_t bursts);
  void generate_syns();
  uint64_t forward();
  void flush();
  uint64_t pass_on();
  void note_stages();
  void check() const;

  const Row row_;
  const Options& options_;
  std::shared_ptr<const Table> table_;
  MemoryDevice device_;
  rte_mempool* pool_;
  bool huge_pages_;
  Writer writer_;
  StageCycles stages_;
  std::vector<std::vector<double>> by_stage_;
  std::unique_ptr<Worker> worker_;
  Shuffle shuffle_{1};
  rte_mbuf* last_[kOutputSize];
  uint64_t now_ = 1'000'000'000'000;
  uint64_t forwarded_ = 0;
  uint32_t next_new_ = 0, next_limit_ = 0;
  bool is_timed_ = false;        // the burst under way
  double whole_ = 0, bare_ = 0;  // of the last measure_bursts()
};

}  // namespace portico::bench
