// SPDX-License-Identifier: Apache-2.0
// The kernel's end of a port beside a real kernel: what it does not carry is told, not lost in silence.
#include "dataplane/tap.h"

#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <rte_mbuf.h>

#include <optional>

#include "tests/packet/rig.h"
#include "tests/unit/net_namespaces.h"

namespace portico::test {
namespace {

class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
    packet_pool();
    space_.emplace();
    space_->inside([&] { tap_.emplace("t0", std::array<uint8_t, 6>{2, 0, 0, 0, 0, 1}, 1500u); });
    space_->run("sysctl -qw net.ipv6.conf.t0.disable_ipv6=1; ip link set t0 up mtu 9000");
    tap_->set_link(true);
    rte_mbuf* packets[32];
    rte_pktmbuf_free_bulk(packets, tap_->read(packet_pool(), packets, 32).count);
  }

  // Sends a frame of so many bytes by the interface, as the kernel does.
  void send(size_t size) {
    space_->inside([&] {
      const int fd = socket(AF_PACKET, SOCK_RAW, 0);
      sockaddr_ll to{};
      to.sll_family = AF_PACKET;
      to.sll_ifindex = static_cast<int>(if_nametoindex("t0"));
      const Bytes frame(size, 0x55);
      EXPECT_EQ(sendto(fd, frame.data(), size, 0, reinterpret_cast<sockaddr*>(&to), sizeof to),
                static_cast<ssize_t>(size));
      close(fd);
    });
  }
  // A frame of 60 bytes in so many pieces.
  static rte_mbuf* pieces(uint32_t count) {
    rte_mbuf* first = nullptr;
    for (uint32_t i = 0; i < count; ++i) {
      rte_mbuf* const m = rte_pktmbuf_alloc(packet_pool());
      const auto size = static_cast<uint16_t>(60 / count + 1);
      std::memset(rte_pktmbuf_append(m, size), 0x55, size);
      if (first == nullptr) {
        first = m;
      } else {
        EXPECT_EQ(rte_pktmbuf_chain(first, m), 0);
      }
    }
    return first;
  }

  std::optional<NetNamespace> space_;
  std::optional<Tap> tap_;
};

TEST_F(TapTest, FramesThatNoBufferHoldsAreCounted) {
  for (const size_t size : {200u, 5000u, 300u}) send(size);
  rte_mbuf* packets[32];
  const HostDevice::Read done = tap_->read(packet_pool(), packets, 32);
  EXPECT_EQ(done.count, 2u);
  EXPECT_EQ(done.too_large, 1u);
  EXPECT_FALSE(done.lacks_buffers);
  if (done.count == 2) {
    EXPECT_EQ(packets[1]->pkt_len, 300u);
  }
  rte_pktmbuf_free_bulk(packets, done.count);
}

TEST_F(TapTest, FramesInTooManyPiecesCountAsNotTaken) {
  rte_mbuf* packets[] = {pieces(1), pieces(17), pieces(16)};
  EXPECT_EQ(tap_->write(packets, 3), 2u);
  space_->run("ip link set t0 down");
  EXPECT_EQ(tap_->write(packets, 3), 0u);
  rte_pktmbuf_free_bulk(packets, 3);
}

}  // namespace
}  // namespace portico::test
