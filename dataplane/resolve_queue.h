// SPDX-License-Identifier: Apache-2.0
// Addresses for which a worker has packets and no MAC address, on their way to the main thread, which puts
// them into the feedback for control to resolve. One producer (the worker), one consumer (the main thread).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "contract/address.h"

namespace portico {

struct Unresolved {
  Address address;
  uint16_t port;  // index into the table's ports
};

class ResolveQueue {
 public:
  // Worker. Full, or asked for within the last `kRepeat` of calls' time stamps: nothing happens, since
  // packets keep asking. `now_ms` is any clock of milliseconds.
  void push(const Unresolved& wanted, uint32_t now_ms);
  // Main thread: the next request, if any.
  std::optional<Unresolved> pop();

 private:
  static constexpr uint32_t kSize = 64;       // power of two
  static constexpr uint32_t kRecent = 16;     // power of two
  static constexpr uint32_t kRepeatMs = 100;  // one address asks at most this often

  struct Recent {
    Unresolved wanted{};
    uint32_t at_ms = 0;
    bool used = false;
  };

  std::array<Unresolved, kSize> entries_{};
  alignas(64) std::atomic<uint32_t> head_{0};  // written by the worker, release
  std::array<Recent, kRecent> recent_{};       // worker only
  alignas(64) std::atomic<uint32_t> tail_{0};  // written by the main thread, release
};

inline void ResolveQueue::push(const Unresolved& wanted, uint32_t now_ms) {
  const auto& b = wanted.address.bytes;
  Recent& recent = recent_[(b[15] ^ b[14] ^ b[13] ^ (b[7] << 1)) % kRecent];
  if (recent.used && recent.wanted.address == wanted.address && recent.wanted.port == wanted.port &&
      now_ms - recent.at_ms < kRepeatMs)
    return;
  const uint32_t head = head_.load(std::memory_order_relaxed);
  if (head - tail_.load(std::memory_order_acquire) == kSize) return;
  recent = {wanted, now_ms, true};
  entries_[head % kSize] = wanted;
  head_.store(head + 1, std::memory_order_release);
}

inline std::optional<Unresolved> ResolveQueue::pop() {
  const uint32_t tail = tail_.load(std::memory_order_relaxed);
  if (tail == head_.load(std::memory_order_acquire)) return std::nullopt;
  const Unresolved wanted = entries_[tail % kSize];
  tail_.store(tail + 1, std::memory_order_release);
  return wanted;
}

}  // namespace portico
