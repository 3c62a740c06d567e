// SPDX-License-Identifier: Apache-2.0
// TSC cycles per packet of one worker: receive, all of the packet path, transmit and the sweep, less the same
// loop that only receives and transmits. Bursts of 64 come from an in-memory device of 8192 buffers; the
// generator runs on the same core, outside the timed part: distinct flows in random order, 64-byte frames.
// The bare loop takes every other burst, so that both see the same machine. Each figure is the median of
// several processes of the median burst.
//
//   bench-packet-path [--only PATTERN] [--processes 5] [--bursts 4000] [--ahead 1] [--cpu N] [--json FILE]
//                     [--list] [--quick]
//
// PATTERN is part of a row's name, such as nat-in/v4/1k/warm. `--ahead N` generates N bursts before they are
// timed one by one: with 64, packets come from the second-level cache and beyond, as without DDIO.
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "bench/memory_device.h"
#include "bench/packet_load.h"
#include "dataplane/worker.h"

namespace portico::bench {
namespace {

constexpr uint32_t kBuffers = 8192;
// New flows are opened beside the `flows` that the table holds, so many at most before they expire again.
constexpr uint32_t kLeastNew = 4096, kMostNew = 262144;
// Long enough for a flow that has only begun to expire, too short for an established one.
constexpr uint32_t kExpirySeconds = 3601;

struct Options {
  std::string only, json;
  uint32_t processes = 5, bursts = 4000, ahead = 1;
  int cpu = -1;
  bool list = false, quick = false;
};

enum class What : uint8_t { established, reply, opening };

struct Row {
  const char* kind;
  Mode mode;
  What what;
  Family family;
  uint32_t flows;
  bool is_cold;

