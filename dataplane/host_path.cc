// SPDX-License-Identifier: Apache-2.0
#include "dataplane/host_path.h"

#include <poll.h>
#include <pthread.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "dataplane/log.h"
#include "dataplane/note.h"
#include "dataplane/worker.h"

namespace portico {
namespace {

constexpr uint32_t kHostRingSize = 1024;  // slots; power of two
static_assert(kClaimedUrgentBurst <= kHostRingSize / 2, "forged sources leave room for what is certain");
constexpr int kLongestSleepMs = 100;  // and how often links are looked at
constexpr int kBufferWaitMs = 1;      // until the pool is asked again
constexpr uint64_t kLinkIntervalNs = uint64_t{kLongestSleepMs} * 1'000'000;

rte_ring* create_ring(const std::string& name) {
  rte_ring* ring = rte_ring_create(name.c_str(), kHostRingSize, -1, RING_F_SP_ENQ | RING_F_SC_DEQ);
  if (ring != nullptr) return ring;
  throw std::runtime_error("no memory for the rings to the kernel: " + std::string(rte_strerror(rte_errno)) +
                           "; reserve more huge pages (scripts/setup)");
}

void add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

}  // namespace

HostPath::HostPath(const std::string& name, std::vector<std::unique_ptr<HostDevice>> devices,
                   uint32_t workers, rte_mempool* pool)
    : devices_(std::move(devices)),
      pool_(pool),
      told_links_(devices_.size(), -1),
      is_gone_(devices_.size(), false),
      wakeup_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (!wakeup_.is_open()) throw std::runtime_error("no eventfd for the way to the kernel");
  for (size_t i = 0; i < devices_.size(); ++i) ports_ |= uint64_t{devices_[i] != nullptr} << i;
  try {
    for (uint32_t i = 0; i < workers; ++i) {
      urgent_.push_back(create_ring(name + "-first-" + std::to_string(i)));
      to_kernel_.push_back(create_ring(name + "-to-" + std::to_string(i)));
      from_kernel_.push_back(create_ring(name + "-from-" + std::to_string(i)));
    }
  } catch (...) {
    free_rings();
    throw;
  }
}

HostPath::~HostPath() {
  stop();
  free_rings();
}

void HostPath::free_rings() {
  for (auto* rings : {&urgent_, &to_kernel_, &from_kernel_}) {
    for (rte_ring* ring : *rings) {
      void* packet = nullptr;
      while (rte_ring_sc_dequeue(ring, &packet) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      rte_ring_free(ring);
    }
    rings->clear();
  }
}

void HostPath::start() {
  stop_.store(false, std::memory_order_relaxed);
  thread_ = std::thread([this] { run(); });
}

void HostPath::stop() {
  stop_.store(true, std::memory_order_relaxed);
  if (!thread_.joinable()) return;
  eventfd_write(wakeup_.fd(), 1);
  thread_.join();
}

uint32_t HostPath::give(uint32_t from, rte_mbuf** packets, uint32_t count) {
  uint32_t left = 0;
  for (uint32_t i = 0; i < count; ++i) {
    rte_ring* const ring = Note::read(packets[i]).goes_first() ? urgent_[from] : to_kernel_[from];
    if (rte_ring_sp_enqueue(ring, packets[i]) != 0) packets[left++] = packets[i];
  }
  // Either we see that the thread goes to sleep, or it sees our packets before it does: one of the two fences
  // comes first.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (sleeps_.load(std::memory_order_relaxed)) {
    sleeps_.store(false, std::memory_order_relaxed);
    eventfd_write(wakeup_.fd(), 1);
  }
  return left;
}

void HostPath::run() {
  pthread_setname_np(pthread_self(), "portico-host");
  if (rte_thread_register() != 0) log_warning("DPDK does not register the thread to the kernel");
  while (!stop_.load(std::memory_order_relaxed)) {
    const bool any_out = to_kernel(), any_in = from_kernel();
    tell_links();
    if (!any_out && !any_in) sleep();
  }
  rte_thread_unregister();
}

// A burst of each ring in turn: what is urgent waits for no more than one burst of the rest per worker.
bool HostPath::to_kernel() {
  const bool any_urgent = drain(urgent_);
  return drain(to_kernel_) || any_urgent;
}

