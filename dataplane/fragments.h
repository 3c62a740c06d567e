// SPDX-License-Identifier: Apache-2.0
// IP fragments (RFC 791, RFC 8200 section 4.5). Those that arrive are put together before anything else looks
// at them, since only the first shows a port; all of one packet at one worker, which a hash of what they have
// in common names. What is whole goes through the stages as if another worker had handed it over. What does
// not fit its way leaves in fragments again, if its sender allows that, or sent it in fragments.
#pragma once

#include <array>

#include "dataplane/packet.h"

namespace portico {

struct WorkerCore;

// The most that one packet is split into.
inline constexpr uint32_t kMostPieces = 64;

struct Pieces {
  uint32_t count = 0;
  std::array<Packet, kMostPieces> packets;  // headers and `ip_length` set; kind fragment
};

// --- fragments_in.cc ---
// Takes a fragment for one of our addresses: it has its verdict then, or is held.
template <typename F>
void take_fragment(WorkerCore& core, Packet& packet);
// Hands a client's packet that came in fragments, and of whose flow this worker does not know, to one that
// may: that which gets such packets from the NIC, or one after the other. False: there is none (left).
template <typename F>
bool hand_over_whole(WorkerCore& core, Packet& packet);
// Whether another worker gave the packet to this one: it was not put together here.
bool was_given(const Packet& packet);
// Gives up what has waited too long. Once per sweep.
void expire_fragments(WorkerCore& core);

// --- fragments_out.cc ---
// How large fragments of a packet may be, bytes of IP, that is to go by a way of that MTU; 0: it must not be
// split. Of TCP packets those of IPv4 without DF may be, and of IPv6 those that came in fragments that fit.
template <typename F>
uint32_t fragment_size(const Packet& packet, uint32_t mtu);
// Splits a packet, which is gone then. False: it has another verdict.
template <typename F>
bool split(WorkerCore& core, Packet& packet, uint32_t mtu, Pieces& pieces);

}  // namespace portico