  std::string name() const {
    const std::string size =
        flows >= 1000000 ? std::to_string(flows / 1000000) + "M" : std::to_string(flows / 1000) + "k";
    return std::string(kind) + (family == Family::v4 ? "/v4/" : "/v6/") + size +
           (is_cold ? "/cold" : "/warm");
  }
};

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  const auto add = [&](Family family, uint32_t flows, bool is_cold) {
    rows.push_back({"dsr-l2", Mode::dsr_l2, What::established, family, flows, is_cold});
    rows.push_back({"nat-in", Mode::nat, What::established, family, flows, is_cold});
    rows.push_back({"nat-out", Mode::nat, What::reply, family, flows, is_cold});
    rows.push_back({"dsr-l2-new", Mode::dsr_l2, What::opening, family, flows, is_cold});
    rows.push_back({"nat-new", Mode::nat, What::opening, family, flows, is_cold});
  };
  for (const bool is_cold : {false, true}) {
    for (const uint32_t flows : {1000u, 64000u, 1000000u, 10000000u}) add(Family::v4, flows, is_cold);
  }
  for (const uint32_t flows : {1000u, 64000u, 1000000u}) add(Family::v6, flows, false);
  return rows;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Reads so much memory that nothing else is left in the caches.
void evict_caches() {
  static std::vector<uint64_t> memory(size_t{96} << 17, 1);
  uint64_t sum = 0;
  for (size_t i = 0; i < memory.size(); i += 8) sum += memory[i];
  asm volatile("" : : "r"(sum));
}

rte_mempool* start_dpdk(bool huge_pages) {
  std::string words[] = {"bench", "--in-memory", "--no-pci", "--no-telemetry", "--log-level=error",
                         "-m64",  "--no-huge"};
  char* arguments[std::size(words)];
  for (size_t i = 0; i < std::size(words); ++i) arguments[i] = words[i].data();
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  if (rte_eal_init(static_cast<int>(std::size(words)) - huge_pages, arguments) < 0)
    throw std::runtime_error("EAL does not start");
  sched_setaffinity(0, sizeof before, &before);
  rte_mempool* const pool =
      rte_pktmbuf_pool_create("packets", kBuffers + 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (pool == nullptr) throw std::runtime_error("no memory for packets");
  return pool;
}

// One row in a process of its own.
class Run {
 public:
  Run(const Row& row, const Options& options, rte_mempool* pool, bool huge_pages)
      : row_(row),
        options_(options),
        table_(build_table(test::snapshot_of(bench_content(row.mode, row.family), nullptr), nullptr)),
        device_(pool, kBuffers),
        pool_(pool),
        huge_pages_(huge_pages),
        writer_(row.mode, row.family) {
    fill_table();
  }

  // Cycles per packet.
  double measure() {
    const uint32_t once = row_.what == What::opening ? 0 : row_.flows / kBurstSize;
    if (!row_.is_cold) measure_bursts(std::max(options_.bursts / 4, once));
    return measure_bursts(row_.is_cold ? std::min(options_.bursts, 300u) : options_.bursts);
  }

 private:
  double measure_bursts(uint32_t bursts) {
    std::vector<double> whole, bare;
    for (uint32_t i = 0; i < bursts; i += options_.ahead) {
      if (row_.is_cold) evict_caches();
      generate(options_.ahead);
      for (uint32_t k = 0; k < options_.ahead; ++k) whole.push_back(static_cast<double>(forward()));
      if (row_.is_cold) evict_caches();
      generate(options_.ahead);
      for (uint32_t k = 0; k < options_.ahead; ++k) bare.push_back(static_cast<double>(pass_on()));
    }
    check();
    return (median(whole) - median(bare)) / kBurstSize;
  }

  void fill_table() {
    WorkerConfig config;
    config.flows = row_.flows + std::clamp(row_.flows / 4, kLeastNew, kMostNew);
    config.tsc_hz = rte_get_tsc_hz();
    config.pool = pool_;
    config.huge_pages = huge_pages_;
    worker_ = std::make_unique<Worker>(config);
    worker_->prepare(*table_);
    while (next_new_ < row_.flows) open_burst();
    send_later_packets(1);
    next_limit_ = config.flows - kBurstSize;
    shuffle_ = Shuffle(row_.flows);
  }

  // Lets the flows expire that were opened beside those that stay.
  void start_over() {
    send_later_packets(kExpirySeconds);
    for (uint64_t i = 0; worker_->counters().flows > row_.flows; ++i, now_ += rte_get_tsc_hz()) {
      if (i > row_.flows + kMostNew) throw std::runtime_error("flows do not expire");
      worker_->sweep(*table_, now_);
    }
    next_new_ = row_.flows;
  }

  // The handshake of the next flows.
  void open_burst() {
    // `last_` holds what the SYNs became.
    const uint32_t n = std::min(kBurstSize, row_.flows - next_new_);
    send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write(m, next_new_ + i, test::kSynFlag); });
    if (row_.mode == Mode::nat) {
      for (uint32_t i = 0; i < n; ++i) writer_.learn(last_[i], next_new_ + i);
      send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write_reply(m, next_new_ + i, true); });
    }
    send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write(m, next_new_ + i, test::kAckFlag); });
    next_new_ += n;
  }

  // One of every flow that stays, so many seconds later: ends probation.
  void send_later_packets(uint32_t seconds) {
    now_ += seconds * rte_get_tsc_hz();
    for (uint32_t flow = 0; flow < row_.flows; flow += kBurstSize) {
      send(std::min(kBurstSize, row_.flows - flow),
           [&](rte_mbuf* m, uint32_t i) { writer_.write(m, flow + i, test::kAckFlag); });
    }
  }

  template <typename Write>
  void send(uint32_t n, const Write& write) {
    fill(n, write);
    forward();
  }
  template <typename Write>
  void fill(uint32_t n, const Write& write) {
    rte_mbuf* packets[kBurstSize];
    if (device_.take_buffers(packets, n) != n) throw std::runtime_error("the device has lost buffers");
    for (uint32_t i = 0; i < n; ++i) write(packets[i], i);
    device_.arrive(packets, n);
  }

  // Packets to measure.
  void generate(uint32_t bursts) {
    if (row_.what == What::opening && next_new_ + bursts * kBurstSize > next_limit_) {
      check();
      start_over();
    }
    for (uint32_t b = 0; b < bursts; ++b) {
      fill(kBurstSize, [&](rte_mbuf* m, uint32_t) {
        if (row_.what == What::opening) return writer_.write(m, next_new_++, test::kSynFlag);
        const uint32_t flow = shuffle_.next();
        row_.what == What::reply ? writer_.write_reply(m, flow, false)
                                 : writer_.write(m, flow, test::kAckFlag);
      });
    }
  }

  // One turn of a worker's loop. The worker's clock runs with the timed parts alone, as if packets came back
  // to back.
  uint64_t forward() {
    const uint64_t begin = rte_rdtsc_precise();
    rte_mbuf* packets[kBurstSize];
    const uint32_t n = device_.receive(packets, kBurstSize);
    worker_->process(packets, n, table_.get(), now_);
    flush();
    worker_->sweep(*table_, now_);
    const uint64_t cycles = rte_rdtsc_precise() - begin;
    now_ += cycles;
    forwarded_ += n;
    return cycles;
  }
  void flush() {
    Output& output = worker_->output();
    PacketBuffer& out = output.ports[0];
    device_.transmit(out.packets.data(), out.count);
    std::copy_n(out.packets.data(), row_.mode == Mode::nat && next_new_ < row_.flows ? out.count : 0, last_);
    out.count = 0;
    output.ports_used = 0;
  }
  uint64_t pass_on() {
    const uint64_t begin = rte_rdtsc_precise();
    rte_mbuf* packets[kBurstSize];
    device_.transmit(packets, device_.receive(packets, kBurstSize));
    const uint64_t cycles = rte_rdtsc_precise() - begin;
    if (row_.what == What::opening) next_new_ -= kBurstSize;  // not opened: next time
    return cycles;
  }

  // All packets were forwarded, and as what they were meant to be.
  void check() const {
    const WorkerCounters& c = worker_->counters();
    if (c.forwarded != forwarded_) throw std::runtime_error("not all packets were forwarded");
    const uint64_t flows = row_.what == What::opening ? next_new_ : row_.flows;
    if (c.flows != flows) throw std::runtime_error("not all flows are remembered");
    if (c.services[1].missed + c.services[2].missed != 0) throw std::runtime_error("flows were missed");
  }

  const Row row_;
  const Options& options_;
  std::shared_ptr<const Table> table_;
  MemoryDevice device_;
  rte_mempool* pool_;
  bool huge_pages_;
  Writer writer_;
  std::unique_ptr<Worker> worker_;
  Shuffle shuffle_{1};
  rte_mbuf* last_[kOutputSize];
  uint64_t now_ = 1'000'000'000'000;
  uint64_t forwarded_ = 0;
  uint32_t next_new_ = 0, next_limit_ = 0;
};

