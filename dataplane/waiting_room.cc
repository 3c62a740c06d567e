// SPDX-License-Identifier: Apache-2.0
#include "dataplane/waiting_room.h"

#include <algorithm>

#include "dataplane/stages.h"

namespace portico {

namespace {

uint16_t hop_of(const Table& table, const Address& hop) {
  if (hop.is_v4()) return table.route(hop.v4()).next_hop;
  std::array<uint64_t, 2> words;
  std::memcpy(words.data(), hop.bytes.data(), sizeof words);
  return table.route(words).next_hop;
}

bool is_resolved(const Table& table, uint16_t hop) {
  return hop != kNone && table.next_hop(hop).resolved;
}

void give_up(WorkerCore& core, rte_mbuf* mbuf) {
  bump(core.counters.waited_in_vain);
  drop(core, mbuf, DropReason::next_hop_unresolved);
}

}  // namespace

bool wait_for_hop(WorkerCore& core, Packet& packet, const Address& hop) {
  WaitingRoom& room = core.waiting;
  const auto begin = room.packets.begin(), end = begin + room.count;
  if (room.count == kMostWaiting ||
      std::count_if(begin, end, [&](const WaitingPacket& w) { return w.hop == hop; }) >= kMostWaitingPerHop)
    return false;
  room.packets[room.count++] = {packet, hop, core.now};
  bump(core.counters.waiting);
  return true;
}

void visit_waiting_room(WorkerCore& core) {
  WaitingRoom& room = core.waiting;
  if (room.count == 0) return;
  const bool is_new = room.generation != core.table->generation();
  room.generation = core.table->generation();
  uint32_t kept = 0;
  for (uint32_t i = 0; i < room.count; ++i) {
    WaitingPacket& w = room.packets[i];
    const uint16_t hop = is_new ? hop_of(*core.table, w.hop) : kNone;
    if (is_resolved(*core.table, hop)) {
      send_by_hop(core, w.packet, hop);
    } else if (ticks_since(core.now, w.since) > ticks_of_ms(kLongestWaitMs)) {
      give_up(core, w.packet.mbuf);
    } else {
      room.packets[kept++] = w;
    }
  }
  lower(core.counters.waiting, room.count - kept);
  room.count = kept;
}

void empty_waiting_room(WorkerCore& core) {
  for (uint32_t i = 0; i < core.waiting.count; ++i) give_up(core, core.waiting.packets[i].packet.mbuf);
  lower(core.counters.waiting, core.waiting.count);
  core.waiting.count = 0;
  free_dropped(core);
}

}  // namespace portico
