// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol's header, packet by packet: where it stands, when it goes out again, and what either
// side sees of it.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/proxy.h"
#include "tests/packet/rig.h"

namespace portico::test {
namespace {

constexpr uint8_t kUrgFlag = 32;

TableContent proxy_content() {
  TableContent content = usual_content();
  content.services[1].proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
  aim_at(content, 1);
  return content;
}

struct Sides {
  const char* name;
  const char* client;
  const char* vip;
  std::string header;  // as the PROXY protocol's text says, byte for byte
};

using namespace std::string_literals;
const std::string kSignature = "\r\n\r\n\0\r\nQUIT\n"s;
const Sides kSides[] = {
    {"v4", kClient4, kVip4,
     kSignature + "\x21\x11\x00\x0c"s + "\xcb\x00\x71\x07"s + "\xc6\x12\x00\x0a"s + "\x13\x88"s +
         "\x01\xbb"s},
    {"v6", kClient6, kVip6,
     kSignature + "\x21\x21\x00\x24"s + "\x20\x01\x0d\xb8\x00\x0c\0\0\0\0\0\0\0\0\0\x07"s +
         "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x10"s + "\x13\x88"s + "\x01\xbb"s}};

class Proxy : public testing::TestWithParam<Sides> {
 protected:
  static constexpr uint16_t kPort = 5000;
  static constexpr uint32_t kServerIsn = 0x70000000;

  uint32_t size() const { return static_cast<uint32_t>(GetParam().header.size()); }
  Tcp from_client() const { return Tcp(GetParam().client, kPort, GetParam().vip, kNat); }
  // To the balancer, from the backend to which `syn_` went.
  Tcp from_backend() const {
    return Tcp(syn_.destination, syn_.destination_port, syn_.source, syn_.source_port);
  }
  Tcp client_ack() const { return from_client().seq(isn_ + 1).ack(kServerIsn + 1); }

  void open(uint32_t isn) {
    isn_ = isn;
    syn_ = rig_.send_one(from_client().flags(kSynFlag).seq(isn));
    EXPECT_EQ(syn_.seq, isn - size());
    EXPECT_TRUE(syn_.checksums_right);
    const Seen answer =
        rig_.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(isn - size() + 1).window(1000));
    EXPECT_EQ(answer.ack, isn + 1);
    EXPECT_EQ(answer.seq, kServerIsn);
    EXPECT_EQ(answer.window, 1000 - size());
    EXPECT_TRUE(answer.checksums_right);
  }
  void expect_header(const Seen& seen) const {
    EXPECT_EQ(seen.payload, GetParam().header);
    EXPECT_EQ(seen.seq, isn_ - size() + 1);
    EXPECT_EQ(seen.ack, kServerIsn + 1);
    EXPECT_EQ(seen.flags, kPshFlag | kAckFlag);
    EXPECT_EQ(seen.source, syn_.source);
    EXPECT_EQ(seen.source_port, syn_.source_port);
    EXPECT_EQ(seen.destination, syn_.destination);
    EXPECT_EQ(seen.ttl, 63);
    EXPECT_TRUE(seen.checksums_right);
  }
  uint64_t sent() const { return rig_.of_service(2, &ServiceFeedback::headers_sent); }
  uint64_t repeated() const { return rig_.of_service(2, &ServiceFeedback::headers_repeated); }

