// SPDX-License-Identifier: Apache-2.0
#include "bench/packet_run.h"

#include <rte_cycles.h>
#include <rte_eal.h>
#include <sched.h>

#include <algorithm>
#include <stdexcept>

namespace portico::bench {

namespace {

// New flows are opened beside the `flows` that the table holds, so many at most before they expire again.
constexpr uint32_t kLeastNew = 4096, kMostNew = 262144;
// Long enough for a flow that has only begun to expire, too short for an established one.
constexpr uint32_t kExpirySeconds = 3601;

// Reads so much memory that nothing else is left in the caches.
void evict_caches() {
  static std::vector<uint64_t> memory(size_t{96} << 17, 1);
  uint64_t sum = 0;
  for (size_t i = 0; i < memory.size(); i += 8) sum += memory[i];
  asm volatile("" : : "r"(sum));
}

// The benchmark's table for a row.
TableContent content_of(const Row& row) {
  TableContent content = bench_content(row.mode, row.family);
  if (row.has_header) content.services[1].proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
  return content;
}

}  // namespace

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::string Row::name() const {
  if (what == What::device) return kind;
  const std::string size =
      flows >= 1000000 ? std::to_string(flows / 1000000) + "M" : std::to_string(flows / 1000) + "k";
  if (what == What::memory) return std::string(kind) + "/" + size;
  return std::string(kind) + (family == Family::v4 ? "/v4/" : "/v6/") + size + (is_cold ? "/cold" : "/warm");
}

std::vector<Row::Figure> Row::figures() const {
  constexpr const char* kCycles = "cycles/packet";
  if (by_stage)
    return {{"open", kCycles},    {"look", kCycles},       {"classify", kCycles},
            {"slots", kCycles},   {"candidates", kCycles}, {"openings", kCycles},
            {"forward", kCycles}, {"transmit", kCycles},   {"sweep", kCycles}};
  switch (what) {
    case What::flood:
      return {{"syn", "cycles/SYN"}, {"kept", "throughput by that without"}};
    case What::full:
      return {{"syn", "cycles/SYN"}};
    case What::memory:
      return {{"one-by-one", "cycles/line"}, {"bursts", "cycles/line"}};
    case What::pair:
      return {{"throughput", "by one worker's"}};
    default:
      return {{"", kCycles}};
  }
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
      rte_pktmbuf_pool_create("packets", 2 * kBuffers + 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
  if (pool == nullptr) throw std::runtime_error("no memory for packets");
  return pool;
}

Run::Run(const Row& row, const Options& options, rte_mempool* pool, bool huge_pages, uint32_t number)
    : row_(row),
      options_(options),
      table_(build_table(test::snapshot_of(content_of(row), nullptr), nullptr)),
      device_(pool, kBuffers, number),
      pool_(pool),
      huge_pages_(huge_pages),
      writer_(row.mode, row.family),
      by_stage_(kStages + 2) {
  fill_table();
}

std::vector<double> Run::measure() {
  if (row_.by_stage) return measure_stages();
  switch (row_.what) {
    case What::flood:
      return measure_flood();
    case What::full:
      return {measure_full()};
    case What::device:
      measure_bursts(options_.bursts);
      return {bare_ / kBurstSize};
    default:
      if (!row_.is_cold) warm_up();
      return {measure_bursts(row_.is_cold ? std::min(options_.bursts, 300u) : options_.bursts)};
  }
}

double Run::measure_whole() {
  warm_up();
  measure_bursts(options_.bursts);
  return whole_ / kBurstSize;
}

void Run::warm_up() {
  const uint32_t once = row_.what == What::opening ? 0 : row_.flows / kBurstSize;
  measure_bursts(std::max(options_.bursts / 4, once));
}

double Run::measure_bursts(uint32_t bursts) {
  std::vector<double> whole, bare;
  for (uint32_t i = 0; i < bursts; i += options_.ahead) {
    if (row_.is_cold) evict_caches();
    generate(options_.ahead);
    is_timed_ = true;
    for (uint32_t k = 0; k < options_.ahead; ++k) whole.push_back(static_cast<double>(forward()));
    is_timed_ = false;
    if (row_.is_cold) evict_caches();
    generate(options_.ahead);
    for (uint32_t k = 0; k < options_.ahead; ++k) bare.push_back(static_cast<double>(pass_on()));
  }
  check();
  whole_ = median(whole);
  bare_ = median(bare);
  return (whole_ - bare_) / kBurstSize;
}

std::vector<double> Run::measure_stages() {
  warm_up();
  for (auto& values : by_stage_) values.clear();
  measure_bursts(options_.bursts);
  std::vector<double> result;
  for (auto& values : by_stage_) result.push_back(median(values) / kBurstSize);
  return result;
}

// Bursts of either kind in turn. Between the SYNs' and the established flows' the caches are whose turn it
// was.
std::vector<double> Run::measure_flood() {
  warm_up();
  measure_bursts(options_.bursts);
  const double quiet = whole_, bare = bare_;
  std::vector<double> syns, established;
  const uint32_t until_full = (next_limit_ - next_new_) / kBurstSize + 1;
  for (uint32_t i = 0; i < until_full + options_.bursts; ++i) {
    generate_syns();
    const auto of_syns = static_cast<double>(forward());
    generate(1);
    const auto of_established = static_cast<double>(forward());
    if (i < until_full) continue;
    syns.push_back(of_syns);
    established.push_back(of_established);
  }
  const WorkerCounters& c = worker_->counters();
  if (c.evictions == 0 || c.services[1].missed + c.services[2].missed != 0)
    throw std::runtime_error("the flood left no trace, or too large a one");
  return {(median(syns) - bare) / kBurstSize, quiet / median(established)};
}

double Run::measure_full() {
  measure_bursts(options_.bursts / 4);
  const uint64_t before = worker_->counters().flows_uninserted;
  std::vector<double> syns;
  for (uint32_t i = 0; i < options_.bursts; ++i) {
    generate_syns();
    syns.push_back(static_cast<double>(forward()));
  }
  if (worker_->counters().flows_uninserted - before != uint64_t{options_.bursts} * kBurstSize)
    throw std::runtime_error("the table was not full");
  return (median(syns) - bare_) / kBurstSize;
}

void Run::fill_table() {
  WorkerConfig config;
  config.flows = row_.flows + (row_.what == What::full ? 0 : std::clamp(row_.flows / 4, kLeastNew, kMostNew));
  config.tsc_hz = rte_get_tsc_hz();
  config.pool = pool_;
  config.huge_pages = huge_pages_;
  if (row_.by_stage) config.stages = &stages_;
  worker_ = std::make_unique<Worker>(config);
  worker_->prepare(*table_);
  while (next_new_ < row_.flows) open_burst();
  send_later_packets(1);
  next_limit_ = config.flows - kBurstSize;
  shuffle_ = Shuffle(row_.flows);
}

// Lets the flows expire that were opened beside those that stay.
void Run::start_over() {
  send_later_packets(kExpirySeconds);
  for (uint64_t i = 0; worker_->counters().flows > row_.flows; ++i, now_ += rte_get_tsc_hz()) {
    if (i > row_.flows + kMostNew) throw std::runtime_error("flows do not expire");
    worker_->sweep(*table_, now_);
  }
  next_new_ = row_.flows;
}

// The handshake of the next flows.
void Run::open_burst() {
  // `last_` holds what the SYNs became.
  const uint32_t n = std::min(kBurstSize, row_.flows - next_new_);
  send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write(m, next_new_ + i, test::kSynFlag); });
  if (row_.mode == Mode::nat) {
    for (uint32_t i = 0; i < n; ++i) writer_.learn(last_[i], next_new_ + i);
    send(n, [&](rte_mbuf* m, uint32_t i) {
      writer_.write_reply(m, next_new_ + i, true);
      if (row_.has_header) acknowledge_lowered_syn(m);
    });
  }
  send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write(m, next_new_ + i, test::kAckFlag); });
  // Acknowledges the header.
  if (row_.has_header)
    send(n, [&](rte_mbuf* m, uint32_t i) { writer_.write_reply(m, next_new_ + i, false); });
  next_new_ += n;
}