bool HostPath::drain(const std::vector<rte_ring*>& rings) {
  rte_mbuf* packets[kBurstSize];
  bool any = false;
  for (rte_ring* ring : rings) {
    const uint32_t n =
        rte_ring_sc_dequeue_burst(ring, reinterpret_cast<void**>(packets), kBurstSize, nullptr);
    if (n == 0) continue;
    any = true;
    deliver(packets, n);
    rte_pktmbuf_free_bulk(packets, n);
  }
  return any;
}

// In runs of one port each.
void HostPath::deliver(rte_mbuf** packets, uint32_t count) {
  for (uint32_t start = 0; start < count;) {
    const uint16_t port = packets[start]->port;
    uint32_t end = start + 1;
    while (end < count && packets[end]->port == port) ++end;
    const bool is_known = port < devices_.size() && devices_[port] != nullptr;
    const uint32_t taken = is_known ? devices_[port]->write(packets + start, end - start) : 0;
    add(counters_.delivered, taken);
    add(counters_.refused, end - start - taken);
    start = end;
  }
}

// A port's frames all go by one worker, so that their order stays.
bool HostPath::from_kernel() {
  rte_mbuf* packets[kBurstSize];
  bool any = false;
  lacks_buffers_ = false;
  for (uint32_t port = 0; port < devices_.size(); ++port) {
    if (devices_[port] == nullptr) continue;
    const auto [n, lacks_buffers, too_large] = devices_[port]->read(pool_, packets, kBurstSize);
    add(counters_.too_large, too_large);
    lacks_buffers_ |= lacks_buffers && has_frame(port);
    if (n == 0) continue;
    any = true;
    for (uint32_t i = 0; i < n; ++i) packets[i]->port = static_cast<uint16_t>(port);
    rte_ring* const ring = from_kernel_[port % from_kernel_.size()];
    const uint32_t given = rte_ring_sp_enqueue_burst(ring, reinterpret_cast<void**>(packets), n, nullptr);
    rte_pktmbuf_free_bulk(packets + given, n - given);
    add(counters_.from_kernel, given);
    add(counters_.lost, n - given);
  }
  return any;
}

bool HostPath::has_frame(uint32_t port) const {
  pollfd wanted = {devices_[port]->fd(), POLLIN, 0};
  return !is_gone_[port] && poll(&wanted, 1, 0) > 0 && (wanted.revents & POLLIN) != 0;
}

bool HostPath::is_idle() const {
  const auto is_empty = [](rte_ring* r) { return rte_ring_empty(r) != 0; };
  return std::all_of(urgent_.begin(), urgent_.end(), is_empty) &&
         std::all_of(to_kernel_.begin(), to_kernel_.end(), is_empty);
}

void HostPath::sleep() {
  sleeps_.store(true, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (is_idle()) {
    // poll(2) passes over negative descriptors. Without a buffer, a frame that waits is no reason to wake.
    if (lacks_buffers_) add(counters_.waits, 1);
    std::vector<pollfd> wanted = {{wakeup_.fd(), POLLIN, 0}};
    for (uint32_t port = 0; port < devices_.size(); ++port) {
      const bool is_wanted = devices_[port] != nullptr && !is_gone_[port] && !lacks_buffers_;
      wanted.push_back({is_wanted ? devices_[port]->fd() : -1, POLLIN, 0});
    }
    poll(wanted.data(), wanted.size(), lacks_buffers_ ? kBufferWaitMs : kLongestSleepMs);
    for (uint32_t port = 0; port < devices_.size(); ++port)
      if ((wanted[1 + port].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) give_up(port);
  }
  sleeps_.store(false, std::memory_order_relaxed);
  eventfd_t ignored;
  eventfd_read(wakeup_.fd(), &ignored);
}

// Its descriptor is ready for ever, which would keep the thread from sleeping.
void HostPath::give_up(uint32_t port) {
  is_gone_[port] = true;
  log_warning("the kernel's side of port " + std::to_string(port) +
              " was deleted: what is the kernel's is lost there until the dataplane is restarted");
}

void HostPath::tell_links() {
  const uint64_t now_ns = monotonic_ns();
  if (now_ns < next_links_ns_) return;
  next_links_ns_ = now_ns + kLinkIntervalNs;
  const uint64_t links = links_.load(std::memory_order_relaxed);
  for (uint32_t port = 0; port < devices_.size(); ++port) {
    if (devices_[port] == nullptr) continue;
    const int is_up = static_cast<int>(links >> port & 1);
    if (is_up == told_links_[port]) continue;
    devices_[port]->set_link(is_up != 0);
    told_links_[port] = is_up;
  }
}

}  // namespace portico
