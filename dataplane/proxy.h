// SPDX-License-Identifier: Apache-2.0
// The PROXY protocol's header on its way to the backend: in place of the client's last packet of the
// handshake, before every later packet of the client until the backend acknowledges it, and by a timer
// meanwhile, since a client may be silent. A server that waits for the header before it greets gets it thus
// without a word of the client. proxy_segment.h has the numbers.
#pragma once

#include <vector>

#include "dataplane/proxy_segment.h"
#include "dataplane/stages.h"

namespace portico {

// Headers that a worker's timers watch at most; others go out with the client's packets only, and with its
// answers to the backend's repeated SYNs. A header is watched for its round trip, at least one interval.
inline constexpr uint32_t kMostWatchedHeaders = 16384;
// A header goes out again after 1, 3, 7, 15, 31 and 63 intervals, then the timer gives up: after as long as
// Linux repeats a SYN-ACK (RFC 6298 section 5 doubles the time alike).
inline constexpr uint32_t kHeaderIntervalMs = 200;
inline constexpr uint32_t kHeaderRounds = 63;

// A header that has not been acknowledged, as far as is known.
struct WatchedHeader {
  uint32_t reference;  // of the flow, which may be another by now: then its client_isn differs
  uint32_t client_isn;
  uint32_t due;  // tick
  uint8_t rounds;
  uint8_t is_v6;
  HeaderCue cue;
};

// In the order in which they are due: all wait for the same interval.
class HeaderTimers {
 public:
  HeaderTimers() : ring_(kMostWatchedHeaders) {}

  bool is_full() const { return count_ == kMostWatchedHeaders; }
  // False: there is no room; nothing done.
  bool push(const WatchedHeader& header) {
    if (is_full()) return false;
    ring_[(first_ + count_++) % kMostWatchedHeaders] = header;
    return true;
  }
  uint32_t count() const { return count_; }
  const WatchedHeader& front() const { return ring_[first_]; }
  WatchedHeader pop() {
    const uint32_t at = first_;
    first_ = (first_ + 1) % kMostWatchedHeaders;
    --count_;
    return ring_[at];
  }

 private:
  std::vector<WatchedHeader> ring_;
  uint32_t first_ = 0, count_ = 0;
};

// What a flow with a header does about a client's packet, which has been observed. False: the packet is gone.
template <typename F>
bool announce_client(WorkerCore& core, NatFlows<F>& flows, uint32_t reference, Packet& packet);

// Takes note of what a backend's packet says about its flow's header.
template <typename F>
void observe_header(WorkerCore& core, NatEntry<F>& entry, const Packet& packet);

// Makes a backend's packet one that knows nothing of the header.
template <typename F>
void hide_header_of(NatEntry<F>& entry, Packet& packet) {
  if (!(packet.flags & kAck)) return;
  if (packet.flags & kSyn) {
    entry.header.set_window_scale(shift_syn_ack(packet.l4, kHeaderBytes<F>));
  } else {
    hide_header(packet.l4, entry.client_isn + 1, kHeaderBytes<F>, entry.header.window_scale());
  }
}

}  // namespace portico