struct Result {
  double cycles;
  bool huge_pages;
};

Result run_here(const Row& row, const Options& options) {
  const bool huge_pages = access("/dev/hugepages", W_OK) == 0;
  rte_mempool* const pool = start_dpdk(huge_pages);
  return {Run(row, options, pool, huge_pages).measure(), huge_pages};
}

// In a child: a fresh process has its own memory layout.
Result run_apart(const Row& row, const Options& options) {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("no pipe");
  const pid_t child = fork();
  if (child == 0) {
    try {
      const Result result = run_here(row, options);
      _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 1);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s: %s\n", row.name().c_str(), e.what());
      _exit(1);
    }
  }
  close(ends[1]);
  Result result;
  const bool is_whole = read(ends[0], &result, sizeof result) == sizeof result;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!is_whole) throw std::runtime_error(row.name() + ": no result");
  return result;
}

void report(const Row& row, const Options& options, std::FILE* json) {
  std::vector<double> values;
  bool huge_pages = true;
  for (uint32_t i = 0; i < options.processes; ++i) {
    const Result r = run_apart(row, options);
    values.push_back(r.cycles);
    huge_pages = huge_pages && r.huge_pages;
  }
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const double least = *low, most = *high, middle = median(values);
  std::printf("%-24s %7.1f cycles/packet  (%.1f to %.1f, %u processes%s)\n", row.name().c_str(), middle,
              least, most, options.processes, huge_pages ? "" : ", no huge pages");
  std::fflush(stdout);
  if (json == nullptr) return;
  std::fprintf(
      json,
      "%s{\"name\": \"packet-path/%s\", \"parameters\": {\"kind\": \"%s\", \"family\": %d, \"flows\": %u, "
      "\"cold\": %s, \"ahead\": %u, \"processes\": %u}, \"unit\": \"cycles/packet\", \"median\": %.2f, "
      "\"min\": %.2f, \"max\": %.2f, \"peer\": null, \"ratio\": null}",
      std::ftell(json) > 2 ? ",\n" : "", row.name().c_str(), row.kind, static_cast<int>(row.family),
      row.flows, row.is_cold ? "true" : "false", options.ahead, options.processes, middle, least, most);
}

uint32_t number(const char* text) {
  char* end;
  const unsigned long value = std::strtoul(text, &end, 10);
  if (*end != 0 || value == 0 || value > 1000000)
    throw std::invalid_argument(std::string("not a number: ") + text);
  return static_cast<uint32_t>(value);
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--list") {
      o.list = true;
      continue;
    }
    if (word == "--quick") {
      o.quick = true;
      o.processes = 1;
      o.bursts = 1000;
      continue;
    }
    if (i + 1 == argc) throw std::invalid_argument("unknown argument, or no value: " + word);
    const char* const value = argv[++i];
    if (word == "--only")
      o.only = value;
    else if (word == "--json")
      o.json = value;
    else if (word == "--processes")
      o.processes = number(value);
    else if (word == "--bursts")
      o.bursts = number(value);
    else if (word == "--ahead")
      o.ahead = std::min(number(value), kBuffers / kBurstSize);
    else if (word == "--cpu")
      o.cpu = std::atoi(value);
    else
      throw std::invalid_argument("unknown argument: " + word);
  }
  return o;
}

void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) throw std::runtime_error("no such CPU");
}

int run(const Options& options) {
  pin(options.cpu);
  std::FILE* const json = options.json.empty() ? nullptr : std::fopen(options.json.c_str(), "w");
  if (!options.json.empty() && json == nullptr) throw std::runtime_error("cannot write " + options.json);
  if (json != nullptr) std::fputs("[\n", json);
  for (const Row& row : all_rows()) {
    if (row.name().find(options.only) == std::string::npos) continue;
    if (options.quick && (row.flows > 1000000 || row.is_cold)) continue;
    if (options.list) {
      std::puts(row.name().c_str());
      continue;
    }
    report(row, options, json);
  }
  if (json != nullptr) {
    std::fputs("\n]\n", json);
    std::fclose(json);
  }
  return 0;
}

}  // namespace
}  // namespace portico::bench

int main(int argc, char** argv) {
  try {
    return portico::bench::run(portico::bench::parse(argc, argv));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench-packet-path: %s\n", e.what());
    return 1;
  }
}
