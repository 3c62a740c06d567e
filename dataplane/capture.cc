// SPDX-License-Identifier: Apache-2.0
#include "dataplane/capture.h"

#include <poll.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>
#include <rte_pcapng.h>
#include <rte_ring.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <csignal>
#include <cstring>

#include "dataplane/clock.h"
#include "dataplane/log.h"

namespace portico {

namespace {

constexpr uint32_t kCaptureBurst = 32;
constexpr size_t kBufferMemory = 32 << 20;  // bytes at most
constexpr auto kPause = std::chrono::milliseconds(2);
constexpr auto kWorkerPatience = std::chrono::seconds(1);

// What one worker and the writing thread share. The worker alone puts packets in and counts.
struct alignas(64) Lane {
  WorkerThread* worker = nullptr;
  const CaptureFilter* filter = nullptr;
  rte_mempool* pool = nullptr;
  rte_ring* ring = nullptr;
  uint32_t snap = 0;
  std::unique_ptr<TokenBucket> bucket;
  std::atomic<uint64_t> missed_rate{0}, missed_full{0};  // relaxed
};

void count(std::atomic<uint64_t>& counter) {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// On the worker's thread, as part of its burst.
void take(Lane& lane, uint16_t port, uint16_t queue, rte_mbuf** packets, uint16_t n,
          rte_pcapng_direction direction) {
  const Table* const table = lane.worker->status().table.load(std::memory_order_relaxed);
  if (table == nullptr) return;
  const uint64_t now = rte_rdtsc();
  for (uint16_t i = 0; i < n; ++i) {
    const rte_mbuf* const packet = packets[i];
    const std::span frame(rte_pktmbuf_mtod(packet, const uint8_t*), rte_pktmbuf_data_len(packet));
    if (!lane.worker->worker().is_captured(*lane.filter, *table, frame)) continue;
    if (!lane.bucket->take(now, kCaptureRate)) {
      count(lane.missed_rate);
      continue;
    }
    rte_mbuf* const copy = rte_pcapng_copy(port, queue, packet, lane.pool, lane.snap, now, direction);
    if (copy != nullptr && rte_ring_sp_enqueue(lane.ring, copy) == 0) continue;
    rte_pktmbuf_free(copy);
    count(lane.missed_full);
  }
}

uint16_t on_receive(uint16_t port, uint16_t queue, rte_mbuf** packets, uint16_t n, uint16_t, void* lane) {
  take(*static_cast<Lane*>(lane), port, queue, packets, n, RTE_PCAPNG_DIRECTION_IN);
  return n;
}

uint16_t on_send(uint16_t port, uint16_t queue, rte_mbuf** packets, uint16_t n, void* lane) {
  take(*static_cast<Lane*>(lane), port, queue, packets, n, RTE_PCAPNG_DIRECTION_OUT);
  return n;
}

// In ordinary memory: huge pages are for the packets that are forwarded.
rte_mempool* create_buffers(uint32_t snap) {
  const auto room = static_cast<uint16_t>(rte_pcapng_mbuf_size(snap) + RTE_PKTMBUF_HEADROOM);
  const uint32_t size = static_cast<uint32_t>(sizeof(rte_mbuf)) + room;
  const auto buffers = static_cast<uint32_t>(std::min<size_t>(kCaptureBuffers, kBufferMemory / size));
  rte_mempool* const pool =
      rte_mempool_create_empty("capture", buffers, size, 0, sizeof(rte_pktmbuf_pool_private), SOCKET_ID_ANY,
                               RTE_MEMPOOL_F_NO_IOVA_CONTIG);
  if (pool == nullptr) return nullptr;
  rte_pktmbuf_pool_private settings{};
  settings.mbuf_data_room_size = room;
  rte_pktmbuf_pool_init(pool, &settings);
  if (rte_mempool_populate_anon(pool) <= 0) {
    rte_mempool_free(pool);
    return nullptr;
  }
  rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
  return pool;
}

bool is_reader_gone(int fd) {
  pollfd state{fd, POLLIN | POLLRDHUP, 0};
  return poll(&state, 1, 0) != 0;
}

}  // namespace

struct Capture::Session {
  CaptureOrder order;
  FileHandle reader;
  rte_mempool* pool = nullptr;
  std::vector<std::unique_ptr<Lane>> lanes;
  struct Callback {
    uint16_t port, queue;
    const rte_eth_rxtx_callback *receive, *send;
  };
  std::vector<Callback> callbacks;
  std::atomic<bool> stop{false}, is_done{false};
  std::atomic<uint64_t> written{0}, bytes{0};
  const char* ended = "";  // valid once is_done, as is the next
  bool is_in_use = false;  // a worker may still be in a callback: never to be freed

