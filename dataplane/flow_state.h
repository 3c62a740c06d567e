// SPDX-License-Identifier: Apache-2.0
// How a flow's state follows from the packets seen, and how long each state may be silent. Pure.
#pragma once

#include <cstdint>

#include "dataplane/clock.h"
#include "dataplane/explain.h"
#include "dataplane/family.h"

namespace portico {

// A flow's state and the tick of its last packet in 32 bits, as every entry holds it. State none: free entry.
class Vitals {
 public:
  Vitals() = default;
  Vitals(FlowState state, bool probationary, uint32_t seen) : word_(0) {
    set_state(state);
    set_probationary(probationary);
    set_seen(seen);
  }
  FlowState state() const { return static_cast<FlowState>((word_ >> 28) & 7); }
  bool probationary() const { return word_ >> 31; }
  uint32_t seen() const { return word_ & kTickMask; }
  // Established and past probation: most flows, most of the time.
  bool is_plain() const { return word_ >> 28 == static_cast<uint32_t>(FlowState::established); }
  void set_state(FlowState s) { word_ = (word_ & ~(7u << 28)) | (static_cast<uint32_t>(s) << 28); }
  void set_probationary(bool p) { word_ = (word_ & 0x7fffffffu) | (uint32_t{p} << 31); }
  void set_seen(uint32_t tick) { word_ = (word_ & ~kTickMask) | (tick & kTickMask); }

 private:
  uint32_t word_;
};
static_assert(sizeof(Vitals) == 4);

// A packet this long after a new flow's first ends its probation: a flood of single packets never gets there.
inline constexpr uint32_t kProbationTicks = 500 / kTickMs;
// How long a flow that we reset answers what still comes (RFC 5961's challenge ACKs).
inline constexpr uint32_t kDeadTicks = 10000 / kTickMs;

// The state after a packet. `from_client`: its direction. A flow in state reset comes back to life by a
// packet of the side that seemed to have sent RST: who has sent one sends nothing else, so it was forged.
constexpr FlowState next_state(FlowState state, bool from_client, uint8_t flags, bool reset_by_client) {
  using enum FlowState;
  if (state == dead) return dead;
  if (flags & kRst) return reset;
  if (state == reset) {
    if (reset_by_client != from_client || (flags & kSyn)) return reset;
    state = established;
  }
  const FlowState own_fin = from_client ? client_fin : server_fin;
  const FlowState peer_fin = from_client ? server_fin : client_fin;
  if (flags & kFin) return state == peer_fin || state == closing ? closing : own_fin;
  if (flags & kSyn) return state;
  return state == syn && from_client ? established : state;
}

// Ticks of silence after which a flow is over. `idle`: of its service, in ticks.
constexpr uint32_t timeout_of(FlowState state, const Timeouts& timeouts, uint32_t idle) {
  switch (state) {
    case FlowState::syn:
      return timeouts.syn;
    case FlowState::client_fin:
    case FlowState::server_fin:
      return timeouts.half_closed;
    case FlowState::closing:
    case FlowState::reset:
      return timeouts.closing;
    case FlowState::dead:
      return kDeadTicks;
    default:
      return idle;
  }
}

// Whether one side has said that it sends no more. A client that sends SYN then has closed its side, and this
// is all that shows of the end where only the client's packets pass.
constexpr bool is_half_closed(FlowState state) {
  return state == FlowState::client_fin || state == FlowState::server_fin;
}

// Whether a flow is over: a SYN starts a new one, and the entry may give way.
constexpr bool is_closed(FlowState state) {
  return state == FlowState::closing || state == FlowState::reset || state == FlowState::dead;
}

}  // namespace portico
