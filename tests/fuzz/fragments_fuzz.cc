// SPDX-License-Identifier: Apache-2.0
// Fragments of packets in any order, of any size, repeated, contradicting, with broken headers, through two
// workers and their twins (twins.h). What comes out is made of what went in: each byte stood in a fragment of
// that packet, at that place. Every fragment has a verdict in the end, and no buffer is left.
#include <rte_mempool.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "tests/packet/fragment_frames.h"
#include "tests/packet/twins.h"
#include "tests/support/sample_table.h"

namespace portico::test {
namespace {

constexpr uint64_t kHz = 1'000'000;
// Longer than every timeout of sample_table.h, shorter than the wrap of the flows' clock.
constexpr uint64_t kUntilAllIsOver = uint64_t{3} * 3600 * kHz;
constexpr int kSecondsPerSweep = 6, kMostRounds = 5;
constexpr uint16_t kHighestId = 3;  // of services and backends

// The script: eight bytes for a fragment.
constexpr size_t kStepSize = 8;
constexpr uint8_t kSecondWorker = 1, kPassTime = 2, kSweep = 4, kIsV6 = 8, kIsLast = 16, kFlipPayload = 32,
                  kFlipHeader = 64;
constexpr size_t kMostOffset = 2048, kMostSize = 1480, kMostSteps = 400;

void require(bool holds) {
  if (!holds) std::abort();
}

const Table& table() {
  static const auto built = [] {
    TableContent c = usual_content();
    for (NextHopRecord& hop : c.next_hops) hop.mtu = 9000;  // what is whole leaves whole
    return build_table(snapshot_of(c, nullptr), nullptr);
  }();
  return *built;
}

std::unique_ptr<Twins> make_worker(uint32_t index) {
  WorkerConfig config;
  config.index = index;
  config.worker_count = 2;
  config.flows = 16;
  config.tsc_hz = kHz;
  return std::make_unique<Twins>(config, table(), kHighestId);
}

// The packet that fragments are cut from.
const Bytes& whole(bool is_v6) {
  static const auto make = [](const char* client, const char* vip) {
    std::string text(3000, '\0');
    for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 256);
    return Bytes(Tcp(client, 40000, vip, kDsr).ack(1).payload(text));
  };
  static const Bytes v4 = make(kClient4, kVip4), v6 = make(kClient6, kVip6);
  return is_v6 ? v6 : v4;
}

// What was sent under one family and identification: the values of each byte, and where the last one may be.
struct Sources {
  std::map<size_t, std::vector<uint8_t>> bytes;
  std::vector<size_t> ends;
};

class Machine {
 public:
  Machine() : buffers_(rte_mempool_in_use_count(packet_pool())) {}

  void run(const uint8_t* data, size_t size) {
    sources_ = {};
    is_broken_ = false;
    for (size_t i = 0; i < kMostSteps && size >= kStepSize; ++i, data += kStepSize, size -= kStepSize)
      step(data);
    end_all();
  }

 private:
  void step(const uint8_t* b) {
    const bool is_v6 = b[0] & kIsV6;
    const Bytes& from = whole(is_v6);
    const Cut c{.offset = (size_t{b[1]} << 8 | b[2]) * 8 % kMostOffset,
                .size = (size_t{b[3]} << 8 | b[4]) % kMostSize,
                .is_last = (b[0] & kIsLast) != 0,
                .id = b[7]};
    Bytes frame = cut(from, c);
    const size_t payload = frame.size() - c.size;
    if (b[0] & kFlipPayload && c.size != 0) frame[payload + b[5] % c.size] ^= b[6];
    if (b[0] & kFlipHeader) {
      frame[b[5] % payload] ^= b[6];
      mend_ip_sum(frame);
      is_broken_ = true;
    }
    Sources& sources = sources_[{is_v6, b[7]}];
    for (size_t i = 0; i < c.size; ++i) sources.bytes[c.offset + i].push_back(frame[payload + i]);
    if (c.is_last) sources.ends.push_back(c.offset + c.size);
    if (b[0] & kPassTime) now_ += 700'000;
    if (b[0] & kSweep) workers_[0]->sweep(table(), now_ += 100'000);
    give(b[0] & kSecondWorker ? 1 : 0, {.frame = frame}, false);
    pass_on();
  }

  void give(size_t worker, const Given& given, bool was_handed_over) {
    workers_[worker]->process({given}, was_handed_over, &table(), ++now_);
    ++received_;
  }

  void pass_on() {
    bool is_done = false;
    for (int round = 0; round < kMostRounds && !is_done; ++round) {
      is_done = true;
      for (auto& from : workers_) {
        const std::string difference = from->difference();
        if (!difference.empty()) std::fprintf(stderr, "%s\n", difference.c_str());
        require(difference.empty());
        for (const Sent& s : from->take_output()) {
          if (s.to == Sent::To::port) check(s.frame);
          if (s.to != Sent::To::worker) continue;
          give(s.index, {.frame = s.frame, .user = s.user}, true);
          is_done = false;
        }
      }
    }
    require(is_done);
  }

  void check(const Bytes& frame) const {
    if (is_broken_) return;
    const bool is_v6 = is_v6_frame(frame);
    require(frame[is_v6 ? 14 + 6 : 14 + 9] == IPPROTO_TCP && has_right_ip_sum(frame));
    const size_t head = head_of(frame), total = frame.size() - head;
    require(std::ranges::any_of(sources_, [&](const auto& source) {
      const auto& [key, sent] = source;
      return key.first == is_v6 && std::ranges::count(sent.ends, total) != 0 && is_made_of(frame, head, sent);
    }));
  }
  static bool is_made_of(const Bytes& frame, size_t head, const Sources& sent) {
    for (size_t i = 0; head + i < frame.size(); ++i) {
      const auto at = sent.bytes.find(i);
      if (at == sent.bytes.end() || std::ranges::count(at->second, frame[head + i]) == 0) return false;
    }
    return true;
  }

  void end_all() {
    now_ += kUntilAllIsOver;
    for (int seconds = 0; seconds < kSecondsPerSweep; ++seconds, now_ += kHz)
      for (auto& worker : workers_) worker->sweep(table(), now_);
    pass_on();
    uint64_t verdicts = 0;
    for (auto& worker : workers_) {
      const WorkerCounters& c = worker->general().counters();
      require(c.flows == 0 && c.fragments_held == 0 && c.waiting == 0);
      verdicts += c.forwarded + c.to_kernel + c.handed_over + c.fragments_joined - c.reassembled;
      for (const uint64_t drops : c.drops) verdicts += drops;
    }
    require(verdicts == received_);
    require(rte_mempool_in_use_count(packet_pool()) == buffers_);
  }

  std::unique_ptr<Twins> workers_[2] = {make_worker(0), make_worker(1)};
  const unsigned buffers_;
  std::map<std::pair<bool, uint32_t>, Sources> sources_;
  bool is_broken_ = false;  // some header of the script is
  uint64_t received_ = 0, now_ = 1'000'000'000;
};

}  // namespace
}  // namespace portico::test

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static portico::test::Machine machine;
  machine.run(data, size);
  return 0;
}