  ~Session() {
    for (const auto& lane : lanes) {
      void* packet = nullptr;
      while (lane->ring != nullptr && rte_ring_sc_dequeue(lane->ring, &packet) == 0)
        rte_pktmbuf_free(static_cast<rte_mbuf*>(packet));
      rte_ring_free(lane->ring);
    }
    rte_mempool_free(pool);
  }

  // "" or what is missing.
  std::string prepare(const std::vector<WorkerThread*>& workers) {
    pool = create_buffers(order.limits.snap);
    if (pool == nullptr) return std::string("no memory for packets: ") + rte_strerror(rte_errno);
    for (WorkerThread* worker : workers) {
      auto lane = std::make_unique<Lane>();
      lane->worker = worker;
      lane->filter = &order.filter;
      lane->pool = pool;
      lane->snap = order.limits.snap;
      lane->bucket = std::make_unique<TokenBucket>(rte_get_tsc_hz());
      lane->ring = rte_ring_create(("capture-" + std::to_string(worker->index())).c_str(),
                                   kCaptureBuffers + 1, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
      if (lane->ring == nullptr) return std::string("no memory for rings: ") + rte_strerror(rte_errno);
      lanes.push_back(std::move(lane));
    }
    return {};
  }

  void attach(const std::vector<uint16_t>& ports) {
    for (const auto& lane : lanes) {
      const auto queue = static_cast<uint16_t>(lane->worker->index());
      for (const uint16_t port : ports)
        callbacks.push_back({port, queue, rte_eth_add_rx_callback(port, queue, on_receive, lane.get()),
                             rte_eth_add_tx_callback(port, queue, on_send, lane.get())});
    }
  }

  // Takes the callbacks away. False: a worker may still be in one.
  bool detach() {
    for (const Callback& callback : callbacks) {
      if (callback.receive != nullptr)
        rte_eth_remove_rx_callback(callback.port, callback.queue, callback.receive);
      if (callback.send != nullptr) rte_eth_remove_tx_callback(callback.port, callback.queue, callback.send);
    }
    const auto deadline = std::chrono::steady_clock::now() + kWorkerPatience;
    for (const auto& lane : lanes) {
      const auto& beat = lane->worker->status().heartbeat_tsc;
      // A turn that began after now has not seen them.
      const uint64_t now = rte_rdtsc();
      while (beat.load(std::memory_order_relaxed) <= now) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(kPause);
      }
    }
    for (const Callback& callback : callbacks) {
      rte_free(const_cast<rte_eth_rxtx_callback*>(callback.receive));
      rte_free(const_cast<rte_eth_rxtx_callback*>(callback.send));
    }
    return true;
  }

  // Writes what has come of all lanes. False: the reader does not take it.
  bool write(rte_pcapng_t* file, uint64_t& taken) {
    taken = 0;
    for (const auto& lane : lanes) {
      rte_mbuf* packets[kCaptureBurst];
      const uint64_t left = order.limits.packets - written.load(std::memory_order_relaxed);
      const auto most = static_cast<unsigned>(std::min<uint64_t>(kCaptureBurst, left));
      const unsigned n =
          rte_ring_sc_dequeue_burst(lane->ring, reinterpret_cast<void**>(packets), most, nullptr);
      if (n == 0) continue;
      uint64_t size = 0;
      for (unsigned i = 0; i < n; ++i) size += rte_pktmbuf_pkt_len(packets[i]);
      const ssize_t sent = rte_pcapng_write_packets(file, packets, static_cast<uint16_t>(n));
      rte_pktmbuf_free_bulk(packets, n);
      if (sent < 0 || static_cast<uint64_t>(sent) != size) return false;
      written.fetch_add(n, std::memory_order_relaxed);
      bytes.fetch_add(size, std::memory_order_relaxed);
      taken += n;
    }
    return true;
  }

