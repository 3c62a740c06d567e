// SPDX-License-Identifier: Apache-2.0
// Two TCPs, as simple as can be and strict about what they are sent, with the balancer between them and wires
// that lose, repeat and reorder: whatever the segmentation, the retransmissions and the initial sequence
// numbers, the server reads the PROXY header and then what the client wrote, and the client what the server
// wrote.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "tests/packet/rig.h"

namespace portico::test {
namespace {

using Random = std::mt19937;

size_t pick(Random& random, size_t n) {
  return random() % n;
}

uint32_t word_at(const Bytes& bytes, size_t at) {
  uint32_t word = 0;
  for (size_t i = 0; i < 4; ++i) word = word << 8 | bytes.at(at + i);
  return word;
}
void put_word(Bytes& bytes, uint32_t word) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(word >> shift));
}

struct Options {
  bool has_timestamps = false;
  uint32_t timestamp = 0, echo = 0;
  std::vector<std::pair<uint32_t, uint32_t>> sack;
};

Options read_options(const Bytes& bytes) {
  Options out;
  for (size_t i = 0; i < bytes.size() && bytes[i] != 0;) {
    if (bytes[i] == 1) {
      ++i;
      continue;
    }
    const size_t size = bytes.at(i + 1);
    if (bytes[i] == 8) out = {true, word_at(bytes, i + 2), word_at(bytes, i + 6), out.sack};
    for (size_t at = i + 2; bytes[i] == 5 && at < i + size; at += 8)
      out.sack.push_back({word_at(bytes, at), word_at(bytes, at + 4)});
    i += size;
  }
  return out;
}

// One end. Numbers of bytes count from 0 at the first byte; wire numbers add a base and wrap.
class End {
 public:
  End(Random& random, uint32_t isn, std::string text, uint32_t window, bool has_timestamps)
      : random_(random), isn_(isn), text_(std::move(text)), window_(window), has_timestamps_(has_timestamps) {
    clock_ = static_cast<uint32_t>(random_());
  }

  void tick() { ++clock_; }
  bool is_open() const { return is_open_; }
  bool is_done() const { return una_ == text_.size() + 1; }
  const std::string& received() const { return received_; }
  bool has_peers_end() const { return peer_end_ && received_.size() == *peer_end_; }
  void release(std::string text) { text_ = std::move(text); }  // a server's answer, once it may speak

  Tcp& finish(Tcp& tcp, bool is_syn = false) {
    Bytes options;
    if (has_timestamps_) {
      options = {1, 1, 8, 10};
      put_word(options, clock_);
      put_word(options, is_syn ? 0 : recent_);
      sent_clocks_.insert(clock_);
    }
    std::vector<std::pair<uint32_t, uint32_t>> blocks;
    if (duplicate_) blocks.push_back(*duplicate_);
    duplicate_.reset();
    for (const auto& [at, bytes] : ahead_)
      blocks.push_back({base_ + at, base_ + at + static_cast<uint32_t>(bytes.size())});
    if (blocks.size() > 3) blocks.resize(3);
    if (!is_syn && !blocks.empty()) {
      options.insert(options.end(), {1, 1, 5, static_cast<uint8_t>(2 + 8 * blocks.size())});
      for (const auto& [from, to] : blocks) put_word(options, from), put_word(options, to);
    }
    return tcp.options(options).window(static_cast<uint16_t>(free_window()));
  }
  Tcp& syn(Tcp& tcp) { return finish(tcp.flags(kSynFlag).seq(isn_), !is_open_ && base_ == 0); }
  Tcp& acknowledge(Tcp& tcp) { return finish(tcp.seq(isn_ + 1 + sent_).ack(next_expected())); }

  // Any piece of what is not acknowledged, with the end behind it if the piece reaches it.
  Tcp& piece(Tcp& tcp, bool from_first) {
    const size_t limit = std::min<size_t>(text_.size(), right_edge_);
    const size_t from = from_first ? una_ : una_ + pick(random_, limit - std::min<size_t>(una_, limit) + 1);
    const size_t at = std::min(from, text_.size());
    const size_t size = at < limit ? 1 + pick(random_, std::min<size_t>(limit - at, 60)) : 0;
    const bool is_end = at + size == text_.size();
    sent_ = std::max<uint32_t>(sent_, static_cast<uint32_t>(at + size) + is_end);
    tcp.seq(isn_ + 1 + static_cast<uint32_t>(at)).ack(next_expected());
    if (is_end) tcp.flags(kAckFlag | kFinFlag);
    return finish(tcp.payload(text_.substr(at, size)));
  }

