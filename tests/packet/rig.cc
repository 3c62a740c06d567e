// SPDX-License-Identifier: Apache-2.0
#include "tests/packet/rig.h"

#include <gtest/gtest.h>
#include <rte_eal.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include <stdexcept>

#include "contract/table_build.h"
#include "contract/validate.h"
#include "dataplane/prepare.h"
#include "tests/support/sample_table.h"

namespace portico::test {

namespace {

constexpr uint64_t kHz = 1'000'000;

rte_mempool* start_dpdk() {
  static char name[] = "packet-test", no_huge[] = "--no-huge", memory[] = "-m256", no_files[] = "--no-shconf",
              no_pci[] = "--no-pci", no_telemetry[] = "--no-telemetry", log[] = "--log-level=error",
              core[] = "-l0";
  char* arguments[] = {name, no_huge, memory, no_files, no_pci, no_telemetry, log, core};
  if (rte_eal_init(std::size(arguments), arguments) < 0) throw std::runtime_error("EAL does not start");
  return rte_pktmbuf_pool_create("packets", 4095, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
}

}  // namespace

NextHopRecord hop(const char* address, uint8_t last_mac_byte) {
  NextHopRecord h = sample_next_hop(test::address(address));
  h.mac[5] = last_mac_byte;
  return h;
}

namespace {

rte_mbuf* mbuf_of(const Bytes& frame, uint16_t headroom) {
  rte_mbuf* const m = rte_pktmbuf_alloc(packet_pool());
  if (m == nullptr) throw std::runtime_error("no packet buffer");
  m->data_off = headroom;
  std::memcpy(rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
  m->port = 0;
  return m;
}

Bytes bytes_of(const rte_mbuf* m) {
  const auto* const data = rte_pktmbuf_mtod(m, const uint8_t*);
  return Bytes(data, data + m->data_len);
}

}  // namespace

rte_mempool* packet_pool() {
  static rte_mempool* const pool = start_dpdk();
  return pool;
}

TableContent usual_content() {
  TableContent c;
  c.config_version = 1;
  c.settings = sample_settings();
  c.settings.reset_rate = 100000;
  PortRecord port{};
  set_text(port.name, "port0");
  port.queues = 1;
  port.mtu = 1500;
  c.ports = {port};
  c.services = {sample_service(1, 1), sample_service(2, 1)};
  c.services[0].mode = static_cast<uint8_t>(Mode::dsr_l2);
  c.listeners = {{address(kVip4), kDsr, 1, 0},
                 {address(kVip4), kNat, 2, 0},
                 {address(kVip6), kDsr, 1, 0},
                 {address(kVip6), kNat, 2, 0}};
  std::sort(c.listeners.begin(), c.listeners.end(), [](const auto& a, const auto& b) {
    return std::pair(a.address, a.port) < std::pair(b.address, b.port);
  });
  c.pools = {sample_pool(1, 1, 3, 251)};
  c.pools[0].record.backend_count = c.pools[0].record.usable_count = 3;
  c.next_hops = {hop("198.18.0.1", 1)};
  for (uint16_t i = 1; i <= 3; ++i) {
    BackendRecord& b = c.pools[0].backends[i - 1u];
    b.address_v4 = address(("198.18.1." + std::to_string(i)).c_str());
    b.address_v6 = address(("2001:db8:1::" + std::to_string(i)).c_str());
    b.next_hop_v4 = b.next_hop_v6 = i;
    c.next_hops.push_back(hop(("198.18.1." + std::to_string(i)).c_str(), static_cast<uint8_t>(0x10 + i)));
  }
  c.routes = {{address("::"), 0, 0, 0, 0, 0}, {address("0.0.0.0"), 0, 0, 0, 0, 0}};
  c.nat = {{address(kNat4), 1024, 65535, 0}, {address(kNat6), 1024, 65535, 0}};
  return c;
}

void aim_at(TableContent& content, uint16_t backend) {
  for (uint16_t& slot : content.pools[0].lookup) slot = backend;
}

std::shared_ptr<const Snapshot> snapshot_of(const TableContent& content, const Snapshot* before) {
  static uint64_t generation = 0;
  auto s = std::make_shared<Snapshot>();
  s->generation = ++generation;
  s->epoch = 1;
  const auto pool_of = [&](uint16_t id) -> Snapshot::Pool& {
    for (auto& pool : s->pools) {
      if (pool.record->ref.id == id) return pool;
    }
    throw std::logic_error("a block of a pool before the pool");
  };
  for (const auto& block : build_blocks(content, before).all) {
    switch (static_cast<BlockKind>(block->ref.kind)) {
      case BlockKind::settings:
        s->settings = block;
        break;
      case BlockKind::ports:
        s->ports = block;
        break;
      case BlockKind::services:
        s->services = block;
        break;
      case BlockKind::listeners:
        s->listeners = block;
        break;
      case BlockKind::next_hops:
        s->next_hops = block;
        break;
      case BlockKind::routes:
        s->routes = block;
        break;
      case BlockKind::access:
        s->access = block;
        break;
      case BlockKind::nat:
        s->nat = block;
        break;
      case BlockKind::vlans:
        s->vlans = block;
        break;
      case BlockKind::own:
        s->own = block;
        break;
      case BlockKind::pool:
        s->pools.push_back({block, nullptr, nullptr, nullptr});
        break;
      case BlockKind::backends:
        pool_of(block->ref.id).backends = block;
        break;
      case BlockKind::lookup:
        pool_of(block->ref.id).lookup = block;
        break;
      case BlockKind::fallback:
        pool_of(block->ref.id).fallback = block;
        break;
    }
  }
  if (const auto wrong = validate(*s)) throw std::invalid_argument(*wrong);
  return s;
}

bool may_use_vectors() {
  const char* const choice = std::getenv("PORTICO_TEST_VECTORS");
  return choice == nullptr || *choice != '0';
}

// The store's clock is the rig's: as if both had begun when the machine did.
Rig::Rig(const TableContent& content, const RigOptions& options)
    : now_(options.now), headroom_(options.headroom) {
  if (!options.keep.empty()) {
    store_ = std::make_unique<FlowStore>(
        FlowStoreRequest{options.keep, options.keep / "tables", options.workers, options.flows, now_ns()});
    store_->note_rss(options.rss_digest);
    tick_offset_ = store_->tick_offset(Clock(kHz), now_, now_ns());
  }
  buffers_before_ = rte_mempool_in_use_count(packet_pool());
  for (uint32_t i = 0; i < options.workers; ++i) {
    WorkerConfig config;
    config.index = i;
    config.worker_count = options.workers;
    config.flows = options.flows;
    config.tsc_hz = kHz;
    config.huge_pages = false;
    config.vectors = may_use_vectors();
    config.kernel_ports = options.kernel_ports;
    config.promiscuous_ports = options.promiscuous_ports;
    config.macs.fill({2, 0, 0, 0, 0, 2});
    config.pool = packet_pool();
    config.spreads = options.spreads;
    config.store = store_.get();
    config.tick_offset = tick_offset_;
    workers_.push_back(std::make_unique<Worker>(config));
  }
  adopt(content);
}

Rig::~Rig() {
  workers_.clear();
  EXPECT_EQ(rte_mempool_in_use_count(packet_pool()), buffers_before_) << "packet buffers leak";
}

void Rig::adopt(const TableContent& content) {
  adopt(snapshot_of(content, table_ ? &table_->snapshot() : nullptr));
}

void Rig::adopt(const std::shared_ptr<const Snapshot>& snapshot) {
  const auto next = build_table(snapshot, table_.get());
  std::vector<Worker*> workers;
  for (auto& worker : workers_) workers.push_back(worker.get());
  if (table_ == nullptr) {
    prepare_workers(workers, *next, store_.get(), now_);
  } else {
    if (store_ != nullptr) store_->note_backends(*next);
    for (Worker* worker : workers) worker->prepare(*next);
  }
  table_ = next;
}

uint64_t Rig::now_ns() const {
  return now_ * 1000;
}
void Rig::note_alive() {
  if (store_ != nullptr) store_->note_alive(now_ns(), Clock(kHz, tick_offset_).tick(now_));
}

void Rig::collect(std::vector<Seen>& out) {
  for (auto& worker : workers_) {
    Output& output = worker->output();
    for (uint32_t port = 0; port < kMaxPorts; ++port) {
      PacketBuffer& buffer = output.ports[port];
      EXPECT_EQ(buffer.count > 0, (output.ports_used >> port & 1) != 0);
      for (uint32_t i = 0; i < buffer.count; ++i) {
        out.push_back(read_frame(bytes_of(buffer.packets[i])));
        out.back().port = static_cast<uint8_t>(port);
      }
      rte_pktmbuf_free_bulk(buffer.packets.data(), buffer.count);
      buffer.count = 0;
    }
    output.ports_used = 0;
    kernel_packets_ += output.kernel.count;
    rte_pktmbuf_free_bulk(output.kernel.packets.data(), output.kernel.count);
    output.kernel.count = 0;
  }
}

bool Rig::deliver_handed_over() {
  bool any = false;
  for (auto& from : workers_) {
    for (uint32_t to = 0; to < workers_.size(); ++to) {
      PacketBuffer& buffer = from->output().workers[to];
      if (buffer.count == 0) continue;
      std::vector<rte_mbuf*> packets(buffer.packets.begin(), buffer.packets.begin() + buffer.count);
      buffer.count = 0;
      from->output().workers_used &= ~(uint64_t{1} << to);
      received_ += packets.size();
      workers_[to]->process_handed_over(packets.data(), static_cast<uint32_t>(packets.size()), table_.get(),
                                        now_);
      any = true;
    }
  }
  return any;
}

// Every packet has one verdict, and fragments that of what they became.
void Rig::check_balance() {
  uint64_t verdicts = total(&WorkerCounters::forwarded) + total(&WorkerCounters::to_kernel) +
                      total(&WorkerCounters::handed_over) + total(&WorkerCounters::fragments_held) +
                      total(&WorkerCounters::fragments_joined) - total(&WorkerCounters::reassembled);
  for (uint32_t i = 0; i < kDropReasonCount; ++i) verdicts += drops(static_cast<DropReason>(i));
  EXPECT_EQ(verdicts, received_ + drops(DropReason::no_mbuf) + total(&WorkerCounters::waited_in_vain));
}

std::vector<Seen> Rig::send(const std::vector<Bytes>& frames, uint32_t worker) {
  std::vector<Seen> out;
  note_alive();
  for (size_t first = 0; first < frames.size(); first += kBurstSize) {
    std::vector<rte_mbuf*> burst;
    for (size_t i = first; i < std::min<size_t>(frames.size(), first + kBurstSize); ++i)
      burst.push_back(mbuf_of(frames[i], headroom_));
    received_ += burst.size();
    workers_[worker]->process(burst.data(), static_cast<uint32_t>(burst.size()), table_.get(), now_);
    collect(out);
    while (deliver_handed_over()) collect(out);
  }
  check_balance();
  return out;
}

Seen Rig::send_one(const Bytes& frame, uint32_t worker) {
  const auto out = send(frame, worker);
  if (out.size() != 1) throw std::runtime_error(std::to_string(out.size()) + " frames instead of one");
  return out[0];
}

std::vector<Seen> Rig::sweep_ms(uint64_t ms) {
  std::vector<Seen> out;
  for (uint64_t passed = 0; passed < ms; passed += 10) {
    advance_ms(10);
    note_alive();
    for (auto& worker : workers_) worker->sweep(*table_, now_);
    collect(out);
  }
  return out;
}

uint64_t Rig::total(uint64_t WorkerCounters::*counter) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().*counter;
  return sum;
}
uint64_t Rig::drops(DropReason reason) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().drops[static_cast<uint32_t>(reason)];
  return sum;
}
uint64_t Rig::lost(FlowLoss loss) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().flows_lost[static_cast<uint32_t>(loss)];
  return sum;
}
uint64_t Rig::of_service(uint16_t id, uint64_t ServiceFeedback::*counter) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().services[id].*counter;
  return sum;
}
uint64_t Rig::of_backend(uint16_t id, uint64_t BackendFeedback::*counter) const {
  uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().backends[id].*counter;
  return sum;
}

}  // namespace portico::test
