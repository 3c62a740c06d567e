// SPDX-License-Identifier: Apache-2.0
// Workers that must not differ: one that takes the general way with every packet, and those that have the
// short ways of plain.h, plain_opening.h and first_look.h, portable and with vector instructions. All are
// given the same; what they send, count and remember is compared byte for byte.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dataplane/worker.h"
#include "tests/packet/rig.h"

namespace portico::test {

// A frame as a driver hands it over.
struct Given {
  Bytes frame;
  uint16_t port = 0;      // of arrival
  uint64_t ol_flags = 0;  // of the mbuf
  size_t split = 0;       // bytes of the first of two segments; 0: one segment
  uint32_t user = 0;      // mbuf->hash.usr, which a hand-over keeps
};

// A frame that a worker wants sent.
struct Sent {
  enum class To : uint8_t { port, worker, kernel } to;
  uint32_t index;  // of the port or worker
  Bytes frame;     // its first segment
  uint32_t user;
};

class Twins {
 public:
  // `config.vectors`, `short_ways`, `near_bytes`, `huge_pages`, `pool` and `flow_key` are set here. Counters
  // are compared of services and backends with ids up to `highest_id`.
  Twins(WorkerConfig config, const Table& table, uint16_t highest_id);
  ~Twins();
  Twins(const Twins&) = delete;
  Twins& operator=(const Twins&) = delete;

  void prepare(const Table& table);
  // As if some of the flows that are known now had been other workers' before a restart.
  void move_flows(std::mt19937& random, uint32_t workers);
  void process(const std::vector<Given>& burst, bool were_handed_over, const Table* table, uint64_t now);
  void sweep(const Table& table, uint64_t now);

  // The first thing in which one of them differs from the one of the general way; empty if there is none.
  // Takes requests out of the queues of addresses to resolve.
  std::string difference();
  // Of their counts of NAT ports in use, which takes a look through 64 KiB each.
  std::string difference_in_use();
  // What waits to be sent, which all agree upon; they forget it.
  std::vector<Sent> take_output();

  Worker& general() { return *workers_[0]; }

 private:
  std::string resolve_difference();

  std::vector<std::unique_ptr<Worker>> workers_;
  const uint16_t highest_id_;
};

// What the bytes of a frame's TCP segment or ICMP message add up to with the pseudo header (RFC 1071): 0xffff
// if the checksum is right; forwarding leaves a wrong one as wrong as it was. 0 if there is nothing to add
// up, and never otherwise.
uint16_t residue_of(const Bytes& frame);

// What stands in a frame's tunnel, in a frame whose EtherType is still the outer one's; other frames as they
// are.
Bytes unwrapped(const Bytes& frame);
// Whether an IPv4 header's sum is right. True of other frames.
bool has_right_ip_sum(const Bytes& frame);

}  // namespace portico::test
