// SPDX-License-Identifier: Apache-2.0
// Loads what is at the other end of a NIC's cable and sends every frame back, as RFC 2544 says: what comes
// back of all that can be sent, the highest rate at which nothing is lost, and the latency at that rate.
//
//   bench-nic-load --port 0000:03:00.0 --to MAC --size 64 [--seconds 2] [--flows 16384] [--steps 7] [--cpu 0]
//
// Frames are plain TCP segments of so many flows to 198.18.0.10:80, their size counted with the checksum that
// a NIC appends. A frame's TCP numbers tell when it was sent. Prints one JSON object.
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr uint32_t kBuffers = 16383;
constexpr uint16_t kDescriptors = 1024, kBurst = 32;
constexpr uint16_t kFcs = 4;
constexpr uint32_t kVip = 0xc612000a, kClients = 0xc6130000;  // 198.18.0.10, 198.19.0.0
constexpr uint16_t kVipPort = 80, kFirstClientPort = 10000;
constexpr uint32_t kFlowsPerAddress = 50000;
constexpr double kDrainSeconds = 0.2;  // what is on its way when sending stops
constexpr size_t kMostSamples = 1 << 20;

struct Options {
  std::string port, to;
  uint16_t size = 64;
  double seconds = 2;
  uint32_t flows = 16384, steps = 7, cpu = 0;
};

// What was sent in one trial and what came back of it.
struct Trial {
  uint64_t sent = 0, received = 0;
  double seconds = 0;
  std::vector<uint32_t> ticks;  // from sending to receiving, of TSC

  double loss() const {
    return sent == 0 ? 0 : 1 - static_cast<double>(received) / static_cast<double>(sent);
  }
};

class Load {
 public:
  explicit Load(const Options& options) : options_(options), hz_(static_cast<double>(rte_get_tsc_hz())) {
    if (rte_eth_dev_get_port_by_name(options.port.c_str(), &port_) != 0)
      throw std::runtime_error("DPDK has no port " + options.port + ": bind it to vfio-pci");
    if (rte_ether_unformat_addr(options.to.c_str(), &to_) != 0)
      throw std::runtime_error("--to: not a MAC address");
    pool_ = rte_pktmbuf_pool_create("frames", kBuffers, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (pool_ == nullptr) throw std::runtime_error("no memory for frames: reserve huge pages");
    start_port();
    rte_eth_macaddr_get(port_, &own_);
  }
  ~Load() {
    rte_eth_dev_stop(port_);
    rte_eth_dev_close(port_);
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  // `rate`: frames per second; 0: as many as go.
  Trial run(double rate) {
    Trial trial;
    ++number_;
    const uint64_t begin = rte_rdtsc(), end = begin + static_cast<uint64_t>(options_.seconds * hz_);
    uint64_t now = begin;
    while (now < end) {
      const double due = rate == 0 ? 0 : static_cast<double>(now - begin) / hz_ * rate;
      if (rate == 0 || static_cast<double>(trial.sent) + kBurst <= due) send(trial);
      receive(trial);
      now = rte_rdtsc();
    }
    trial.seconds = static_cast<double>(now - begin) / hz_;
    for (const uint64_t until = now + static_cast<uint64_t>(kDrainSeconds * hz_); rte_rdtsc() < until;)
      receive(trial);
    return trial;
  }

 private:
  void start_port() {
    const rte_eth_conf conf{};
    const bool works = rte_eth_dev_configure(port_, 1, 1, &conf) == 0 &&
                       rte_eth_rx_queue_setup(port_, 0, kDescriptors, SOCKET_ID_ANY, nullptr, pool_) == 0 &&
                       rte_eth_tx_queue_setup(port_, 0, kDescriptors, SOCKET_ID_ANY, nullptr) == 0 &&
                       rte_eth_dev_start(port_) == 0;
    if (!works) throw std::runtime_error(options_.port + " does not start");
    rte_eth_promiscuous_enable(port_);
    rte_eth_link link{};
    for (int i = 0; i < 100 && link.link_status != RTE_ETH_LINK_UP; ++i) {
      rte_delay_ms(100);
      rte_eth_link_get_nowait(port_, &link);
    }
    if (link.link_status != RTE_ETH_LINK_UP)
      throw std::runtime_error(options_.port + " has no link: is the cable in?");
  }

  void fill(rte_mbuf* frame) {
    auto* const eth = reinterpret_cast<rte_ether_hdr*>(rte_pktmbuf_append(frame, options_.size - kFcs));
    const uint32_t flow = next_flow_++ % options_.flows;
    auto* const ip = reinterpret_cast<rte_ipv4_hdr*>(eth + 1);
    auto* const tcp = reinterpret_cast<rte_tcp_hdr*>(ip + 1);
    std::memset(static_cast<void*>(eth), 0, options_.size - kFcs);
    *eth = {to_, own_, rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4)};
    // The smallest frame has padding behind a segment without data.
    const int data = options_.size - kFcs - RTE_ETHER_HDR_LEN;
    const auto length =
        static_cast<uint16_t>(options_.size == RTE_ETHER_MIN_LEN ? sizeof *ip + sizeof *tcp : data);
    ip->version_ihl = 0x45;
    ip->total_length = rte_cpu_to_be_16(length);
    ip->fragment_offset = rte_cpu_to_be_16(RTE_IPV4_HDR_DF_FLAG);
    ip->time_to_live = 64;
    ip->next_proto_id = IPPROTO_TCP;
    ip->src_addr = rte_cpu_to_be_32(kClients + 1 + flow / kFlowsPerAddress);
    ip->dst_addr = rte_cpu_to_be_32(kVip);
    ip->hdr_checksum = rte_ipv4_cksum(ip);
    tcp->src_port = rte_cpu_to_be_16(static_cast<uint16_t>(kFirstClientPort + flow % kFlowsPerAddress));
    tcp->dst_port = rte_cpu_to_be_16(kVipPort);
    tcp->data_off = 5 << 4;
    tcp->tcp_flags = RTE_TCP_ACK_FLAG;
    tcp->rx_win = rte_cpu_to_be_16(65535);
    tcp->sent_seq = number_;
    tcp->recv_ack = static_cast<uint32_t>(rte_rdtsc());
    tcp->cksum = rte_ipv4_udptcp_cksum(ip, tcp);
  }

  void send(Trial& trial) {
    rte_mbuf* frames[kBurst];
    if (rte_pktmbuf_alloc_bulk(pool_, frames, kBurst) != 0) return;
    for (rte_mbuf* frame : frames) fill(frame);
    const uint16_t n = rte_eth_tx_burst(port_, 0, frames, kBurst);
    rte_pktmbuf_free_bulk(frames + n, kBurst - n);
    trial.sent += n;
  }

  void receive(Trial& trial) {
    rte_mbuf* frames[kBurst];
    const uint16_t n = rte_eth_rx_burst(port_, 0, frames, kBurst);
    const auto now = static_cast<uint32_t>(rte_rdtsc());
    for (uint16_t i = 0; i < n; ++i) {
      const auto* const eth = rte_pktmbuf_mtod(frames[i], const rte_ether_hdr*);
      const auto* const ip = reinterpret_cast<const rte_ipv4_hdr*>(eth + 1);
      const auto* const tcp = reinterpret_cast<const rte_tcp_hdr*>(ip + 1);
      const bool is_ours = eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) &&
                           ip->next_proto_id == IPPROTO_TCP && tcp->sent_seq == number_;
      if (!is_ours) continue;
      ++trial.received;
      if (trial.ticks.size() < kMostSamples) trial.ticks.push_back(now - tcp->recv_ack);
    }
    rte_pktmbuf_free_bulk(frames, n);
  }