// One of every flow that stays, so many seconds later: ends probation.
void Run::send_later_packets(uint32_t seconds) {
  now_ += seconds * rte_get_tsc_hz();
  for (uint32_t flow = 0; flow < row_.flows; flow += kBurstSize) {
    send(std::min(kBurstSize, row_.flows - flow),
         [&](rte_mbuf* m, uint32_t i) { writer_.write(m, flow + i, test::kAckFlag); });
  }
}

template <typename Write>
void Run::send(uint32_t n, const Write& write) {
  fill(n, write);
  forward();
}
template <typename Write>
void Run::fill(uint32_t n, const Write& write) {
  rte_mbuf* packets[kBurstSize];
  if (device_.take_buffers(packets, n) != n) throw std::runtime_error("the device has lost buffers");
  for (uint32_t i = 0; i < n; ++i) write(packets[i], i);
  device_.arrive(packets, n);
}

// Packets to measure.
void Run::generate(uint32_t bursts) {
  if (row_.what == What::opening && next_new_ + bursts * kBurstSize > next_limit_) {
    check();
    start_over();
  }
  for (uint32_t b = 0; b < bursts; ++b) {
    fill(kBurstSize, [&](rte_mbuf* m, uint32_t) {
      if (row_.what == What::opening) return writer_.write(m, next_new_++, test::kSynFlag);
      const uint32_t flow = shuffle_.next();
      row_.what == What::reply ? writer_.write_reply(m, flow, false) : writer_.write(m, flow, test::kAckFlag);
    });
  }
}

