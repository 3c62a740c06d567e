// SPDX-License-Identifier: Apache-2.0
// What goes with a packet from worker to worker, or to the kernel's thread, beside its bytes. Which of its
// meanings a note has, the packet says: an ICMP error, a SYN, or one for the kernel. Besides, one that was
// put together from fragments carries what is known of those.
#pragma once

#include <rte_mbuf.h>

#include <cstdint>

namespace portico {

class Note {
 public:
  static constexpr uint32_t kNobody = ~uint32_t{0};

  static Note none() { return Note(0); }
  // Of an ICMP error on its round: so many workers did not know its flow.
  static Note asked(uint32_t workers) { return Note(workers); }
  // Of a SYN: this worker wants it back if its flow is over.
  static Note wanted_by(uint32_t worker) { return Note(worker + 1); }
  // Of a frame for the kernel: whether it goes before others.
  static Note for_kernel(bool goes_first) { return Note(goes_first ? 1 : 0); }

  // Of a packet that has just been put together: bytes of the largest fragment.
  static Note whole(uint32_t largest) { return Note(largest << 16); }
  // The same, and what `before` says of fragments: the packet goes to one more worker.
  Note behind(Note before) const {
    if (before.largest_fragment() == 0) return *this;
    return Note(before.largest_fragment() << 16 | ((before.hands() + 1) & 0xff) << 8 | (value_ & 0xff));
  }

  static Note read(const rte_mbuf* m) { return Note(m->hash.usr); }
  void write(rte_mbuf* m) const { m->hash.usr = value_; }

  uint32_t asked() const { return value_ & 0xff; }
  // kNobody: no worker wants it back.
  uint32_t wanted_by() const { return (value_ & 0xff) - 1; }
  // 0: the packet came in one piece.
  uint32_t largest_fragment() const { return value_ >> 16; }
  // How many workers have given a packet away since it was put together.
  uint32_t hands() const { return value_ >> 8 & 0xff; }
  bool goes_first() const { return value_ == 1; }

 private:
  explicit Note(uint32_t value) : value_(value) {}

  uint32_t value_;
};

}  // namespace portico