  const Options options_;
  const double hz_;
  uint16_t port_ = 0;
  rte_ether_addr to_{}, own_{};
  rte_mempool* pool_ = nullptr;
  uint32_t next_flow_ = 0, number_ = 0;
};

double microseconds(std::vector<uint32_t>& ticks, double share) {
  if (ticks.empty()) return 0;
  const auto at = ticks.begin() + static_cast<long>(share * static_cast<double>(ticks.size() - 1));
  std::nth_element(ticks.begin(), at, ticks.end());
  return *at * 1e6 / static_cast<double>(rte_get_tsc_hz());
}

// Halves what lies between a rate without loss and one with.
int measure(const Options& options) {
  Load load(options);
  load.run(0);  // flows begin, caches fill
  const Trial most = load.run(0);
  if (most.received == 0) throw std::runtime_error("nothing comes back");
  double low = 0, high = static_cast<double>(most.sent) / most.seconds;
  Trial best;
  for (uint32_t i = 0; i < options.steps; ++i) {
    const double rate = i == 0 ? static_cast<double>(most.received) / most.seconds : (low + high) / 2;
    Trial trial = load.run(rate);
    const bool is_whole = trial.received >= trial.sent && trial.sent > 0;
    (is_whole ? low : high) = std::min(rate, is_whole ? rate : high);
    if (is_whole) best = std::move(trial);
  }
  std::printf(
      "{\"size\": %u, \"offered_mpps\": %.6f, \"back_mpps\": %.6f, \"loss\": %.6f, \"lossless_mpps\": %.6f, "
      "\"p50_us\": %.2f, \"p99_us\": %.2f}\n",
      options.size, static_cast<double>(most.sent) / most.seconds / 1e6,
      static_cast<double>(most.received) / most.seconds / 1e6, most.loss(),
      best.seconds == 0 ? 0 : static_cast<double>(best.received) / best.seconds / 1e6,
      microseconds(best.ticks, 0.5), microseconds(best.ticks, 0.99));
  return 0;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) throw std::invalid_argument(name + " has no value");
    const std::string value = argv[i + 1];
    if (name == "--port")
      o.port = value;
    else if (name == "--to")
      o.to = value;
    else if (name == "--size")
      o.size = static_cast<uint16_t>(std::stoul(value));
    else if (name == "--seconds")
      o.seconds = std::stod(value);
    else if (name == "--flows")
      o.flows = static_cast<uint32_t>(std::stoul(value));
    else if (name == "--steps")
      o.steps = static_cast<uint32_t>(std::stoul(value));
    else if (name == "--cpu")
      o.cpu = static_cast<uint32_t>(std::stoul(value));
    else
      throw std::invalid_argument("unknown argument " + name);
  }
  if (o.port.empty() || o.to.empty() || o.flows == 0 || o.size < RTE_ETHER_MIN_LEN ||
      o.size > RTE_ETHER_MAX_LEN)
    throw std::invalid_argument("--port and --to are needed, and a size of 64 to 1518");
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    std::string words[] = {"bench-nic-load",
                           "--in-memory",
                           "--no-telemetry",
                           "--log-level=error",
                           "--file-prefix=nic-load" + std::to_string(getpid()),
                           "--lcores=0@" + std::to_string(options.cpu),
                           "--allow=" + options.port};
    char* arguments[std::size(words)];
    for (size_t i = 0; i < std::size(words); ++i) arguments[i] = words[i].data();
    if (rte_eal_init(static_cast<int>(std::size(words)), arguments) < 0)
      throw std::runtime_error("EAL does not start");
    return measure(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench-nic-load: %s\n", error.what());
    return 1;
  }
}