void Run::generate_syns() {
  fill(kBurstSize, [&](rte_mbuf* m, uint32_t) { writer_.write(m, next_new_++, test::kSynFlag); });
}

// One turn of a worker's loop. The worker's clock runs with the timed parts alone, as if packets came back
// to back.
uint64_t Run::forward() {
  const bool is_noted = is_timed_ && row_.by_stage;
  const uint64_t begin = rte_rdtsc_precise();
  rte_mbuf* packets[kBurstSize];
  const uint32_t n = device_.receive(packets, kBurstSize);
  worker_->process(packets, n, table_.get(), now_);
  if (is_noted) stages_.begin();
  flush();
  if (is_noted) note_stages();
  worker_->sweep(*table_, now_);
  const uint64_t end = rte_rdtsc_precise(), cycles = end - begin;
  if (is_noted) by_stage_[kStages + 1].push_back(static_cast<double>(end - stages_.last));
  now_ += cycles;
  forwarded_ += n;
  return cycles;
}

// What the stages took, and transmitting.
void Run::note_stages() {
  for (uint32_t i = 0; i < kStages; ++i) by_stage_[i].push_back(static_cast<double>(stages_.cycles[i]));
  const uint64_t now = rte_rdtsc_precise();
  by_stage_[kStages].push_back(static_cast<double>(now - stages_.last));
  stages_.last = now;
}

void Run::flush() {
  Output& output = worker_->output();
  PacketBuffer& out = output.ports[0];
  device_.transmit(out.packets.data(), out.count);
  std::copy_n(out.packets.data(), row_.mode == Mode::nat && next_new_ < row_.flows ? out.count : 0, last_);
  out.count = 0;
  output.ports_used = 0;
}

uint64_t Run::pass_on() {
  const uint64_t begin = rte_rdtsc_precise();
  rte_mbuf* packets[kBurstSize];
  device_.transmit(packets, device_.receive(packets, kBurstSize));
  const uint64_t cycles = rte_rdtsc_precise() - begin;
  if (row_.what == What::opening) next_new_ -= kBurstSize;  // not opened: next time
  return cycles;
}

// All packets were forwarded, and as what they were meant to be.
void Run::check() const {
  const WorkerCounters& c = worker_->counters();
  const uint64_t flows = row_.what == What::opening ? next_new_ : row_.flows;
  if (c.forwarded != forwarded_) throw std::runtime_error("not all packets were forwarded");
  if (c.flows != flows)
    throw std::runtime_error(std::to_string(c.flows) + " of " + std::to_string(flows) +
                             " flows are remembered");
  if (c.services[1].missed + c.services[2].missed != 0) throw std::runtime_error("flows were missed");
}

}  // namespace portico::bench
