// SPDX-License-Identifier: Apache-2.0
// Random connections through changing tables, compared with a model as simple as can be: a connection stays
// on the backend of its SYN until it is closed, and what a backend answers reaches the client that it is for.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

struct Connection {
  std::string client, vip;
  uint16_t port = 0, service = 0;
  uint32_t isn = 0;
  bool is_open = false, is_shaken = false;
  std::string mac;  // of its backend
  Seen syn;         // as the backend saw it
};

class Model {
 public:
  explicit Model(uint32_t seed) : random_(seed), content_(usual_content()), rig_(content_, {.workers = 3}) {
    for (uint16_t i = 0; i < 40; ++i) {
      Connection c;
      c.client = i % 2 ? kClient6 : kClient4;
      c.vip = i % 2 ? kVip6 : kVip4;
      c.port = static_cast<uint16_t>(1000 + i / 4);
      c.service = i % 4 < 2 ? kDsr : kNat;
      connections_.push_back(c);
    }
  }

  void step() {
    Connection& c = connections_[pick(connections_.size())];
    switch (pick(6)) {
      case 0:
        return c.is_open ? send_data(c) : open(c);
      case 1:
        return c.is_open ? close(c) : open(c);
      case 2:
        return repeat_syn(c);
      case 3:
        if (pick(10) == 0) change_table();
        return;
      default:
        return send_data(c);
    }
  }

 private:
  size_t pick(size_t n) { return random_() % n; }
  uint32_t worker_of(const Connection& c) const { return c.port % 3u; }
  Tcp from_client(const Connection& c) const { return Tcp(c.client, c.port, c.vip, c.service); }

  void check(const Seen& out, const Connection& c) {
    EXPECT_EQ(out.mac, c.mac);
    EXPECT_EQ(out.ttl, 63);
    EXPECT_TRUE(out.checksums_right);
    if (c.service != kNat) return;
    EXPECT_EQ(out.source_port, c.syn.source_port);
    EXPECT_EQ(out.destination, c.syn.destination);
  }

  void open(Connection& c) {
    c.isn = static_cast<uint32_t>(random_());
    c.syn = rig_.send_one(from_client(c).flags(kSynFlag).seq(c.isn), worker_of(c));
    c.mac = c.syn.mac;
    c.is_open = true;
    c.is_shaken = false;
    if (c.service != kNat) return;
    for (const Connection& other : connections_) {
      if (&other == &c || !other.is_open || other.service != kNat) continue;
      EXPECT_FALSE(other.syn.destination == c.syn.destination && other.syn.source_port == c.syn.source_port)
          << "two connections on one port";
    }
  }

  void repeat_syn(Connection& c) {
    if (c.is_open) check(rig_.send_one(from_client(c).flags(kSynFlag).seq(c.isn), worker_of(c)), c);
  }

  void send_data(Connection& c) {
    if (!c.is_open) return;
    if (c.service == kNat) answer(c);
    check(rig_.send_one(from_client(c).seq(c.isn + 1).ack(501).payload("some data"), worker_of(c)), c);
    c.is_shaken = true;
  }

  // The backend's answer may come to any worker.
  void answer(const Connection& c) {
    Tcp reply(c.syn.destination, c.syn.destination_port, c.syn.source, c.syn.source_port);
    reply.seq(500).ack(c.isn + 1);
    const Seen out =
        rig_.send_one(c.is_shaken ? reply : reply.flags(kSynFlag | kAckFlag), static_cast<uint32_t>(pick(3)));
    EXPECT_EQ(out.destination, c.client);
    EXPECT_EQ(out.destination_port, c.port);
    EXPECT_EQ(out.source, c.vip);
    EXPECT_TRUE(out.checksums_right);
  }

  void close(Connection& c) {
    check(rig_.send_one(from_client(c).flags(kRstFlag).seq(c.isn + 1), worker_of(c)), c);
    c.is_open = false;
  }

  void change_table() {
    for (uint16_t& slot : content_.pools[0].lookup) slot = static_cast<uint16_t>(1 + pick(3));
    rig_.adopt(content_);
    rig_.sweep_ms(50);
  }

  std::mt19937 random_;
  TableContent content_;
  Rig rig_;
  std::vector<Connection> connections_;
};

TEST(Model, ConnectionsStayWhereTheyAre) {
  for (uint32_t seed = 1; seed <= 5 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model model(seed);
    for (int i = 0; i < 4000 && !testing::Test::HasFailure(); ++i) model.step();
  }
}

}  // namespace
}  // namespace portico::test