  // Takes a packet; true if it asks for an answer.
  bool take(const Seen& seen, bool may_be_late) {
    EXPECT_TRUE(seen.checksums_right);
    const Options options = read_options(seen.options);
    EXPECT_EQ(options.has_timestamps, has_timestamps_) << "flags " << int{seen.flags};
    if (seen.flags & kSynFlag) return take_syn(seen, options);
    if (!take_acknowledgement(seen, options, may_be_late)) return false;
    if (has_timestamps_) {
      EXPECT_TRUE(sent_clocks_.contains(options.echo)) << "an echo of what was never said";
      if (static_cast<int32_t>(options.timestamp - recent_) < 0) return true;  // PAWS
      if (seen.seq - base_ <= received_.size()) recent_ = options.timestamp;
    }
    take_data(seen);
    return !seen.payload.empty() || (seen.flags & kFinFlag);
  }

 private:
  uint32_t free_window() const { return window_; }
  uint32_t next_expected() const {
    return base_ + static_cast<uint32_t>(received_.size()) + (has_peers_end() ? 1 : 0);
  }

  bool take_syn(const Seen& seen, const Options& options) {
    if (base_ != 0 && seen.seq + 1 != base_) return false;
    base_ = seen.seq + 1;
    if (received_.empty() && ahead_.empty()) recent_ = options.timestamp;
    if (seen.flags & kAckFlag) {
      EXPECT_EQ(seen.ack, isn_ + 1);
      is_open_ = true;
      right_edge_ = std::max<uint32_t>(right_edge_, seen.window);
    }
    return true;
  }

  bool take_acknowledgement(const Seen& seen, const Options& options, bool may_be_late) {
    const uint32_t acked = seen.ack - isn_ - 1;
    if (static_cast<int32_t>(acked) < 0) {
      EXPECT_TRUE(may_be_late) << "acknowledges what this end never sent";
      return false;  // RFC 5961 section 5.2
    }
    EXPECT_LE(acked, sent_);
    for (size_t i = 0; i < options.sack.size(); ++i) {
      const auto [from, to] = options.sack[i];
      // RFC 2883. Of numbers that this end never sent, such as the header's, it takes no note.
      const bool is_duplicate = i == 0 && static_cast<int32_t>(from - seen.ack) < 0;
      if (is_duplicate) continue;
      EXPECT_NE(from, seen.ack) << "a block that reaches down to the acknowledgement is reneging";
      EXPECT_LE(to - isn_ - 1, sent_);
    }
    is_open_ = true;
    una_ = std::max(una_, acked);
    right_edge_ = std::max(right_edge_, acked + seen.window);
    return true;
  }

  void take_data(const Seen& seen) {
    const uint32_t at = seen.seq - base_;
    const auto end = at + static_cast<uint32_t>(seen.payload.size());
    if (seen.flags & kFinFlag) peer_end_ = end;
    if (seen.payload.empty()) return;
    EXPECT_LE(end, received_.size() + window_) << "beyond the window";
    if (end <= received_.size()) {
      EXPECT_EQ(received_.substr(at, seen.payload.size()), seen.payload) << "the same number, another byte";
      duplicate_ = {seen.seq, base_ + end};
      return;
    }
    std::string& known = ahead_[at];
    if (known.size() < seen.payload.size()) known = seen.payload;
    for (auto it = ahead_.begin(); it != ahead_.end() && it->first <= received_.size();) {
      const size_t have = received_.size() - it->first;
      if (have < it->second.size()) received_ += it->second.substr(have);
      it = ahead_.erase(it);
    }
  }

  Random& random_;
  uint32_t isn_;
  std::string text_;
  uint32_t window_;
  bool has_timestamps_;
  uint32_t clock_, recent_ = 0;
  std::set<uint32_t> sent_clocks_;
  bool is_open_ = false;
  uint32_t sent_ = 0, una_ = 0, right_edge_ = 0;
  // Of the peer.
  uint32_t base_ = 0;
  std::string received_;
  std::map<uint32_t, std::string> ahead_;
  std::optional<std::pair<uint32_t, uint32_t>> duplicate_;
  std::optional<uint32_t> peer_end_;
};

struct Case {
  bool is_v6 = false, has_timestamps = false;
  bool server_greets_first = false;
  bool server_repeats_syn = true;  // else only the balancer's timer can help
  uint32_t client_isn = 0, server_isn = 0, server_window = 60000;
  size_t client_bytes = 0, server_bytes = 0;
  uint32_t loss_percent = 0;
  uint32_t lost_headers = 0;  // the first ones, besides
};

