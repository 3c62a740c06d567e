// SPDX-License-Identifier: Apache-2.0
// What arrives in fragments: what is put together and goes on as if it had come whole, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>

#include "dataplane/fragment_table.h"
#include "tests/packet/fragment_case.h"
#include "tests/packet/fragment_frames.h"
#include "tests/support/nic_model.h"

namespace portico::test {
namespace {

class Fragments : public FragmentCase {
 protected:
  static Bytes reply(const Seen& sent, size_t size = 1300) {
    return Tcp(sent.destination, sent.destination_port, sent.source, sent.source_port)
        .seq(78)
        .ack(1001)
        .payload(text(size));
  }
  static void expect_balance(const Rig& rig, uint64_t packets, uint64_t fragments) {
    EXPECT_EQ(rig.total(&WorkerCounters::reassembled), packets);
    EXPECT_EQ(rig.total(&WorkerCounters::fragments_joined), fragments);
    EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 0u);
  }
  // Pieces of a dsr flow's packet, of which nothing comes out but drops for one reason.
  static void expect_refused(Rig& rig, const std::vector<Bytes>& pieces, DropReason reason) {
    const uint64_t before = rig.drops(reason);
    EXPECT_TRUE(rig.send(pieces).empty());
    EXPECT_EQ(rig.drops(reason) - before, pieces.size()) << kDropReasonNames[static_cast<size_t>(reason)];
    EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 0u);
  }
};
INSTANTIATE_TEST_SUITE_P(Families, Fragments, testing::Values(kV4, kV6),
                         [](const auto& p) { return p.param.vip == std::string(kVip4) ? "v4" : "v6"; });

// Byte by byte what would come of the packet if it had come whole.
TEST_P(Fragments, GoOnAsOnePacketInWhateverOrderTheyCome) {
  Rig rig(usual_content());
  const Seen in = open(rig);
  uint64_t packets = 0, fragments = 0;
  for (const Bytes& whole : {data(kDsr), data(kNat), reply(in)}) {
    Bytes expected = rig.send_one(whole).ip;
    if (!is_v6()) {  // the identification is the fragments'
      expected[4] = 0, expected[5] = 77;
      expected = mended(expected);
    }
    for (const size_t step : {size_t{24}, size_t{480}, size_t{1288}}) {
      auto pieces = fragments_of(whole, step);
      for (int order = 0; order < 3; ++order) {
        if (order == 1) std::reverse(pieces.begin(), pieces.end());
        if (order == 2)
          std::rotate(pieces.begin(), pieces.begin() + static_cast<long>(pieces.size() / 2), pieces.end());
        const auto seen = rig.send(pieces);
        ASSERT_EQ(seen.size(), 1u) << "step " << step << ", order " << order;
        EXPECT_EQ(seen[0].ip, expected);
        EXPECT_TRUE(seen[0].checksums_right);
        ++packets;
        fragments += pieces.size();
      }
    }
  }
  expect_balance(rig, packets, fragments);
}

// One burst after the other, and two packets at once.
TEST_P(Fragments, OfSeveralPacketsDoNotMix) {
  Rig rig(usual_content());
  open(rig);
  const auto a = fragments_of(data(kDsr), 480, 1), b = fragments_of(data(kNat, 1200), 480, 2);
  EXPECT_TRUE(rig.send(a[0]).empty());
  EXPECT_TRUE(rig.send({b[2], a[1]}).empty());
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 3u);
  EXPECT_EQ(rig.send_one(a[2]).payload, text(1300));
  EXPECT_TRUE(rig.send(b[1]).empty());
  EXPECT_EQ(rig.send_one(b[0]).payload, text(1200));
  expect_balance(rig, 2, 6);
}

