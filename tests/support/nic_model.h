// SPDX-License-Identifier: Apache-2.0
// A NIC that spreads TCP over its queues as DPDK's own software does (rte_softrss), whole tuples at a time.
#pragma once

#include <rte_thash.h>

#include <random>
#include <string>

#include "contract/address.h"
#include "dataplane/reply_spread.h"

namespace portico::test {

// Microsoft's verification key, which many NICs have by default.
inline constexpr RssKey kUsualKey = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                     0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                     0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                     0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};

// The key that lets both directions of a connection have one hash. It repeats itself after 16 bits.
inline RssKey symmetric_key() {
  RssKey key;
  for (size_t i = 0; i < key.size(); ++i) key[i] = i % 2 == 0 ? 0x6d : 0x5a;
  return key;
}

inline RssModel nic_model(const RssKey& key, size_t entries, uint32_t queues) {
  RssModel model{key, std::vector<uint16_t>(entries), true, true};
  for (size_t i = 0; i < entries; ++i) model.queues[i] = static_cast<uint16_t>(i % queues);
  return model;
}

// The queue that a packet of this tuple comes to.
inline uint32_t queue_of(const RssModel& model, const Address& from, uint16_t source_port, const Address& to,
                         uint16_t destination_port) {
  uint32_t words[9];
  uint32_t n = 0;
  for (const Address* a : {&from, &to}) {
    for (size_t at = a->is_v4() ? 12 : 0; at < 16; at += 4)
      words[n++] = static_cast<uint32_t>(a->bytes[at]) << 24 | static_cast<uint32_t>(a->bytes[at + 1]) << 16 |
                   static_cast<uint32_t>(a->bytes[at + 2]) << 8 | a->bytes[at + 3];
  }
  words[n++] = static_cast<uint32_t>(source_port) << 16 | destination_port;
  return model.queues[rte_softrss(words, n, model.key.data()) % model.queues.size()];
}
inline uint32_t queue_of(const RssModel& model, const std::string& from, uint16_t source_port,
                         const std::string& to, uint16_t destination_port) {
  return queue_of(model, Address::parse(from).value(), source_port, Address::parse(to).value(),
                  destination_port);
}

}  // namespace portico::test