  Rig rig_{proxy_content()};
  uint32_t isn_ = 0;
  Seen syn_;
};

TEST_P(Proxy, HeaderStandsInPlaceOfTheLastAcknowledgement) {
  for (const uint32_t isn : {1000u, 0u, 10u, 0xffffffffu, 0xfffffffau}) {
    open(isn);
    expect_header(rig_.send_one(client_ack()));
    rig_.send(client_ack().flags(kRstFlag | kAckFlag));
    rig_.sweep_ms(40000);
  }
  EXPECT_EQ(sent(), 5u);
}

TEST_P(Proxy, AfterTheHeaderIsAcknowledgedNothingIsTouchedButAddresses) {
  open(0xffffffe0);
  rig_.send_one(client_ack());
  const Seen acknowledged = rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1).window(77));
  EXPECT_EQ(acknowledged.ack, isn_ + 1);
  EXPECT_EQ(acknowledged.window, 77);
  const Seen data = rig_.send_one(client_ack().flags(kPshFlag | kUrgFlag | kAckFlag).payload("hello"));
  EXPECT_EQ(data.seq, isn_ + 1);
  EXPECT_EQ(data.payload, "hello");
  const Bytes sack = {1, 1, 5, 10, 0, 0, 0, 20, 0, 0, 0, 30};
  const Seen answer = rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 6).options(sack));
  EXPECT_EQ(answer.ack, isn_ + 6);
  EXPECT_EQ(answer.options, sack);
  EXPECT_TRUE(answer.checksums_right);
  const Seen fin = rig_.send_one(client_ack().seq(isn_ + 6).flags(kFinFlag | kAckFlag));
  EXPECT_EQ(fin.seq, isn_ + 6);
  EXPECT_EQ(sent(), 1u);
  EXPECT_EQ(repeated(), 0u);
  EXPECT_TRUE(rig_.sweep_ms(2000).empty());
}

TEST_P(Proxy, HeaderGoesBeforeEachSegmentUntilItIsAcknowledged) {
  open(5);
  for (int i = 0; i < 3; ++i) {
    const auto out = rig_.send(client_ack().flags(kPshFlag | kAckFlag).payload("GET /"));
    ASSERT_EQ(out.size(), 2u);
    expect_header(out[0]);
    EXPECT_EQ(out[1].seq, isn_ + 1);
    EXPECT_EQ(out[1].payload, "GET /");
    EXPECT_TRUE(out[1].checksums_right);
  }
  expect_header(rig_.send_one(client_ack()));
  EXPECT_EQ(sent(), 1u);
  EXPECT_EQ(repeated(), 3u);
  const auto fin = rig_.send(client_ack().flags(kFinFlag | kAckFlag));
  ASSERT_EQ(fin.size(), 2u);
  expect_header(fin[0]);
  EXPECT_EQ(fin[1].flags, kFinFlag | kAckFlag);
}

TEST_P(Proxy, TimerRepeatsTheHeaderOfASilentClientUntilItIsAcknowledged) {
  open(5);
  expect_header(rig_.send_one(client_ack()));
  const auto out = rig_.sweep_ms(1600);
  ASSERT_EQ(out.size(), 3u);  // after 0.2, 0.6 and 1.4 s
  for (const Seen& seen : out) expect_header(seen);
  EXPECT_EQ(repeated(), 3u);
  rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1));
  EXPECT_TRUE(rig_.sweep_ms(20000).empty());
}

// Without a way to the backend a header is no packet that leaves: looks are limited, too.
TEST_P(Proxy, OneSweepLooksAtABoundedNumberOfTimers) {
  for (uint16_t port = 1; port <= 300; ++port) {
    const Tcp ends(GetParam().client, port, GetParam().vip, kNat);
    syn_ = rig_.send_one(Tcp(ends).flags(kSynFlag).seq(7));
    rig_.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(8 - size()));
    rig_.send_one(Tcp(ends).seq(8).ack(kServerIsn + 1));
  }
  EXPECT_EQ(sent(), 300u);
  TableContent content = proxy_content();
  for (NextHopRecord& hop : content.next_hops) hop.resolved = 0;
  rig_.adopt(content);
  rig_.advance_ms(300);
  // The first few wait for the neighbour and count as sent; the others do not.
  for (int sweep = 0; sweep < 10; ++sweep) {
    const uint64_t before = repeated();
    rig_.sweep_ms(10);
    EXPECT_LE(repeated() - before, 128u);
  }
  EXPECT_EQ(repeated(), 300u);
}

TEST_P(Proxy, HeadersThatFindTheTimersFullAreCounted) {
  Rig rig(proxy_content(), {.flows = 32768});
  const auto open_one = [&](uint32_t port) {
    const Tcp ends(GetParam().client, static_cast<uint16_t>(port), GetParam().vip, kNat);
    syn_ = rig.send_one(Tcp(ends).flags(kSynFlag).seq(7));
    rig.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(8 - size()));
    ASSERT_EQ(rig.send_one(Tcp(ends).seq(8).ack(kServerIsn + 1)).payload.size(), size());
  };
  for (uint32_t port = 1; port <= kMostWatchedHeaders; ++port) open_one(port);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::headers_unwatched), 0u);
  for (uint32_t port = 1; port <= 5; ++port) open_one(kMostWatchedHeaders + port);
  EXPECT_EQ(rig.of_service(2, &ServiceFeedback::headers_unwatched), 5u);
}

