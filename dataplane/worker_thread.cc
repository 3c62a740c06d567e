// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker_thread.h"

#include <pthread.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <bit>

#include "dataplane/log.h"

namespace portico {
namespace {

// Lets nanosleep wake within a microsecond of what was asked; the default is 50.
constexpr unsigned long kTimerSlackNs = 1000;

void pin_to(int cpu) {
  cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpu) + 1);
  if (set == nullptr) return;
  const size_t size = CPU_ALLOC_SIZE(static_cast<size_t>(cpu) + 1);
  CPU_ZERO_S(size, set);
  CPU_SET_S(static_cast<size_t>(cpu), size, set);
  if (pthread_setaffinity_np(pthread_self(), size, set) != 0) {
    log_warning("cannot pin a worker to CPU " + std::to_string(cpu) + "; it floats");
  }
  CPU_FREE(set);
}

void add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

void free_rest(PacketBuffer& buffer, uint32_t done) {
  rte_pktmbuf_free_bulk(buffer.packets.data() + done, buffer.count - done);
}

}  // namespace

WorkerThread::WorkerThread(const WorkerConfig& config, int cpu, std::vector<uint16_t> ports,
                           HandoverRings* rings, HostPath* host)
    : index_(config.index),
      cpu_(cpu),
      ports_(std::move(ports)),
      rings_(rings),
      host_(host),
      worker_(config) {}

WorkerThread::~WorkerThread() {
  stop();
}

void WorkerThread::start() {
  stop_.store(false, std::memory_order_relaxed);
  thread_ = std::thread([this] { run(); });
}

void WorkerThread::stop() {
  stop_.store(true, std::memory_order_relaxed);
  if (thread_.joinable()) thread_.join();
}

void WorkerThread::run() {
  pthread_setname_np(pthread_self(), ("portico-w" + std::to_string(index_)).c_str());
  if (cpu_ >= 0) pin_to(cpu_);
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs, 0, 0, 0);
  // Registered threads have a buffer cache of their own in every mempool.
  if (rte_thread_register() != 0)
    log_warning("DPDK does not register a worker; it runs without buffer cache");
  loop();
  rte_thread_unregister();
}

void WorkerThread::loop() {
  uint64_t before = rte_rdtsc();
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint64_t now = rte_rdtsc();
    status_.heartbeat_tsc.store(now, std::memory_order_relaxed);
    const Table* table = take_table();

    uint32_t packets = receive(table, now);
    packets += receive_handed_over(table, now);
    packets += receive_from_kernel();
    if (table != nullptr) {
      worker_.sweep(*table, now);
      send();
      worker_.answer_mailbox(*table, now);
    }
    if (packets == 0) {
      rest(table);
    } else {
      idle_.reset();
      add(status_.busy_cycles, rte_rdtsc() - now);
    }
    add(status_.total_cycles, now - before);
    before = now;
  }
  publish(nullptr);
  take_table();
}

// Nothing of the turn before is in use any more, so acknowledging the new table releases the old one.
const Table* WorkerThread::take_table() {
  const Table* table = published_.load(std::memory_order_acquire);
  if (table != status_.table.load(std::memory_order_relaxed)) {
    status_.table.store(table, std::memory_order_release);
  }
  return table;
}

uint32_t WorkerThread::receive(const Table* table, uint64_t now) {
  rte_mbuf* packets[kBurstSize];
  uint32_t total = 0;
  for (uint32_t port = 0; port < ports_.size(); ++port) {
    const uint32_t n = rte_eth_rx_burst(ports_[port], static_cast<uint16_t>(index_), packets, kBurstSize);
    if (n == 0) continue;
    // DPDK numbers PCI devices before virtual ones, and ring ports leave the number as it was.
    for (uint32_t i = 0; i < n; ++i) packets[i]->port = static_cast<uint16_t>(port);
    worker_.process(packets, n, table, now);
    send();
    total += n;
  }
  if (total != 0) add(status_.rx_packets, total);
  return total;
}

