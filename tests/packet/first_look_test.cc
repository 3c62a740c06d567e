// SPDX-License-Identifier: Apache-2.0
// The first look at a burst, portable and with AVX-512, against the parser that takes its time.
#include "dataplane/first_look.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <random>

#include "dataplane/parse.h"
#include "dataplane/plain_header.h"
#include "tests/packet/rig.h"

namespace portico::test {
namespace {

// A frame with some bits of its headers changed, its checksum then mended or not.
Bytes spoiled(std::mt19937& random) {
  Bytes frame = Tcp(kClient4, 40000, kVip4, kDsr).payload(std::string(random() % 30, 'x'));
  constexpr uint8_t kFlags[] = {kSynFlag, kAckFlag, kFinFlag, kRstFlag};
  frame[47] =
      static_cast<uint8_t>(random() % 4 == 0 ? random() : kFlags[random() % 4] | (random() % 64 & 0xe8));
  for (auto n = random() % 3; n > 0; --n) frame[random() % 54] ^= static_cast<uint8_t>(1u << random() % 8);
  if (random() % 3 == 0) frame[26] = static_cast<uint8_t>(random());  // the source's first byte
  if (random() % 4 != 0) {
    store(&frame[24], uint16_t{0});
    store(&frame[24], static_cast<uint16_t>(~fold_sum(sum_bytes(&frame[14], V4::kHeaderSize))));
  }
  if (random() % 8 == 0) frame.resize(random() % frame.size());
  return frame;
}

class Burst {
 public:
  explicit Burst(uint32_t n) : mbufs_(n) {
    if (rte_pktmbuf_alloc_bulk(packet_pool(), mbufs_.data(), n) != 0) throw std::runtime_error("no packets");
  }
  ~Burst() { rte_pktmbuf_free_bulk(mbufs_.data(), static_cast<unsigned>(mbufs_.size())); }
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;

  void fill(std::mt19937& random) {
    for (rte_mbuf* const m : mbufs_) {
      rte_pktmbuf_reset(m);
      const Bytes frame = spoiled(random);
      std::copy(frame.begin(), frame.end(), rte_pktmbuf_append(m, static_cast<uint16_t>(frame.size())));
    }
  }
  FirstLook look(void (*at)(FirstLook&, uint32_t)) {
    FirstLook result{};
    open_frames(result, mbufs_.data(), static_cast<uint32_t>(mbufs_.size()));
    at(result, static_cast<uint32_t>(mbufs_.size()));
    return result;
  }
  rte_mbuf* operator[](uint32_t i) { return mbufs_[i]; }

 private:
  std::vector<rte_mbuf*> mbufs_;
};

// What parse_frame() makes of it: the length if it is plain, else 0.
uint32_t plain_length(rte_mbuf* mbuf, uint8_t flags) {
  Packet p{};
  p.mbuf = mbuf;
  parse_frame(p);
  const bool is_plain = p.kind == Kind::tcp && !p.is_v6 && p.l4 == p.l3 + V4::kHeaderSize &&
                        p.l3 == rte_pktmbuf_mtod(mbuf, uint8_t*) + kPlainL2Size && p.l3[V4::kTtlOffset] > 1;
  return is_plain && (p.flags & (kFin | kSyn | kRst | kAck)) == flags ? p.ip_length : 0;
}

void expect_right(void (*at)(FirstLook&, uint32_t)) {
  std::mt19937 random(7);
  uint32_t plain = 0;
  for (uint32_t round = 0; round < 2000; ++round) {
    const uint32_t n = round % kBurstSize + 1;
    Burst burst(n);
    burst.fill(random);
    const FirstLook look = burst.look(at);
    for (uint32_t i = 0; i < n; ++i) {
      const bool is_ack = (look.acks >> i) & 1, is_syn = (look.syns >> i) & 1;
      ASSERT_EQ(is_ack ? look.lengths[i] : 0u, plain_length(burst[i], kAck)) << i << " of " << n;
      ASSERT_EQ(is_syn ? look.lengths[i] : 0u, plain_length(burst[i], kSyn)) << i << " of " << n;
      plain += is_ack + is_syn;
    }
    ASSERT_EQ(n == kBurstSize ? 0 : (look.acks | look.syns) >> n, 0u);
  }
  EXPECT_GT(plain, 10000u);
}

TEST(FirstLook, FindsWhatTheParserFinds) {
  expect_right(look_portably);
}

TEST(FirstLook, FindsTheSameWithAvx512) {
  if (!has_avx512()) GTEST_SKIP() << "this CPU has no AVX-512";
  expect_right(look_with_avx512);
}

}  // namespace
}  // namespace portico::test