TEST_P(Proxy, TimerGivesUpAndForgetsClosedFlows) {
  open(5);
  rig_.send_one(client_ack());
  EXPECT_EQ(rig_.sweep_ms(30000).size(), 6u);
  open(100'000);
  rig_.send_one(client_ack());
  rig_.send(client_ack().flags(kRstFlag));
  EXPECT_TRUE(rig_.sweep_ms(5000).empty());
}

TEST_P(Proxy, RepeatedSynAckIsAnsweredWithTheHeader) {
  open(5);
  rig_.send_one(client_ack());
  const Seen again = rig_.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(isn_ - size() + 1));
  EXPECT_EQ(again.ack, isn_ + 1);
  expect_header(rig_.send_one(client_ack()));
}

TEST_P(Proxy, NoHeaderBeforeTheClientHasProvenItself) {
  open(5);
  const Seen forged = rig_.send_one(client_ack().ack(kServerIsn + 100'000'000));
  EXPECT_TRUE(forged.payload.empty());
  EXPECT_EQ(sent(), 0u);
}

TEST_P(Proxy, AServerWithoutTheHeaderAcknowledgesNothingToTheClient) {
  open(0xffffffff);
  rig_.send(client_ack().flags(kPshFlag | kAckFlag).payload("GET /"));
  const Bytes sack = {1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 5};
  const Seen seen = rig_.send_one(
      from_backend().seq(kServerIsn + 1).ack(isn_ - size() + 1).window(500).options(sack).payload("hi"));
  EXPECT_EQ(seen.ack, isn_ + 1);
  EXPECT_EQ(seen.window, 500 - size());
  EXPECT_EQ(seen.payload, "hi");
  EXPECT_EQ(std::count(seen.options.begin(), seen.options.end(), 1), 12) << "SACK blocks are gone";
  EXPECT_TRUE(seen.checksums_right);
  EXPECT_EQ(rig_.send(client_ack().payload("more")).size(), 2u) << "it is not acknowledged yet";
}

// A server that pushes, however fast its client acknowledges: nothing of the flow is overlooked.
TEST_P(Proxy, AHeaderThatWentTwiceIsSettledByItsAcknowledgement) {
  open(0xfffffffe);
  rig_.send_one(client_ack());
  rig_.send_one(client_ack());  // with a copy
  rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1).payload("hello"));
  rig_.send_one(client_ack().ack(kServerIsn + 1 + 100'000).flags(kFinFlag | kAckFlag));
  rig_.send_one(from_backend().seq(kServerIsn + 1 + 100'000).ack(isn_ + 2).flags(kFinFlag | kAckFlag));
  rig_.sweep_ms(usual_content().settings.timeout_closing_ms + 5000);
  EXPECT_EQ(rig_.total(&WorkerCounters::flows), 0u) << "both ends have said goodbye";
}

TEST_P(Proxy, WindowShrinksByTheHeaderInItsOwnScale) {
  isn_ = 7;
  syn_ = rig_.send_one(from_client().flags(kSynFlag).seq(isn_));
  rig_.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(isn_ - size() + 1).options({3, 3, 4, 1}));
  rig_.send_one(client_ack());
  const Seen seen = rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ - size() + 1).window(100));
  EXPECT_EQ(seen.window, 100 - (size() + 15) / 16);
}

TEST_P(Proxy, SynLosesFastOpenMultipathAndItsData) {
  const Bytes options = {2, 4, 5, 180, 34, 4, 1, 2, 30, 4, 0, 0, 1, 3, 3, 7};
  for (const std::string payload : {"early", "four", ""}) {
    const Seen syn = rig_.send_one(from_client().flags(kSynFlag).seq(9).options(options).payload(payload));
    EXPECT_EQ(syn.payload, "");
    EXPECT_EQ(syn.options, (Bytes{2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 3, 7}));
    EXPECT_EQ(syn.seq, 9 - size());
    EXPECT_TRUE(syn.checksums_right);
  }
}