class Connection {
 public:
  Connection(uint32_t seed, const Case& c)
      : random_(seed),
        case_(c),
        rig_(content()),
        client_text_(text(c.client_bytes)),
        server_text_(text(c.server_bytes)),
        client_(random_, c.client_isn, client_text_, 60000, c.has_timestamps),
        server_(random_, c.server_isn, c.server_greets_first ? server_text_ : "", c.server_window,
                c.has_timestamps) {}

  void run() {
    for (int i = 0; i < 400; ++i) step(case_.loss_percent);
    for (int i = 0; i < 4000 && !is_done(); ++i) step(0);
    ASSERT_TRUE(is_done()) << "header of " << server_.received().size() << " bytes and so on";
    ASSERT_EQ(server_.received().substr(0, header().size()), header());
    EXPECT_EQ(server_.received().substr(header().size()), client_text_);
    EXPECT_EQ(client_.received(), server_text_);
  }

 private:
  static TableContent content() {
    TableContent content = usual_content();
    content.services[1].proxy_protocol = static_cast<uint8_t>(ProxyProtocol::v2);
    return content;
  }
  std::string text(size_t size) {
    std::string out;
    while (out.size() < size) out.push_back(static_cast<char>(random_()));
    return out;
  }
  const char* client_address() const { return case_.is_v6 ? kClient6 : kClient4; }
  const char* vip() const { return case_.is_v6 ? kVip6 : kVip4; }
  std::string header() const {
    std::string out("\r\n\r\n\0\r\nQUIT\n\x21", 13);
    out += case_.is_v6 ? std::string("\x21\0\x24", 3) : std::string("\x11\0\x0c", 3);
    for (const char* text : {client_address(), vip()}) {
      const Address address = Address::parse(text).value();
      const size_t size = case_.is_v6 ? 16 : 4;
      out.append(reinterpret_cast<const char*>(address.bytes.data()) + 16 - size, size);
    }
    return out + std::string("\x13\x88\x01\xbb", 4);
  }
  bool is_done() const {
    return server_.has_peers_end() && client_.has_peers_end() && client_.is_done() && server_.is_done() &&
           spoken_;
  }

  Tcp from_client() const { return Tcp(client_address(), 5000, vip(), kNat); }
  Tcp from_server() const {
    return Tcp(syn_.destination, syn_.destination_port, syn_.source, syn_.source_port);
  }
  void emit(std::deque<Bytes>& wire, const Tcp& tcp) {
    wire.push_back(tcp);
    if (pick(random_, 20) == 0) wire.push_back(tcp);  // a copy
  }

  void step(uint32_t loss) {
    client_.tick();
    server_.tick();
    server_speaks_if_it_may();
    switch (pick(random_, 8)) {
      case 0:
      case 1:
        return client_sends();
      case 2:
        return server_sends();
      case 3:
        return route(rig_.sweep_ms(10 * (1 + pick(random_, 10))), false);
      default:
        return deliver(loss);
    }
  }

  // A server that waits for the header before it greets.
  void server_speaks_if_it_may() {
    if (!spoken_ && (case_.server_greets_first || server_.received().size() >= header().size())) {
      server_.release(server_text_);
      spoken_ = true;
    }
  }

  void client_sends() {
    Tcp tcp = from_client();
    if (!client_.is_open()) return emit(to_balancer_, client_.syn(tcp));
    // A silent client says nothing before it has been spoken to, not even goodbye.
    if (case_.client_bytes == 0 && client_.received() != server_text_) return;
    if (!client_.is_done()) emit(to_balancer_, client_.piece(tcp, pick(random_, 2) == 0));
  }

  void server_sends() {
    if (syn_.source.empty()) return;
    Tcp tcp = from_server();
    if (!server_.is_open()) {
      if (!syn_answered_ || case_.server_repeats_syn) answer_syn();
      return;
    }
    if (spoken_ && !server_.is_done()) emit(to_balancer_, server_.piece(tcp, pick(random_, 2) == 0));
  }
  void answer_syn() {
    Tcp tcp = from_server();
    server_.syn(tcp);
    emit(to_balancer_, tcp.ack(syn_.seq + 1));
    syn_answered_ = true;
  }

