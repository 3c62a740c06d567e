// SPDX-License-Identifier: Apache-2.0
// The packet fuzzer's script: frames, each with control bits, its size (2 bytes, big endian) before it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace portico::test {

inline constexpr uint8_t kSecondWorker = 1, kPassTime = 2, kSweep = 4, kReset = 8, kNoTable = 16, kProxy = 32,
                         kKeepChecksum = 128;

// NAT ports of the fuzzer's table: few, so that scripts can name them and use them up.
inline constexpr uint16_t kFirstNatPort = 1024, kLastNatPort = 1027;

struct ScriptStep {
  uint8_t control = 0;
  std::vector<uint8_t> frame;
};

inline constexpr size_t kStepHeader = 3;
inline constexpr size_t kMaxFrame = 2047;

// Any bytes are a script: a size that is too large ends with them.
inline std::vector<ScriptStep> read_script(std::span<const uint8_t> bytes) {
  std::vector<ScriptStep> steps;
  while (bytes.size() >= kStepHeader) {
    const size_t said = (size_t{bytes[1]} << 8 | bytes[2]) & kMaxFrame;
    const size_t size = std::min(said, bytes.size() - kStepHeader);
    const auto frame = bytes.subspan(kStepHeader, size);
    steps.push_back({bytes[0], {frame.begin(), frame.end()}});
    bytes = bytes.subspan(kStepHeader + size);
  }
  return steps;
}

inline std::vector<uint8_t> write_script(const std::vector<ScriptStep>& steps) {
  std::vector<uint8_t> bytes;
  for (const ScriptStep& step : steps) {
    const size_t size = std::min(step.frame.size(), kMaxFrame);
    bytes.insert(bytes.end(), {step.control, static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size)});
    bytes.insert(bytes.end(), step.frame.begin(), step.frame.begin() + static_cast<long>(size));
  }
  return bytes;
}

}  // namespace portico::test