TEST_P(Proxy, HeaderCarriesTheClientsTimestampsAndClass) {
  open(5);
  const Bytes options = {8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1};
  const auto out = rig_.send(client_ack().options(options).payload("x"));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].options, (Bytes{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}));
  const auto later = rig_.sweep_ms(300);
  ASSERT_EQ(later.size(), 1u);
  EXPECT_EQ(later[0].options, out[0].options);
}

TEST_P(Proxy, KeepAliveProbeNeverOverwritesTheHeader) {
  open(5);
  rig_.send_one(client_ack());
  expect_header(rig_.send_one(client_ack().seq(isn_).payload("?")));
  expect_header(rig_.send_one(client_ack().seq(isn_)));
}

TEST_P(Proxy, RefusedConnectionIsRefusedToTheClient) {
  isn_ = 77;
  syn_ = rig_.send_one(from_client().flags(kSynFlag).seq(isn_));
  const Seen refused = rig_.send_one(from_backend().flags(kRstFlag).seq(0).ack(isn_ - size() + 1));
  EXPECT_EQ(refused.ack, isn_ + 1);
}

TEST_P(Proxy, ClientsResetReachesTheBackendWhetherOrNotItHasTheHeader) {
  open(5);
  const Seen early = rig_.send_one(from_client().flags(kRstFlag).seq(isn_ + 1));
  EXPECT_EQ(early.seq, isn_ + 1 - size());
  EXPECT_EQ(sent(), 0u);
  rig_.sweep_ms(40000);
  open(500);
  rig_.send_one(client_ack());
  const auto out = rig_.send(from_client().flags(kRstFlag).seq(isn_ + 1));
  ASSERT_EQ(out.size(), 2u);
  std::vector<uint32_t> numbers = {out[0].seq, out[1].seq};
  EXPECT_NE(std::find(numbers.begin(), numbers.end(), isn_ + 1), numbers.end());
  EXPECT_NE(std::find(numbers.begin(), numbers.end(), isn_ + 1 - size()), numbers.end());
  for (const Seen& seen : out) EXPECT_EQ(seen.destination, syn_.destination);
}

TEST_P(Proxy, ResetsOfASweepNameTheNumbersThatEachSideExpects) {
  for (const bool has_header : {false, true}) {
    rig_.adopt(proxy_content());
    open(has_header ? 0xffffffff : 0xfffffff0);
    rig_.send_one(client_ack());
    if (has_header) rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1));
    TableContent down = proxy_content();
    down.pools[0].backends[0].disposition = static_cast<uint8_t>(BackendDisposition::reset);
    aim_at(down, 2);
    rig_.adopt(down);
    uint32_t to_client = 0, to_backend = 0;
    for (const Seen& seen : rig_.sweep_ms(300)) {
      if (seen.flags & kRstFlag) (seen.destination == GetParam().client ? to_client : to_backend) = seen.seq;
    }
    EXPECT_EQ(to_client, kServerIsn + 1);
    EXPECT_EQ(to_backend, has_header ? isn_ + 1 : isn_ + 1 - size());
    rig_.sweep_ms(15000);
  }
}

TEST_P(Proxy, AnUnansweredFlowIsResetAtTheNumberOfItsSyn) {
  isn_ = 5;
  syn_ = rig_.send_one(from_client().flags(kSynFlag).seq(isn_));
  TableContent down = proxy_content();
  down.pools[0].backends[0].disposition = static_cast<uint8_t>(BackendDisposition::reset);
  rig_.adopt(down);
  const auto out = rig_.sweep_ms(300);
  ASSERT_EQ(out.size(), 2u);
  for (const Seen& seen : out) {
    if (seen.destination == GetParam().client)
      EXPECT_EQ(seen.ack, isn_ + 1);
    else
      EXPECT_EQ(seen.seq, isn_ + 1 - size());
  }
}

TEST_P(Proxy, ABackendThatForgotTheConnectionTakesUpANewOneOfTheSamePort) {
  open(1000);
  rig_.send_one(client_ack());
  rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1));
  rig_.send_one(client_ack().payload("x"));
  open(900'000);  // the same entry: the backend's SYN-ACK says that it is new there
  expect_header(rig_.send_one(client_ack()));
}