  // One packet of any wire, mostly the oldest.
  void deliver(uint32_t loss) {
    std::deque<Bytes>& wire = to_balancer_;
    if (wire.empty()) return arrive(loss);
    const size_t at = pick(random_, 3) == 0 ? pick(random_, wire.size()) : 0;
    const Bytes frame = wire[at];
    wire.erase(wire.begin() + static_cast<long>(at));
    if (pick(random_, 100) >= loss) pass(frame);
    arrive(loss);
  }

  // What the balancer learns of the header after a packet of the server comes too late for it.
  void pass(const Bytes& frame) {
    const Seen seen = read_frame(frame);
    const bool was_taken = is_taken_;
    const bool is_later = (seen.flags & (kSynFlag | kAckFlag)) == kAckFlag;
    const bool is_from_server = seen.source != client_address();
    if (is_from_server && is_later && static_cast<int32_t>(seen.ack - case_.client_isn - 1) >= 0)
      is_taken_ = true;
    route(rig_.send(frame), was_taken);
  }

  void route(const std::vector<Seen>& out, bool may_be_late) {
    for (const Seen& seen : out) arriving_.push_back({seen, may_be_late});
  }

  void arrive(uint32_t loss) {
    if (arriving_.empty()) return;
    const size_t at = pick(random_, 3) == 0 ? pick(random_, arriving_.size()) : 0;
    const auto [seen, may_be_late] = arriving_[at];
    arriving_.erase(arriving_.begin() + static_cast<long>(at));
    if (pick(random_, 100) < loss) return;
    if (case_.lost_headers > 0 && seen.payload.size() == header().size()) {
      --case_.lost_headers;
      return;
    }
    ASSERT_FALSE(seen.flags & kRstFlag);
    if (seen.destination == client_address()) {
      Tcp tcp = from_client();
      if (client_.take(seen, may_be_late)) emit(to_balancer_, client_.acknowledge(tcp));
      return;
    }
    arrive_at_server(seen);
  }

  void arrive_at_server(const Seen& seen) {
    if (seen.flags & kSynFlag) {
      EXPECT_TRUE(seen.payload.empty());
      syn_ = seen;
      if (server_.take(seen, false) && !server_.is_open()) answer_syn();
      return;
    }
    if (syn_.source.empty()) return;
    Tcp tcp = from_server();
    if (server_.take(seen, false)) emit(to_balancer_, server_.acknowledge(tcp));
  }

  Random random_;
  Case case_;
  Rig rig_;
  std::string client_text_, server_text_;
  End client_, server_;
  std::deque<Bytes> to_balancer_;
  std::deque<std::pair<Seen, bool>> arriving_;
  Seen syn_;  // as the server saw it
  bool syn_answered_ = false, spoken_ = false, is_taken_ = false;
};

TEST(ProxyModel, BothReadWhatTheOtherWroteAndTheServerTheHeaderFirst) {
  Random random(20);
  const auto isn = [&] {
    return pick(random, 2) ? 0xffffffffu - static_cast<uint32_t>(pick(random, 120))
                           : static_cast<uint32_t>(random());
  };
  for (uint32_t seed = 0; seed < 600 && !testing::Test::HasFailure(); ++seed) {
    Case c;
    c.is_v6 = seed % 2;
    c.has_timestamps = pick(random, 2);
    c.server_greets_first = pick(random, 2);
    c.client_isn = isn();
    c.server_isn = isn();
    c.client_bytes = pick(random, 3) == 0 ? 0 : 1 + pick(random, 300);
    c.server_bytes = 1 + pick(random, 300);
    c.loss_percent = static_cast<uint32_t>(pick(random, 50));
    if (pick(random, 4) == 0) c.server_window = 60 + static_cast<uint32_t>(pick(random, 100));
    SCOPED_TRACE("seed " + std::to_string(seed));
    Connection(seed, c).run();
  }
}

TEST(ProxyModel, TimerAloneBringsASilentClientsHeaderToAServerThatWaitsForIt) {
  Random random(21);
  for (uint32_t seed = 0; seed < 200 && !testing::Test::HasFailure(); ++seed) {
    Case c;
    c.is_v6 = seed % 2;
    c.client_isn = 0xffffffffu - static_cast<uint32_t>(pick(random, 60));
    c.server_isn = static_cast<uint32_t>(random());
    c.server_bytes = 80;
    c.server_repeats_syn = false;
    c.lost_headers = 1 + static_cast<uint32_t>(pick(random, 4));
    SCOPED_TRACE("seed " + std::to_string(seed));
    Connection(seed, c).run();
  }
}

}  // namespace
}  // namespace portico::test