TEST_P(Fragments, ThatComeTwiceCountOnce) {
  Rig rig(usual_content());
  open(rig);
  auto pieces = fragments_of(data(kNat), 480);
  pieces.insert(pieces.begin() + 1, pieces[0]);
  pieces.insert(pieces.begin() + 2, cut(data(kNat), {8 * 40, 80, false}));  // within the first
  pieces.insert(pieces.begin(), pieces.back());
  const auto seen = rig.send(pieces);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].payload, text(1300));
  EXPECT_EQ(rig.drops(DropReason::fragment_duplicate), 2u);
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 1u) << "the last came again when all was over";
}

// RFC 5722: of a packet with overlapping fragments none is used, nor one that comes later.
TEST_P(Fragments, ThatContradictEachOtherAreAllRefused) {
  Rig rig(usual_content());
  open(rig);
  const Bytes whole = data(kDsr);
  Bytes other = whole;
  other[head_of(whole) + 500] ^= 1;
  const auto pieces = fragments_of(whole, 480);
  const size_t size = whole.size() - head_of(whole);
  const std::vector<std::vector<Bytes>> attacks = {
      {pieces[0], pieces[1], cut(other, {480, 480, false}), pieces[2]},  // other bytes
      {pieces[0], cut(whole, {472, 480, false}), pieces[1], pieces[2]},  // 8 bytes of the first again
      {pieces[1], cut(whole, {0, 488, false}), pieces[0], pieces[2]},    // the same, before it
      {pieces[2], cut(whole, {size - size % 8, 8, false}), pieces[0]},   // beyond the end
      {cut(whole, {1200, 480, false}), pieces[2], pieces[0]},            // an end before what has come
      {pieces[2], cut(whole, {960, size - 960 + 8, true}), pieces[0]}};  // two ends
  for (size_t i = 0; i < attacks.size(); ++i) {
    auto attack = attacks[i];
    for (Bytes& piece : attack) {
      piece[is_v6() ? 14 + 47 : 14 + 5] = static_cast<uint8_t>(i);
      mend_ip_sum(piece);
    }
    SCOPED_TRACE(i);
    expect_refused(rig, attack, DropReason::fragment_overlap);
  }
  expect_balance(rig, 0, 0);
}

TEST_P(Fragments, ThatNoSenderMakesAreRefused) {
  Rig rig(usual_content());
  open(rig);
  const Bytes whole = data(kDsr);
  expect_refused(rig, {cut(whole, {0, 44, false}), cut(whole, {480, 0, true}), cut(whole, {480, 0, false})},
                 DropReason::fragment_malformed);
  expect_refused(rig, {cut(whole, {65528, 1000, true}), cut(whole, {65504, 32, false})},
                 DropReason::fragment_malformed);
  // RFC 1858, RFC 7112: a TCP header in two fragments.
  const Bytes options = from_client(kDsr).ack(1).options(Bytes(12, 1)).payload(text(100));
  expect_refused(rig,
                 {cut(whole, {0, 16, false}), cut(whole, {8, 480, false}), cut(whole, {16, 480, false}),
                  cut(options, {0, 24, false})},
                 DropReason::fragment_tiny);
  EXPECT_TRUE(rig.send(cut(options, {0, 32, false})).empty());
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 1u);
}

TEST_P(Fragments, OfWhatFitsNoBufferAreRefused) {
  Rig rig(usual_content());
  open(rig);
  const Bytes whole = data(kDsr, 1850);
  EXPECT_TRUE(rig.send(cut(whole, {0, 480, false})).empty());
  EXPECT_TRUE(rig.send(cut(whole, {4000, 480, false})).empty());
  EXPECT_TRUE(rig.send(cut(whole, {480, 480, false})).empty());
  EXPECT_EQ(rig.drops(DropReason::fragment_too_long), 3u);
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 0u);
}