TEST_P(Proxy, AWrongChecksumStaysWrong) {
  open(5);
  Bytes frame = client_ack();
  frame.back() ^= 1;  // of the urgent pointer
  EXPECT_FALSE(rig_.send_one(frame).checksums_right);
  EXPECT_TRUE(rig_.sweep_ms(5000).empty()) << "nothing is made of numbers that may be wrong";
}

TEST_P(Proxy, IcmpErrorAboutTheShiftedSynNamesTheClientsOwnNumber) {
  isn_ = 3;
  const Bytes frame = from_client().flags(kSynFlag).seq(isn_);
  syn_ = rig_.send_one(frame);
  const bool is_v6 = GetParam().name == "v6"s;
  const Bytes seen_there = Tcp(syn_.source, syn_.source_port, syn_.destination, syn_.destination_port)
                               .flags(kSynFlag)
                               .seq(syn_.seq)
                               .ip();
  const Seen error = rig_.send_one(
      icmp_error(is_v6 ? "2001:db8:1::1" : "198.18.1.1", syn_.source, is_v6 ? 1 : 3, seen_there, 200));
  EXPECT_EQ(error.destination, GetParam().client);
  const Seen inner = read_ip(error.icmp_embedded);
  EXPECT_EQ(inner.seq, isn_);
  EXPECT_TRUE(inner.checksums_right);
  EXPECT_TRUE(error.checksums_right);
}

// The client is gone, and its port comes again: the backend still holds the older SYN.
TEST_P(Proxy, AChallengedClientEndsTheOlderHalfOpenConnection) {
  open(1000);
  rig_.send_one(from_client().flags(kSynFlag).seq(900000));
  const Seen challenge = rig_.send_one(from_backend().seq(kServerIsn + 1).ack(1000 - size() + 1));
  const Seen reset = rig_.send_one(from_client().flags(kRstFlag).seq(challenge.ack));
  EXPECT_EQ(reset.seq, 1000 - size() + 1) << "the very number that the backend expects (RFC 5961)";
}

TEST_P(Proxy, ABlindResetStaysOne) {
  open(5);
  rig_.send_one(client_ack());
  for (const Seen& seen : rig_.send(from_client().flags(kRstFlag).seq(0xdeadbeef)))
    EXPECT_EQ(seen.seq, 0xdeadbeef);
}

TEST_P(Proxy, AForgedSynDoesNotMoveTheHeader) {
  open(1000);
  rig_.send(from_client().flags(kSynFlag).seq(5555));
  expect_header(rig_.send_one(client_ack()));
}

TEST_P(Proxy, OfTwoSynsTheOneThatIsAnsweredHasTheHeader) {
  syn_ = rig_.send_one(from_client().flags(kSynFlag).seq(1000));
  rig_.send(from_client().flags(kSynFlag).seq(5555));
  isn_ = 1000;
  rig_.send_one(from_backend().flags(kSynFlag).seq(kServerIsn).ack(1000 - size() + 1));
  expect_header(rig_.send_one(client_ack()));
}

// Gigabytes later the numbers come to where the header's were, and to the half of all that is before them.
TEST_P(Proxy, ASettledHeaderHidesNothing) {
  open(5);
  rig_.send_one(client_ack());
  rig_.send_one(from_backend().seq(kServerIsn + 1).ack(isn_ + 1));
  rig_.send_one(client_ack().payload("x"));
  Bytes sack = {1, 1, 5, 10};
  const uint32_t left = isn_ + 1 + 0x90000100u;
  for (const uint32_t number : {left, left + 1000})
    for (int shift = 24; shift >= 0; shift -= 8) sack.push_back(static_cast<uint8_t>(number >> shift));
  const Seen holes = rig_.send_one(from_backend().seq(kServerIsn + 1).ack(left - 0x100).options(sack));
  EXPECT_EQ(holes.options, sack);
  const Seen wrapped = rig_.send_one(
      from_backend().flags(kFinFlag | kAckFlag).seq(kServerIsn + 1).ack(isn_ + 1 - 10).window(100));
  EXPECT_EQ(wrapped.ack, isn_ + 1 - 10);
  EXPECT_EQ(wrapped.window, 100);
}

INSTANTIATE_TEST_SUITE_P(Families, Proxy, testing::ValuesIn(kSides),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace portico::test
