// SPDX-License-Identifier: Apache-2.0
// The load of the packet path's benchmarks: distinct flows in random order as 64-byte frames, and the table
// that forwards them.
#pragma once

#include <rte_mbuf.h>

#include <cstdint>
#include <vector>

#include "contract/snapshot.h"
#include "tests/packet/rig.h"

namespace portico::bench {

// 16 backends behind a look-up table of 65537 slots, a service of the mode on an address of the family, 63
// NAT addresses.
TableContent bench_content(Mode mode, Family family);

// The i-th of `size` numbers in an order without pattern; every number once per `size` steps.
class Shuffle {
 public:
  explicit Shuffle(uint32_t size);
  uint32_t next();

 private:
  uint32_t size_, mask_, shift_;
  uint32_t at_ = 0;
};

// Writes the packets of flows, known by number, into buffers. Flow numbers are below 2^26.
class Writer {
 public:
  Writer(Mode mode, Family family);

  // Of the client. `flags` are kSynFlag or kAckFlag of tests/packet/frame.h.
  void write(rte_mbuf* m, uint32_t flow, uint8_t flags);
  // The backend's SYN-ACK (`is_first`) or a later packet of it; learn() has seen the flow's first packet.
  void write_reply(rte_mbuf* m, uint32_t flow, bool is_first);
  // Takes the NAT address, its port and the backend out of a client's packet that has been forwarded.
  void learn(const rte_mbuf* m, uint32_t flow);

 private:
  uint8_t* put(rte_mbuf* m, const test::Bytes& frame);
  void mend(uint8_t* ip) const;
  uint8_t* remembered(uint32_t flow);

  bool is_v4_;
  test::Bytes syn_, ack_, syn_ack_, data_;
  // Per flow what its translated packets show: both addresses as in the IP header, both ports as in TCP's.
  std::vector<uint8_t> learned_;
};

// Makes an IPv4 SYN-ACK the answer to a SYN that left room for the PROXY protocol's header.
void acknowledge_lowered_syn(rte_mbuf* m);

}  // namespace portico::bench