TEST_P(Fragments, WaitForTheOthersNoLongerThanTwoSeconds) {
  Rig rig(usual_content());
  open(rig);
  auto pieces = fragments_of(data(kNat), 480);
  EXPECT_TRUE(rig.send({pieces[0], pieces[1]}).empty());
  rig.sweep_ms(kFragmentWaitMs - 100);
  EXPECT_EQ(rig.send_one(pieces[2]).payload, text(1300));
  EXPECT_TRUE(rig.send({pieces[0], pieces[1]}).empty());
  rig.sweep_ms(kFragmentWaitMs + 100);
  EXPECT_EQ(rig.drops(DropReason::fragment_timeout), 2u);
  EXPECT_TRUE(rig.send(pieces[2]).empty());
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), 1u);
}

// A flood of first fragments pushes out itself; who sends all at once gets through.
TEST_P(Fragments, OfTheOldestPacketGiveWay) {
  Rig rig(usual_content());
  open(rig);
  const Bytes whole = data(kDsr);
  constexpr uint32_t kFlood = 3 * kMostDatagrams;
  for (uint32_t id = 1000; id < 1000 + kFlood; ++id) {
    rig.send(cut(whole, {0, 480, false, id}));
    if (id % 100 == 0) {
      EXPECT_EQ(rig.send(fragments_of(whole, 480, 60000 + id / 100)).size(), 1u);
    }
  }
  EXPECT_EQ(rig.total(&WorkerCounters::fragments_held), kMostDatagrams);
  EXPECT_EQ(rig.drops(DropReason::fragment_evicted), kFlood - kMostDatagrams);
  rig.sweep_ms(kFragmentWaitMs + 100);
  EXPECT_EQ(rig.drops(DropReason::fragment_timeout), kMostDatagrams);
}

TEST_P(Fragments, AreDroppedIfTheConfigurationSaysSo) {
  TableContent content = usual_content();
  Rig rig(content);
  open(rig);
  const auto pieces = fragments_of(data(kNat), 480);
  EXPECT_TRUE(rig.send(pieces[0]).empty());
  content.settings.fragments = static_cast<uint8_t>(portico::Fragments::drop);
  rig.adopt(content);
  EXPECT_TRUE(rig.send(pieces).empty());
  EXPECT_EQ(rig.drops(DropReason::fragment), 3u);
  rig.sweep_ms(kFragmentWaitMs + 100);
  EXPECT_EQ(rig.drops(DropReason::fragment_timeout), 1u);
}

TEST_P(Fragments, OfWhatIsNotForUsAreNot) {
  Rig rig(usual_content());
  EXPECT_TRUE(
      rig.send(fragments_of(Tcp(GetParam().client, 1, GetParam().vip, 81).ack(1).payload(text(900)), 480))
          .empty());
  EXPECT_EQ(rig.drops(DropReason::not_ours), 1u) << "the whole packet has the verdict";
  const Bytes udp = from_client(kDsr).protocol(17).payload(text(900));
  EXPECT_TRUE(rig.send(fragments_of(udp, 480)).empty());
  EXPECT_EQ(rig.drops(DropReason::not_tcp), 2u);
  const Bytes last_hop = from_client(kDsr).ttl(1).ack(1).payload(text(900));
  EXPECT_TRUE(rig.send(fragments_of(last_hop, 480)).empty());
  EXPECT_EQ(rig.drops(DropReason::ttl_expired), 1u);
}

// RFC 3168 section 5.3: congestion that one fragment has met is the packet's.
TEST_P(Fragments, TellOfCongestion) {
  Rig rig(usual_content());
  open(rig);
  auto pieces = fragments_of(data(kDsr), 480);
  const auto set_ecn = [this](Bytes& piece, uint8_t ecn) {
    piece[15] = static_cast<uint8_t>(piece[15] | ecn << (is_v6() ? 4 : 0));
    mend_ip_sum(piece);
  };
  for (Bytes& piece : pieces) set_ecn(piece, 2);
  set_ecn(pieces[1], 3);
  const auto seen = rig.send(pieces);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].ip[1] >> (is_v6() ? 4 : 0) & 3, 3);
  EXPECT_TRUE(seen[0].checksums_right);
}

