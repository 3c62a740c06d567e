// SPDX-License-Identifier: Apache-2.0
#include "bench/packet_load.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "dataplane/proxy_segment.h"
#include "tests/support/sample_table.h"

namespace portico::bench {

namespace {

using test::Bytes;
using test::Tcp;

constexpr uint32_t kEtherSize = 14;
constexpr uint16_t kFrameSize = 60;  // 64 with the check sequence that the wire adds
constexpr uint16_t kBackends = 16;
constexpr uint32_t kSlots = 65537;
constexpr uint32_t kNatAddresses = 63;  // of the measured family; the other has one

std::string nat_text(Family family, uint32_t i) {
  return (family == Family::v4 ? "198.18.9." : "2001:db8:9::") + std::to_string(i + 1);
}

std::string backend_text(Family family, uint32_t i) {
  return (family == Family::v4 ? "198.18.1." : "2001:db8:1::") + std::to_string(i);
}

void add_backends(TableContent& c) {
  auto& pool = c.pools[0];
  pool = test::sample_pool(1, 1, kBackends, kSlots);
  pool.record.backend_count = pool.record.usable_count = kBackends;
  for (uint16_t i = 1; i <= kBackends; ++i) {
    BackendRecord& b = pool.backends[i - 1u];
    b.address_v4 = test::address(backend_text(Family::v4, i).c_str());
    b.address_v6 = test::address(backend_text(Family::v6, i).c_str());
    b.next_hop_v4 = b.next_hop_v6 = i;
    NextHopRecord hop = test::sample_next_hop(b.address_v4);
    hop.mac[5] = static_cast<uint8_t>(0x10 + i);
    if (i < c.next_hops.size()) {
      c.next_hops[i] = hop;
    } else {
      c.next_hops.push_back(hop);
    }
  }
}

}  // namespace

TableContent bench_content(Mode mode, Family family) {
  TableContent c = test::usual_content();
  // Flow memory is there only for what is used.
  std::erase_if(c.listeners, [&](const ListenerRecord& l) {
    return l.address.family() != family || l.port != (mode == Mode::nat ? test::kNat : test::kDsr);
  });
  add_backends(c);
  if (mode == Mode::dsr_ipip) {
    c.services[0].mode = static_cast<uint8_t>(mode);
    c.settings.tunnel_source_v4 = test::address("198.51.100.9");
    c.settings.tunnel_length_v4 = 32;
  }
  // Flows that have only begun stay for as long as a run takes.
  c.settings.timeout_syn_ms = 3600000;
  // New flows expire in simulated time, a second per sweep: of ten million those that stay must not.
  for (auto& service : c.services) service.idle_timeout_ms = 2'000'000'000;
  c.nat.clear();
  const Family other = family == Family::v4 ? Family::v6 : Family::v4;
  for (uint32_t i = 0; i < kNatAddresses; ++i)
    c.nat.push_back({test::address(nat_text(family, i).c_str()), 1024, 65535, 0});
  c.nat.push_back({test::address(nat_text(other, 0).c_str()), 1024, 65535, 0});
  std::sort(c.nat.begin(), c.nat.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  return c;
}

Shuffle::Shuffle(uint32_t size)
    : size_(size), mask_(std::bit_ceil(size) - 1), shift_(std::bit_width(mask_) / 2u) {}

// Xor-shifts and odd factors are one-to-one on the next power of two; what is beyond `size` is skipped.
uint32_t Shuffle::next() {
  for (;;) {
    uint32_t x = at_;
    at_ = (at_ + 1) & mask_;
    for (const uint32_t factor : {0x9e3779b1u, 0x85ebca6bu, 0xc2b2ae35u}) {
      x ^= x >> shift_;
      x = (x * factor) & mask_;
    }
    if (x < size_) return x;
  }
}

Writer::Writer(Mode mode, Family family) : is_v4_(family == Family::v4) {
  const uint16_t port = mode == Mode::nat ? test::kNat : test::kDsr;
  const auto client = [&] {
    return is_v4_ ? Tcp("198.19.0.0", 1, test::kVip4, port) : Tcp("2001:db8:c::", 1, test::kVip6, port);
  };
  const auto backend = [&] {
    return is_v4_ ? Tcp("198.18.1.1", port, "198.18.9.1", 1) : Tcp("2001:db8:1::1", port, "2001:db8:9::1", 1);
  };
  syn_ = client().seq(1000).flags(test::kSynFlag);
  ack_ = client().seq(1001).ack(1001);
  syn_ack_ = backend().seq(1000).flags(test::kSynFlag).ack(1001);
  data_ = backend().seq(1001).ack(1001);
  for (Bytes* const frame : {&syn_, &ack_, &syn_ack_, &data_})
    frame->resize(std::max<size_t>(frame->size(), kFrameSize));
}

uint8_t* Writer::put(rte_mbuf* m, const Bytes& frame) {
  rte_pktmbuf_reset(m);
  m->port = 0;
  m->data_len = static_cast<uint16_t>(frame.size());
  m->pkt_len = m->data_len;
  auto* const at = rte_pktmbuf_mtod(m, uint8_t*);
  std::memcpy(at, frame.data(), frame.size());
  return at + kEtherSize;
}

// IPv4's header checksum. TCP's is left as it was: nobody on the way verifies it.
void Writer::mend(uint8_t* ip) const {
  if (!is_v4_) return;
  ip[10] = ip[11] = 0;
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2) {
    uint16_t word;
    std::memcpy(&word, ip + i, 2);
    sum += word;
  }
  sum = (sum & 0xffff) + (sum >> 16);
  const auto checksum = static_cast<uint16_t>(~((sum & 0xffff) + (sum >> 16)));
  std::memcpy(ip + 10, &checksum, 2);
}

void Writer::write(rte_mbuf* m, uint32_t flow, uint8_t flags) {
  uint8_t* const ip = put(m, flags == test::kSynFlag ? syn_ : ack_);
  const auto host = htons(static_cast<uint16_t>(flow));
  const auto port = htons(static_cast<uint16_t>(1024 + (flow >> 16)));
  std::memcpy(ip + (is_v4_ ? 14 : 8 + 14), &host, 2);
  std::memcpy(ip + (is_v4_ ? 20 : 40), &port, 2);
  mend(ip);
}

uint8_t* Writer::remembered(uint32_t flow) {
  const size_t size = is_v4_ ? 12 : 36;
  if (learned_.size() < (flow + size_t{1}) * size)
    learned_.resize(std::max((flow + size_t{1}) * size, learned_.size() * 2));
  return learned_.data() + flow * size;
}

void Writer::learn(const rte_mbuf* m, uint32_t flow) {
  const auto* const ip = rte_pktmbuf_mtod(m, const uint8_t*) + kEtherSize;
  std::memcpy(remembered(flow), ip + (is_v4_ ? 12 : 8), is_v4_ ? 12 : 36);
}

void Writer::write_reply(rte_mbuf* m, uint32_t flow, bool is_first) {
  uint8_t* const ip = put(m, is_first ? syn_ack_ : data_);
  const uint8_t* const seen = remembered(flow);
  const size_t size = is_v4_ ? 4 : 16;
  uint8_t* const source = ip + (is_v4_ ? 12 : 8);
  std::memcpy(source, seen + size, size);
  std::memcpy(source + size, seen, size);
  std::memcpy(source + 2 * size, seen + 2 * size + 2, 2);
  std::memcpy(source + 2 * size + 2, seen + 2 * size, 2);
  mend(ip);
}

void acknowledge_lowered_syn(rte_mbuf* m) {
  constexpr uint32_t kAcknowledgement = kEtherSize + V4::kHeaderSize + 8;
  auto* const at = rte_pktmbuf_mtod_offset(m, uint8_t*, kAcknowledgement);
  store(at, htonl(ntohl(load<uint32_t>(at)) - kHeaderBytes<V4>));
}

}  // namespace portico::bench
