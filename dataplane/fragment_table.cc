// SPDX-License-Identifier: Apache-2.0
#include "dataplane/fragment_table.h"

#include <rte_mbuf.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/clock.h"

namespace portico {

namespace {

constexpr uint32_t kUnit = 8;  // bytes; what offsets count
// Where the payload stands in a buffer: behind room for an Ethernet header with two tags, and for an IPv4
// header with options or IPv6 extensions.
constexpr uint32_t kMostHead = 22 + 130;
constexpr uint32_t kPayloadAt = RTE_PKTMBUF_HEADROOM + kMostHead;

uint32_t units(uint32_t bytes) {
  return (bytes + kUnit - 1) / kUnit;
}

// Calls f(word, mask) for the words in which bits [first, end) stand.
template <typename Function>
void for_each_word(std::span<uint64_t> words, uint32_t first, uint32_t end, const Function& f) {
  while (first < end) {
    const uint32_t at = first % 64, n = std::min(end - first, 64 - at);
    f(words[first / 64], (~uint64_t{0} >> (64 - n)) << at);
    first += n;
  }
}

uint8_t* payload_of(rte_mbuf* m) {
  return static_cast<uint8_t*>(m->buf_addr) + kPayloadAt;
}

}  // namespace

FragmentTable::FragmentTable(rte_mempool* pool)
    : pool_(pool),
      room_(rte_pktmbuf_data_room_size(pool) -
            std::min<uint32_t>(kPayloadAt, rte_pktmbuf_data_room_size(pool))),
      words_((units(room_) + 63) / 64),
      datagrams_(kMostDatagrams + 1),
      bits_(size_t{words_} * (kMostDatagrams + 1)),
      scratch_(room_) {
  for (uint16_t r = kMostDatagrams; r > 0; --r) {
    datagrams_[r].next = free_;
    free_ = r;
  }
}

FragmentTable::~FragmentTable() {
  while (oldest_ != 0) remove(oldest_);
}

std::span<uint64_t> FragmentTable::bits_of(const Datagram& d) {
  return std::span(bits_).subspan(static_cast<size_t>(&d - datagrams_.data()) * words_, words_);
}

uint16_t FragmentTable::find(const FragmentKey& key, uint16_t bucket) const {
  uint16_t r = buckets_[bucket];
  while (r != 0 && datagrams_[r].key != key) r = datagrams_[r].next;
  return r;
}

uint16_t FragmentTable::create(const FragmentKey& key, uint16_t bucket, uint32_t now, uint32_t& evicted) {
  if (free_ == 0) {
    evicted = datagrams_[oldest_].fragments;
    remove(oldest_);
  }
  const uint16_t r = free_;
  Datagram& d = datagrams_[r];
  free_ = d.next;
  d = {};
  d.key = key;
  d.since = now;
  d.bucket = bucket;
  d.next = buckets_[bucket];
  buckets_[bucket] = r;
  d.older = newest_;
  (newest_ != 0 ? datagrams_[newest_].newer : oldest_) = r;
  newest_ = r;
  std::ranges::fill(bits_of(d), 0);
  return r;
}

// Frees the buffer, too, if the datagram still has it.
void FragmentTable::remove(uint16_t reference) {
  Datagram& d = datagrams_[reference];
  uint16_t* link = &buckets_[d.bucket];
  while (*link != reference) link = &datagrams_[*link].next;
  *link = d.next;
  (d.older != 0 ? datagrams_[d.older].newer : oldest_) = d.newer;
  (d.newer != 0 ? datagrams_[d.newer].older : newest_) = d.older;
  rte_pktmbuf_free(d.packet);
  d.packet = nullptr;
  d.next = free_;
  free_ = reference;
}

// The bytes of a piece that has come whole.
bool FragmentTable::has_same(const Datagram& d, const FragmentPiece& piece) {
  const void* const bytes = rte_pktmbuf_read(piece.mbuf, piece.at, piece.size, scratch_.data());
  return bytes != nullptr && std::memcmp(bytes, payload_of(d.packet) + piece.offset, piece.size) == 0;
}

// What a piece of a packet that has not been given up is, beside the others: `held` if it may be copied.
FragmentTable::Outcome FragmentTable::judge(const Datagram& d, const FragmentPiece& piece) {
  const uint32_t end = piece.offset + piece.size;
  if (end > room_) return Outcome::too_long;
  if (d.total != 0 ? (piece.is_last ? end != d.total : end > d.total) : piece.is_last && end < d.end)
    return Outcome::overlap;
  bool any = false, all = true;
  for_each_word(bits_of(d), piece.offset / kUnit, units(end), [&](uint64_t word, uint64_t mask) {
    any |= (word & mask) != 0;
    all &= (word & mask) == mask;
  });
  if (!any) return Outcome::held;
  return all && has_same(d, piece) ? Outcome::duplicate : Outcome::overlap;
}

FragmentTable::Added FragmentTable::give_up(Datagram& d, Outcome why) {
  const uint32_t lost = std::exchange(d.fragments, uint16_t{0});
  rte_pktmbuf_free(d.packet);
  d.packet = nullptr;
  d.given_up = why;
  return {.outcome = why, .fragments = lost};
}

// False: there is no buffer.
bool FragmentTable::put(Datagram& d, const FragmentPiece& piece) {
  if (d.packet == nullptr) d.packet = rte_pktmbuf_alloc(pool_);
  if (d.packet == nullptr) return false;
  uint8_t* const to = payload_of(d.packet);
  const void* const bytes = rte_pktmbuf_read(piece.mbuf, piece.at, piece.size, to + piece.offset);
  if (bytes != to + piece.offset) std::memcpy(to + piece.offset, bytes, piece.size);
  if (piece.offset == 0) {
    std::memcpy(to - piece.head.size(), piece.head.data(), piece.head.size());
    d.l2_size = static_cast<uint16_t>(piece.l2_size);
    d.l3_size = static_cast<uint16_t>(piece.head.size() - piece.l2_size);
    d.packet->port = piece.mbuf->port;
  }
  const uint32_t end = piece.offset + piece.size, first = piece.offset / kUnit;
  for_each_word(bits_of(d), first, units(end), [](uint64_t& word, uint64_t mask) { word |= mask; });
  d.covered += units(end) - first;
  d.end = std::max(d.end, end);
  if (piece.is_last) d.total = end;
  ++d.fragments;
  d.largest = std::max(d.largest, piece.ip_length);
  d.is_congested |= piece.is_congested;
  return true;
}

FragmentTable::Added FragmentTable::take_out(uint16_t reference) {
  Datagram& d = datagrams_[reference];
  rte_mbuf* const m = std::exchange(d.packet, nullptr);
  m->data_off = static_cast<uint16_t>(kPayloadAt - d.l2_size - d.l3_size);
  m->data_len = static_cast<uint16_t>(d.l2_size + d.l3_size + d.total);
  m->pkt_len = m->data_len;
  remove(reference);
  return {.outcome = Outcome::whole,
          .fragments = d.fragments,
          .packet = m,
          .l2_size = d.l2_size,
          .l3_size = d.l3_size,
          .largest = d.largest,
          .is_congested = d.is_congested};
}

FragmentTable::Added FragmentTable::add(const FragmentKey& key, uint64_t hash, const FragmentPiece& piece,
                                        uint32_t now) {
  if (piece.head.size() > kMostHead) return {.outcome = Outcome::too_long};
  const auto bucket = static_cast<uint16_t>(hash % kBuckets);
  uint32_t evicted = 0;
  uint16_t reference = find(key, bucket);
  if (reference == 0) reference = create(key, bucket, now, evicted);
  Datagram& d = datagrams_[reference];
  Added added{.outcome = d.given_up};
  if (added.outcome == Outcome::held) added.outcome = judge(d, piece);
  if (added.outcome == Outcome::held && !put(d, piece)) {
    added.outcome = Outcome::no_buffer;
    remove(reference);  // nothing is held yet: whoever has a fragment has a buffer
  } else if (added.outcome == Outcome::held && d.l3_size != 0 && d.total != 0 &&
             d.covered == units(d.total)) {
    added = take_out(reference);
  } else if (added.outcome == Outcome::overlap || added.outcome == Outcome::too_long) {
    added = give_up(d, added.outcome);
  }
  added.evicted = evicted;
  return added;
}

uint32_t FragmentTable::expire(uint32_t now) {
  uint32_t lost = 0;
  while (oldest_ != 0 && ticks_since(now, datagrams_[oldest_].since) > ticks_of_ms(kFragmentWaitMs)) {
    lost += datagrams_[oldest_].fragments;
    remove(oldest_);
  }
  return lost;
}

}  // namespace portico