TEST_P(Fragments, MayHaveOptionsAndExtensions) {
  Rig rig(usual_content());
  open(rig);
  Tcp tcp = from_client(kNat).seq(1001).ack(78).payload(text(1000));
  is_v6() ? tcp.extension(60, {1, 4, 0, 0, 0, 0}) : tcp.ip_options({7, 7, 4, 0, 0, 0, 0, 0});
  const Bytes whole = tcp;
  const Seen expected = rig.send_one(whole);
  std::vector<Bytes> pieces;
  const size_t head = is_v6() ? 14 + 48 : head_of(whole), size = whole.size() - head;
  for (size_t at = 0; at < size; at += 400)
    pieces.push_back(cut(whole, {at, std::min<size_t>(400, size - at), at + 400 >= size}, head));
  const auto seen = rig.send(pieces);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].payload, expected.payload);
  EXPECT_EQ(seen[0].ip.size(), expected.ip.size());
  EXPECT_TRUE(seen[0].checksums_right);
}

// RFC 6946: not even a worker of its own.
TEST_P(Fragments, ThatAreWholePacketsPassAlone) {
  if (!is_v6()) return;
  Rig rig(usual_content());
  open(rig);
  const Bytes whole = data(kNat);
  const Seen expected = rig.send_one(whole);
  const Seen seen = rig.send_one(cut(whole, {0, whole.size() - 54, true}));
  EXPECT_EQ(seen.ip, expected.ip);
  EXPECT_EQ(rig.send(std::vector<Bytes>(64, cut(whole, {0, whole.size() - 54, true}))).size(), 64u);
  expect_balance(rig, 65, 65);
}

// The fragments of one packet arrive at all workers, none of which need have its flow.
TEST_P(Fragments, MeetAtOneWorkerAndFindTheFlows) {
  constexpr uint32_t kWorkers = 4;
  const RssModel nic = nic_model(kUsualKey, 128, kWorkers);
  for (const bool is_spread : {false, true}) {
    SCOPED_TRACE(is_spread);
    Rig rig(usual_content(),
            {.workers = kWorkers,
             .spreads = is_spread ? std::make_shared<ReplySpreads>(nic, kWorkers) : nullptr});
    for (uint16_t port = 1; port <= 30; ++port) {
      const auto home = queue_of(nic, GetParam().client, port, GetParam().vip, kNat);
      const Seen in = rig.send_one(from_client(kNat, port).flags(kSynFlag), home);
      rig.send_one(Tcp(in.destination, kNat, in.source, in.source_port).flags(kSynFlag).seq(77).ack(1001),
                   home);
      const Bytes whole = from_client(kNat, port).seq(1001).ack(78).payload(text(1300));
      for (const Bytes& from : {whole, reply(in)}) {
        const auto pieces = fragments_of(from, 480, port);
        std::vector<Seen> out;
        for (size_t i = 0; i < pieces.size(); ++i)
          for (Seen& seen : rig.send(pieces[i], static_cast<uint32_t>(i + port) % kWorkers))
            out.push_back(seen);
        ASSERT_EQ(out.size(), 1u);
        EXPECT_EQ(out[0].payload, text(1300));
        EXPECT_EQ(out[0].flags & kRstFlag, 0);
        EXPECT_TRUE(out[0].checksums_right);
      }
    }
    EXPECT_EQ(rig.of_service(2, &ServiceFeedback::flows), 30u);
    expect_balance(rig, 60, 180);
    // Of a flow that nobody has, it is asked once each.
    const uint64_t before = rig.total(&WorkerCounters::handed_over);
    const auto strange = fragments_of(from_client(kNat, 999).ack(1).payload(text(1300)), 480, 5);
    EXPECT_EQ(rig.send(strange).size(), 1u);
    EXPECT_EQ(rig.drops(DropReason::unknown_flow), 1u);
    EXPECT_LE(rig.total(&WorkerCounters::handed_over) - before, 3u + kWorkers - 1);
  }
}

}  // namespace
}  // namespace portico::test
