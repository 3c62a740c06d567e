// SPDX-License-Identifier: Apache-2.0
// What tells control that a backend may be gone: SYNs that it leaves unanswered, SYNs that it refuses.
#include <gtest/gtest.h>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint32_t kIsn = 1000, kServerIsn = 5000;

struct Addresses {
  const char *client, *vip;
};

class Signals : public testing::TestWithParam<Addresses> {
 protected:
  static TableContent content() {
    TableContent content = usual_content();
    aim_at(content, 1);
    return content;
  }
  static Tcp syn(uint16_t port, uint16_t service = kNat) {
    return Tcp(GetParam().client, port, GetParam().vip, service).flags(kSynFlag).seq(kIsn);
  }
  static Tcp reply_to(const Seen& in) {
    return Tcp(in.destination, in.destination_port, in.source, in.source_port);
  }
  void answer(const Seen& in) { rig_.send(reply_to(in).flags(kSynFlag).seq(kServerIsn).ack(kIsn + 1)); }
  uint64_t unanswered(uint16_t backend = 1) const {
    return rig_.of_backend(backend, &BackendFeedback::syns_unanswered);
  }
  uint64_t refused() const { return rig_.of_backend(1, &BackendFeedback::syns_refused); }
  uint64_t repeats() const { return rig_.of_backend(1, &BackendFeedback::syn_repeats); }

  Rig rig_{content()};
};

TEST_P(Signals, ASynWithoutAnswerIsCountedOnce) {
  rig_.send_one(syn(40000));
  rig_.sweep_ms(170);
  EXPECT_EQ(unanswered(), 0u) << "there is time still";
  rig_.sweep_ms(60);
  EXPECT_EQ(unanswered(), 1u);
  rig_.sweep_ms(1000);
  EXPECT_EQ(unanswered(), 1u);
  EXPECT_EQ(repeats(), 0u);
}

TEST_P(Signals, AnAnswerInTimeIsNone) {
  answer(rig_.send_one(syn(40000)));
  rig_.sweep_ms(1000);
  EXPECT_EQ(unanswered(), 0u) << "though the client never acknowledged it";
}

TEST_P(Signals, OnlyTheBackendThatIsSilentIsBlamed) {
  const Seen first = rig_.send_one(syn(40000));
  TableContent other = content();
  aim_at(other, 2);
  rig_.adopt(other);
  rig_.send_one(syn(40001));
  answer(first);
  rig_.sweep_ms(300);
  EXPECT_EQ(unanswered(1), 0u);
  EXPECT_EQ(unanswered(2), 1u);
}

TEST_P(Signals, ThoseBehindAnAnsweredOneAreJudged) {
  answer(rig_.send_one(syn(40000)));
  for (uint16_t port = 1; port < 300; ++port) rig_.send_one(syn(port));
  rig_.sweep_ms(400);
  EXPECT_EQ(unanswered(), 299u);
}

// Who repeats his SYN all the time does not keep the flows behind him from being judged.
TEST_P(Signals, ARepeatedSynHidesNoOther) {
  rig_.send_one(syn(40000));
  rig_.send_one(syn(40001));
  for (uint32_t i = 1; i <= 4; ++i) {
    rig_.sweep_ms(100);
    rig_.send_one(syn(40000).seq(kIsn + i));
  }
  EXPECT_EQ(unanswered(), 1u);
  EXPECT_EQ(repeats(), 0u) << "with other numbers they are no repetitions";
}

TEST_P(Signals, ARefusedSynIsToldFromAResetConnection) {
  const Seen refused_one = rig_.send_one(syn(40000));
  rig_.send(reply_to(refused_one).flags(kRstFlag | kAckFlag).ack(kIsn + 1));
  const Seen open = rig_.send_one(syn(40001));
  answer(open);
  rig_.send(Tcp(GetParam().client, 40001, GetParam().vip, kNat).seq(kIsn + 1).ack(kServerIsn + 1));
  rig_.send(reply_to(open).flags(kRstFlag).seq(kServerIsn + 1));
  EXPECT_EQ(refused(), 1u);
  EXPECT_EQ(rig_.of_backend(1, &BackendFeedback::resets_received), 2u);
  rig_.sweep_ms(1000);
  EXPECT_EQ(unanswered(), 0u) << "a refusal is an answer";
}

// There answers pass elsewhere: only the client's SYN, sent again, tells.
TEST_P(Signals, InDsrARepeatedSynIsTheSignal) {
  rig_.send_one(syn(40000, kDsr));
  rig_.sweep_ms(1000);
  EXPECT_EQ(unanswered() + repeats(), 0u);
  rig_.send_one(syn(40000, kDsr));
  EXPECT_EQ(repeats(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Families, Signals,
                         testing::Values(Addresses{kClient4, kVip4}, Addresses{kClient6, kVip6}),
                         [](const auto& test) { return std::string(test.index == 0 ? "v4" : "v6"); });

}  // namespace
}  // namespace portico::test
