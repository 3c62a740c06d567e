// SPDX-License-Identifier: Apache-2.0
// Which packets a capture is about. Asked by a worker about its own packets, while a capture runs.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "contract/address.h"
#include "contract/layout.h"

namespace portico {

// Packets of one service, or of one client to all services; with both, of that client to that service.
struct CaptureFilter {
  uint16_t service = kNone;  // id; kNone: any
  Address client{};          // none: any
  uint16_t client_port = 0;  // host byte order; 0: any
};

// When a capture ends by itself, whatever comes first. All at least 1.
struct CaptureLimits {
  uint64_t seconds = 60, packets = 100'000, bytes = 64 << 20;
  uint32_t snap = 2048;  // of each packet so many bytes at most
};

inline constexpr uint64_t kLongestCaptureSeconds = 3600, kMostCaptured = 10'000'000,
                          kMostCapturedBytes = uint64_t{4} << 30;
inline constexpr uint32_t kLeastSnap = 64, kMostSnap = 9216;

struct CaptureOrder {
  std::string token;  // 16 hexadecimal digits: the socket is `capture-TOKEN.sock` in the run directory
  CaptureFilter filter;
  CaptureLimits limits;
};

// "TOKEN,SERVICE,CLIENT,PORT,SECONDS,PACKETS,BYTES,SNAP": ids and numbers in decimal, "-" for no client. On
// anything else `complaint` says what is wrong.
bool parse_capture(std::string_view text, CaptureOrder& order, std::string& complaint);

struct WorkerCore;
class Table;

// Whether the frame is of what the filter names: from or to the client's side, in `nat` also between NAT
// address and backend, in tunnels also inside, and ICMP errors about any of these. Flows are looked up in the
// worker's own tables. `core.table` may be another; nothing is changed.
bool is_captured(const WorkerCore& core, const Table& table, const CaptureFilter& filter,
                 std::span<const uint8_t> frame);

}  // namespace portico