  // Until something ends it; why.
  const char* follow(rte_pcapng_t* file) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(order.limits.seconds);
    for (;;) {
      uint64_t taken = 0;
      if (!write(file, taken)) return "reader";
      if (written.load(std::memory_order_relaxed) >= order.limits.packets) return "packets";
      if (bytes.load(std::memory_order_relaxed) >= order.limits.bytes) return "bytes";
      if (stop.load(std::memory_order_relaxed)) return "stopped";
      if (std::chrono::steady_clock::now() >= deadline) return "time";
      if (is_reader_gone(reader.fd())) return "reader";
      if (taken == 0) std::this_thread::sleep_for(kPause);
    }
  }

  uint64_t missed(std::atomic<uint64_t> Lane::*counter) const {
    uint64_t sum = 0;
    for (const auto& lane : lanes) sum += ((*lane).*counter).load(std::memory_order_relaxed);
    return sum;
  }
};

Capture::Capture(std::string run_dir, std::vector<uint16_t> ports, std::vector<WorkerThread*> workers)
    : run_dir_(std::move(run_dir)), ports_(std::move(ports)), workers_(std::move(workers)) {}

Capture::~Capture() {
  stop();
}

std::string Capture::connect_reader(Session& session) const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = run_dir_ + "/capture-" + session.order.token + ".sock";
  if (path.size() >= sizeof address.sun_path) return "the run directory's name is too long for a socket";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  session.reader = FileHandle(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{kReaderPatience.count(), 0};
  if (!session.reader.is_open() ||
      setsockopt(session.reader.fd(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
      connect(session.reader.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return "nobody reads at " + path + ": " + std::strerror(errno);
  return {};
}

std::string Capture::start(const CaptureOrder& order) {
  const std::lock_guard lock(lock_);
  if (session_ != nullptr && !session_->is_done.load(std::memory_order_acquire))
    return "another capture is running";
  forget();
  auto session = std::make_unique<Session>();
  session->order = order;
  if (std::string problem = connect_reader(*session); !problem.empty()) return problem;
  if (std::string problem = session->prepare(workers_); !problem.empty()) return problem;
  session_ = std::move(session);
  thread_ = std::thread([this, &running = *session_] { run(running); });
  return {};
}

void Capture::run(Session& session) {
  pthread_setname_np(pthread_self(), "portico-capture");
  // A reader that goes away is an error of write(2), not the end of the process.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  // The file's descriptor is the library's from here on.
  const FileHandle& reader = session.reader;
  rte_pcapng_t* const file = rte_pcapng_fdopen(dup(reader.fd()), nullptr, nullptr, "portico", nullptr);
  session.ended = "reader";
  if (file != nullptr) {
    session.attach(ports_);
    session.ended = session.follow(file);
    session.is_in_use = !session.detach();
    if (session.is_in_use) log_error("a worker hangs: the memory of a capture is not freed");
    const uint64_t missed = session.missed(&Lane::missed_rate) + session.missed(&Lane::missed_full);
    if (!ports_.empty())
      rte_pcapng_write_stats(file, ports_.front(), nullptr, 0, 0, session.written.load() + missed, missed);
    rte_pcapng_close(file);
  }
  shutdown(session.reader.fd(), SHUT_RDWR);
  session.reader.close();
  session.is_done.store(true, std::memory_order_release);
}

CaptureStatus Capture::status() const {
  const std::lock_guard lock(lock_);
  CaptureStatus status;
  if (session_ == nullptr) return status;
  status.is_running = !session_->is_done.load(std::memory_order_acquire);
  status.token = session_->order.token;
  if (!status.is_running) status.ended = session_->ended;
  status.written = session_->written.load(std::memory_order_relaxed);
  status.bytes = session_->bytes.load(std::memory_order_relaxed);
  status.missed_rate = session_->missed(&Lane::missed_rate);
  status.missed_full = session_->missed(&Lane::missed_full);
  return status;
}

void Capture::stop() {
  const std::lock_guard lock(lock_);
  if (session_ != nullptr) session_->stop.store(true, std::memory_order_relaxed);
  forget();
}

void Capture::forget() {
  if (thread_.joinable()) thread_.join();
  if (session_ != nullptr && session_->is_in_use) static_cast<void>(session_.release());
  session_.reset();
}

}  // namespace portico
