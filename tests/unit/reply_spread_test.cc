// SPDX-License-Identifier: Apache-2.0
// Ports whose replies come back: what is computed piece by piece is what a NIC computes of the whole tuple.
#include "dataplane/reply_spread.h"

#include <gtest/gtest.h>

#include "dataplane/nat_flows.h"
#include "tests/support/nic_model.h"

namespace portico::test {
namespace {

struct Case {
  RssModel model;
  uint32_t workers;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const uint32_t workers : {2u, 3u, 8u, 16u}) {
    for (const RssKey& key : {kUsualKey, symmetric_key(), random_rss_key()})
      for (const size_t entries : {64u, 128u, 512u, 2048u})
        all.push_back({nic_model(key, entries, workers), workers});
    // As `ethtool -X eth0 weight 3 1 ...` leaves it: some queues get more.
    RssModel uneven = nic_model(random_rss_key(), 128, workers);
    for (size_t i = 0; i < 100; ++i) uneven.queues[i] = static_cast<uint16_t>(i * i % 7 % workers);
    all.push_back({uneven, workers});
  }
  return all;
}

template <typename F>
struct Endpoint {
  typename F::Ip address;
  uint16_t port;  // network byte order
};
template <typename F>
std::vector<Endpoint<F>> endpoints() {
  std::vector<Endpoint<F>> all;
  for (const char* text :
       {"198.18.1.1", "198.18.1.2", "203.0.113.254", "2001:db8:1::1", "2001:db8:ffff::beef"}) {
    const Address address = Address::parse(text).value();
    if (address.family() == F::kFamily) all.push_back({F::from(address), htons(80)});
    if (address.family() == F::kFamily) all.push_back({F::from(address), htons(3306)});
  }
  return all;
}

// That the workers' ports are all of the range, each once, and each leads a NIC to its worker.
template <typename F>
void expect_shared_out(const Case& c, const ReplySpread<F>& spread, const TableNat& nat,
                       const Endpoint<F>& e) {
  const auto nat_address = F::from(nat.address);
  const uint32_t rest = spread.rest(e.address, e.port, nat_address);
  std::vector<int> seen(65536);
  for (uint32_t worker = 0; worker < c.workers; ++worker) {
    const PortShare share(nat, worker, spread);
    for (uint32_t turn = 0; turn < share.count(); ++turn) {
      const uint16_t port = share.port(turn, rest);
      if (port == 0) continue;
      ++seen[port];
      if (port % 16 != 5 && nat.last_port - nat.first_port > 5000) continue;  // the NIC's way is slow
      ASSERT_EQ(queue_of(c.model, F::address(e.address), ntohs(e.port), nat.address, port), worker);
      ASSERT_EQ(spread.owner(rest, port), worker);
    }
  }
  for (uint32_t port = 0; port < seen.size(); ++port)
    ASSERT_EQ(seen[port], port >= nat.first_port && port <= nat.last_port) << port;
}

template <typename F>
void check(const char* nat_address) {
  for (const Case& c : cases()) {
    const ReplySpread<F> spread(c.model, c.workers);
    // Of a key that repeats itself after 16 bits, 16 ports' bits still reach so few values.
    ASSERT_TRUE(spread.is_usable()) << c.model.queues.size();
    for (const Endpoint<F>& e : endpoints<F>()) {
      for (const auto& [first, last] :
           {std::pair<uint16_t, uint16_t>{1024, 65535}, {5000, 5003}, {3001, 4777}})
        expect_shared_out<F>(c, spread, {Address::parse(nat_address).value(), first, last}, e);
    }
  }
}
TEST(ReplySpread, SharesPortsOutAsANicDoesIPv4) {
  check<V4>("198.18.0.20");
}
TEST(ReplySpread, SharesPortsOutAsANicDoesIPv6) {
  check<V6>("2001:db8::20");
}

TEST(ReplySpread, AWorkerHasAboutItsPartOfTheRange) {
  const ReplySpread<V4> spread(nic_model(kUsualKey, 128, 3), 3);
  const TableNat nat{{}, 1024, 65535};
  uint32_t ports = 0;
  for (uint32_t worker = 0; worker < 3; ++worker) {
    ports += PortShare(nat, worker, spread).ports();
    EXPECT_NEAR(PortShare(nat, worker, spread).ports(), 64512.0 / 3, 64512.0 / 128);
  }
  EXPECT_NEAR(ports, 64512, 3);
}

TEST(ReplySpread, AKeyThatPortsCannotTurnIsNotUsed) {
  RssModel model = nic_model(RssKey{}, 128, 2);
  EXPECT_FALSE(ReplySpread<V4>(model, 2).is_usable());
  EXPECT_EQ(ReplySpreads(model, 2).v6, nullptr);
  model = nic_model(kUsualKey, 128, 3);
  EXPECT_EQ(ReplySpreads(model, 2).v4, nullptr) << "a queue without a worker";
  model.queues.pop_back();
  EXPECT_EQ(ReplySpreads(model, 3).v4, nullptr) << "not a power of two";
  model = nic_model(kUsualKey, 128, 3);
  model.v6 = false;
  EXPECT_NE(ReplySpreads(model, 3).v4, nullptr);
  EXPECT_EQ(ReplySpreads(model, 3).v6, nullptr);
  EXPECT_EQ(ReplySpreads(model, 1).v4, nullptr) << "one worker has them all";
}

}  // namespace
}  // namespace portico::test