uint32_t WorkerThread::receive_handed_over(const Table* table, uint64_t now) {
  if (rings_ == nullptr) return 0;
  rte_mbuf* packets[kBurstSize];
  uint32_t total = 0;
  for (uint32_t from = 0; from < rings_->workers(); ++from) {
    if (from == index_) continue;
    const uint32_t n = rings_->take(from, index_, packets, kBurstSize);
    if (n == 0) continue;
    worker_.process_handed_over(packets, n, table, now);
    send();
    total += n;
  }
  return total;
}

// What the kernel sends by a port that DPDK drives alone goes out as it is.
uint32_t WorkerThread::receive_from_kernel() {
  if (host_ == nullptr) return 0;
  rte_mbuf* packets[kBurstSize];
  const uint32_t n = host_->take(index_, packets, kBurstSize);
  Output& output = worker_.output();
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t port = packets[i]->port;
    PacketBuffer& buffer = output.ports[port];
    buffer.packets[buffer.count++] = packets[i];
    output.ports_used |= uint64_t{1} << port;
  }
  if (n != 0) send();
  return n;
}

void WorkerThread::send() {
  Output& output = worker_.output();
  for (uint64_t used = output.ports_used; used != 0; used &= used - 1) {
    const auto port = static_cast<uint32_t>(std::countr_zero(used));
    send_to_port(port, output.ports[port]);
  }
  for (uint64_t used = output.workers_used; used != 0; used &= used - 1) {
    const auto to = static_cast<uint32_t>(std::countr_zero(used));
    hand_over(to, output.workers[to]);
  }
  if (output.kernel.count != 0) give_to_kernel(output.kernel);
  output.ports_used = 0;
  output.workers_used = 0;
}

void WorkerThread::send_to_port(uint32_t port, PacketBuffer& buffer) {
  uint32_t sent = 0;
  if (port < ports_.size()) {
    while (sent < buffer.count) {
      const uint16_t taken =
          rte_eth_tx_burst(ports_[port], static_cast<uint16_t>(index_), buffer.packets.data() + sent,
                           static_cast<uint16_t>(buffer.count - sent));
      if (taken == 0) break;
      sent += taken;
    }
  }
  if (sent < buffer.count) {
    free_rest(buffer, sent);
    // A port that a new configuration names takes a restart to exist.
    worker_.count_drops(port < ports_.size() ? DropReason::tx_full : DropReason::no_route,
                        buffer.count - sent);
  }
  add(status_.tx_packets, sent);
  buffer.count = 0;
}

void WorkerThread::hand_over(uint32_t to, PacketBuffer& buffer) {
  const bool is_known = rings_ != nullptr && to < rings_->workers() && to != index_;
  const uint32_t given = is_known ? rings_->give(index_, to, buffer.packets.data(), buffer.count) : 0;
  if (given < buffer.count) {
    free_rest(buffer, given);
    worker_.count_drops(DropReason::handover_full, buffer.count - given);
  }
  buffer.count = 0;
}

void WorkerThread::give_to_kernel(PacketBuffer& buffer) {
  const uint32_t left =
      host_ != nullptr ? host_->give(index_, buffer.packets.data(), buffer.count) : buffer.count;
  if (left > 0) {
    rte_pktmbuf_free_bulk(buffer.packets.data(), left);
    worker_.count_drops(DropReason::kernel_full, left);
  }
  buffer.count = 0;
}

void WorkerThread::rest(const Table* table) {
  const bool may_sleep =
      table == nullptr || static_cast<IdleMode>(table->settings().idle) == IdleMode::adaptive;
  const uint32_t sleep_ns = may_sleep ? idle_.next_sleep_ns() : 0;
  if (sleep_ns == 0) {
    rte_pause();
    return;
  }
  const timespec duration{0, static_cast<long>(sleep_ns)};
  nanosleep(&duration, nullptr);
  add(status_.sleeps, 1);
}

}  // namespace portico
