// SPDX-License-Identifier: Apache-2.0
// ICMP errors about flows reach the end that sent the packet, translated inside and out.
#include <gtest/gtest.h>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

struct Ends {
  const char *client, *vip, *nat, *router;
  uint8_t unreachable, too_big;
};
constexpr Ends kV4{kClient4, kVip4, kNat4, "192.0.2.254", 3, 3},
    kV6{kClient6, kVip6, kNat6, "2001:db8:f::1", 1, 2};

class Icmp : public testing::TestWithParam<Ends> {
 protected:
  Icmp() {
    aim_at(content_, 1);
    rig_ = std::make_unique<Rig>(content_, RigOptions{.workers = 3});
  }
  Tcp from_client(uint16_t port) { return Tcp(GetParam().client, 40000, GetParam().vip, port); }

  TableContent content_ = usual_content();
  std::unique_ptr<Rig> rig_;
};
INSTANTIATE_TEST_SUITE_P(Families, Icmp, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

TEST_P(Icmp, AboutAPacketToTheBackendGoesToTheClient) {
  const Ends& ends = GetParam();
  const Seen in = rig_->send_one(from_client(kNat).flags(kSynFlag).payload("abcdefgh"), 1);
  const Bytes sent = Tcp(in.source, in.source_port, in.destination, in.destination_port)
                         .flags(kSynFlag)
                         .payload("abcdefgh")
                         .ip();
  for (uint32_t worker = 0; worker < 3; ++worker) {
    for (const size_t embedded : {sent.size(), sent.size() - 20}) {
      const Seen out =
          rig_->send_one(icmp_error(ends.router, ends.nat, ends.unreachable, sent, embedded), worker);
      EXPECT_EQ(out.source, ends.router);
      EXPECT_EQ(out.destination, ends.client);
      EXPECT_TRUE(out.checksums_right);
      const Seen inner = read_ip(out.icmp_embedded);
      EXPECT_EQ(inner.source, ends.client);
      EXPECT_EQ(inner.source_port, 40000);
      EXPECT_EQ(inner.destination, ends.vip);
      EXPECT_EQ(inner.destination_port, kNat);
      EXPECT_TRUE(inner.checksums_right);
    }
  }
  const Seen own = rig_->send_one(icmp_error(in.destination, ends.nat, ends.unreachable, sent, 48));
  EXPECT_EQ(own.source, ends.vip) << "clients do not know the backend";
}

TEST_P(Icmp, AboutAPacketToTheClientGoesToTheBackend) {
  const Ends& ends = GetParam();
  const Seen in = rig_->send_one(from_client(kNat).flags(kSynFlag), 2);
  const Bytes sent = Tcp(ends.vip, kNat, ends.client, 40000).ack(1).payload("0123456").ip();
  for (uint32_t worker = 0; worker < 3; ++worker) {
    const Seen out =
        rig_->send_one(icmp_error(ends.router, ends.vip, ends.too_big, sent, sent.size()), worker);
    EXPECT_EQ(out.destination, in.destination);
    EXPECT_EQ(out.mac, "02:00:00:00:00:11");
    EXPECT_TRUE(out.checksums_right);
    const Seen inner = read_ip(out.icmp_embedded);
    EXPECT_EQ(inner.source, in.destination);
    EXPECT_EQ(inner.destination, in.source);
    EXPECT_EQ(inner.destination_port, in.source_port);
    EXPECT_TRUE(inner.checksums_right);
  }
}

TEST_P(Icmp, DsrErrorsGoToTheBackendUnchanged) {
  const Ends& ends = GetParam();
  rig_->send_one(from_client(kDsr).flags(kSynFlag), 1);
  aim_at(content_, 2);
  rig_->adopt(content_);
  const Bytes known = Tcp(ends.vip, kDsr, ends.client, 40000).ack(1).ip();
  const Seen out = rig_->send_one(icmp_error(ends.router, ends.vip, ends.too_big, known, 48), 0);
  EXPECT_EQ(out.mac, "02:00:00:00:00:11") << "where the flow is, whichever worker the error came to";
  EXPECT_EQ(out.destination, ends.vip);
  EXPECT_TRUE(out.checksums_right);
  const Bytes unknown = Tcp(ends.vip, kDsr, ends.client, 40001).ack(1).ip();
  EXPECT_EQ(rig_->send_one(icmp_error(ends.router, ends.vip, ends.too_big, unknown, 48), 0).mac,
            "02:00:00:00:00:12");
}

TEST_P(Icmp, AFloodDoesNotGoRoundAllWorkers) {
  const Ends& ends = GetParam();
  const Bytes unknown = Tcp(ends.vip, kNat, ends.client, 40001).ack(1).ip();
  rig_->send(std::vector<Bytes>(1500, icmp_error(ends.router, ends.vip, ends.too_big, unknown, 48)));
  EXPECT_EQ(rig_->drops(DropReason::icmp_unknown_flow), 1500u);
  EXPECT_EQ(rig_->total(&WorkerCounters::handed_over), 2000u);
}

TEST_P(Icmp, TheRestIsDroppedByName) {
  const Ends& ends = GetParam();
  const auto send = [&](const Bytes& packet, size_t size, const char* to) {
    EXPECT_TRUE(rig_->send(icmp_error(ends.router, to, ends.unreachable, packet, size)).empty());
  };
  send(Tcp(ends.vip, kNat, ends.client, 40000).ack(1).ip(), 60, ends.vip);
  send({}, 0, ends.nat);
  send(Tcp(ends.vip, kNat, ends.client, 40000).ack(1).ip(), 20, ends.vip);
  send(Tcp(ends.client, kNat, ends.vip, 40000).ack(1).ip(), 60, ends.vip);
  EXPECT_EQ(rig_->drops(DropReason::icmp_unknown_flow), 1u);
  EXPECT_EQ(rig_->drops(DropReason::icmp_invalid), 3u);
  send(Tcp(ends.nat, 2000, ends.client, 1).ack(1).ip(), 60, ends.nat);
  EXPECT_EQ(rig_->drops(DropReason::icmp_unknown_flow), 2u);
}

}  // namespace
}  // namespace portico::test
