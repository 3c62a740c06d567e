// SPDX-License-Identifier: Apache-2.0
// Mutations that keep a packet script in its frames: libFuzzer's own, applied to the whole, would shift every
// later frame by an inserted byte.
#pragma once

#include <random>

#include "tests/fuzz/packet_script.h"

// libFuzzer's mutations of plain bytes, in place; returns the new size, at most `max_size`.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace portico::test {

class PacketMutator {
 public:
  explicit PacketMutator(unsigned seed) : random_(seed) {}

  void mutate(std::vector<ScriptStep>& steps) {
    if (steps.empty()) steps.emplace_back();
    ScriptStep& step = steps[below(steps.size())];
    switch (below(8)) {
      case 0:
        step.control ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        steps.push_back(step);
        break;
      case 2:
        steps.erase(steps.begin() + static_cast<long>(below(steps.size())));
        break;
      case 3:
        std::swap(step, steps[below(steps.size())]);
        break;
      case 4:
        set_tcp_flags(step.frame);
        break;
      default:
        mutate_frame(step.frame);
    }
  }

  // Some of the one's steps, then some of the other's.
  std::vector<ScriptStep> cross(std::vector<ScriptStep> a, const std::vector<ScriptStep>& b) {
    a.resize(a.empty() ? 0 : below(a.size() + 1));
    if (!b.empty()) a.insert(a.end(), b.begin() + static_cast<long>(below(b.size())), b.end());
    return a;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  // Headers decide; a payload of any bytes is like any other.
  void mutate_frame(std::vector<uint8_t>& frame) {
    const size_t headers = std::min<size_t>(frame.size(), below(2) ? 60 : 140);
    std::vector<uint8_t> part(frame.begin(), frame.begin() + static_cast<long>(headers));
    part.resize(headers + 16);
    part.resize(LLVMFuzzerMutate(part.data(), headers, part.size()));
    part.insert(part.end(), frame.begin() + static_cast<long>(headers), frame.end());
    frame = std::move(part);
  }

  // Where an untagged frame without options or extension headers has them.
  void set_tcp_flags(std::vector<uint8_t>& frame) {
    if (frame.size() < 14) return;
    const size_t at = frame[12] == 0x86 ? 14 + 40 + 13 : 14 + 20 + 13;
    constexpr uint8_t kUsual[] = {2, 16, 18, 24, 17, 25, 4, 20, 1, 0, 63};
    if (at < frame.size()) frame[at] = kUsual[below(std::size(kUsual))];
  }

  std::minstd_rand random_;
};

}  // namespace portico::test
