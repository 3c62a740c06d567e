// SPDX-License-Identifier: Apache-2.0
// The control bits of a packet fuzzer's script.
#pragma once

#include <cstdint>

namespace portico::test {

inline constexpr uint8_t kSecondWorker = 1, kPassTime = 2, kSweep = 4, kReset = 8, kKeepChecksum = 128;

}  // namespace portico::test
