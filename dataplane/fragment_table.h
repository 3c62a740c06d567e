// SPDX-License-Identifier: Apache-2.0
// Packets of which fragments have come, until they are whole (RFC 791 section 3.2, RFC 8200 section 4.5).
// Each is one buffer of its own, into which its fragments are copied, so that they are freed at once: a flood
// of them takes no buffers from the ports that receive into the same pool, and what comes out is one segment,
// as everything behind expects. What is held is bounded in number and in time. When there is no room the
// oldest gives way: fragments of one packet follow each other closely, so a flood, which fills any table,
// pushes out itself.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

struct rte_mbuf;
struct rte_mempool;

namespace portico {

// Packets under way per worker; each holds a buffer.
inline constexpr uint32_t kMostDatagrams = 512;
// How long the first fragment waits for the last one. A TCP that misses a segment repeats it earlier, with
// another identification; long waits only mix packets with the same one (RFC 4963).
inline constexpr uint32_t kFragmentWaitMs = 2000;

// What the fragments of one packet have in common. IPv4 addresses and identifications stand in the first
// bytes, the others are zero.
struct FragmentKey {
  std::array<uint64_t, 2> source, destination;
  uint32_t id;
  bool is_v6;
  bool operator==(const FragmentKey&) const = default;
};

// One fragment, whose offset and size have been judged: it is not empty, and ends at a multiple of 8 bytes
// unless it is the last one.
struct FragmentPiece {
  const rte_mbuf* mbuf;
  std::span<const uint8_t> head;  // Ethernet and IP headers of the whole packet; of the first fragment only
  uint32_t l2_size;               // bytes of `head` before the IP header
  uint32_t at;                    // bytes of the mbuf before the payload
  uint32_t offset, size;          // of the payload, bytes
  uint16_t ip_length;             // of the fragment
  bool is_last;
  bool is_congested;  // ECN: congestion experienced
};

class FragmentTable {
 public:
  enum class Outcome : uint8_t {
    held,
    whole,
    duplicate,  // nothing new, and no contradiction
    overlap,    // two fragments contradict each other, so that none of the packet's may be used (RFC 5722)
    too_long,   // the packet does not fit a buffer
    no_buffer,
  };
  struct Added {
    Outcome outcome;
    uint32_t fragments = 0;  // whole: that the packet came in; overlap, too_long: that were held and are lost
    uint32_t evicted = 0;    // fragments of another packet, which gave way
    rte_mbuf* packet = nullptr;  // whole: headers as `head` had them
    uint32_t l2_size = 0, l3_size = 0;
    uint16_t largest = 0;  // bytes of its largest fragment as an IP packet
    bool is_congested = false;
  };

  // Buffers come from `pool`. Main thread; throws std::bad_alloc.
  explicit FragmentTable(rte_mempool* pool);
  ~FragmentTable();
  FragmentTable(const FragmentTable&) = delete;
  FragmentTable& operator=(const FragmentTable&) = delete;

  // `hash`: of the key, one that nobody outside can aim. `now`: tick. Copies the piece; the mbuf stays the
  // caller's.
  Added add(const FragmentKey& key, uint64_t hash, const FragmentPiece& piece, uint32_t now);
  // Gives packets up that have waited too long. Returns how many fragments were held for them.
  uint32_t expire(uint32_t now);
  bool is_empty() const { return oldest_ == 0; }

 private:
  static constexpr uint32_t kBuckets = 1024;

  // The reference 0 is none. An entry stands in its bucket's chain and in the order of arrival, or in the
  // list of free ones (`next`).
  struct Datagram {
    FragmentKey key;
    rte_mbuf* packet;           // null: given up, or nothing held yet
    uint32_t since;             // tick
    uint32_t total;             // bytes of payload; 0: the last fragment has not come
    uint32_t end;               // of what has come
    uint32_t covered;           // units of 8 bytes
    uint16_t l2_size, l3_size;  // 0: the first fragment has not come
    uint16_t fragments, largest;
    uint16_t bucket, next, older, newer;
    Outcome given_up;  // held: it is not; else why, for the fragments still to come
    bool is_congested;
  };

  uint16_t find(const FragmentKey& key, uint16_t bucket) const;
  uint16_t create(const FragmentKey& key, uint16_t bucket, uint32_t now, uint32_t& evicted);
  void remove(uint16_t reference);
  Outcome judge(const Datagram& d, const FragmentPiece& piece);
  bool has_same(const Datagram& d, const FragmentPiece& piece);
  Added give_up(Datagram& d, Outcome why);
  bool put(Datagram& d, const FragmentPiece& piece);
  Added take_out(uint16_t reference);
  std::span<uint64_t> bits_of(const Datagram& d);

  rte_mempool* const pool_;
  const uint32_t room_;  // bytes of payload that a buffer takes
  const uint32_t words_;
  std::vector<Datagram> datagrams_;
  std::vector<uint64_t> bits_;  // of each datagram: units of 8 bytes that have come
  std::vector<uint8_t> scratch_;
  std::array<uint16_t, kBuckets> buckets_{};
  uint16_t free_ = 0, oldest_ = 0, newest_ = 0;
};

}  // namespace portico
