// SPDX-License-Identifier: Apache-2.0
// Connections through several workers: a Toeplitz hash says which queue each packet arrives on. A `Nic` has
// arrive(frame), which puts a frame on the queue that queue_of() says and returns that, and leave(count),
// what has left since, until so many frames have.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "tests/packet/rig.h"
#include "tests/support/nic_model.h"

namespace portico::test {

inline constexpr uint32_t kConnections = 100;
inline constexpr size_t kEntries = 128;  // of the NIC's redirection table

// What a NIC computes: over addresses and ports for TCP, over addresses for the rest.
inline uint32_t toeplitz(const Bytes& frame) {
  const bool is_v4 = frame[12] == 0x08;
  const size_t addresses = is_v4 ? 14 + 12 : 14 + 8;
  const size_t length = is_v4 ? 8 : 32;
  const bool is_tcp = frame[is_v4 ? 14 + 9 : 14 + 6] == 6;
  std::vector<uint32_t> words;
  const auto add = [&](size_t at) {
    words.push_back(static_cast<uint32_t>(frame[at]) << 24 | static_cast<uint32_t>(frame[at + 1]) << 16 |
                    static_cast<uint32_t>(frame[at + 2]) << 8 | frame[at + 3]);
  };
  for (size_t i = 0; i < length; i += 4) add(addresses + i);
  if (is_tcp) add(addresses + length);
  return rte_softrss(words.data(), static_cast<uint32_t>(words.size()), kUsualKey.data());
}

inline uint32_t queue_of(const Bytes& frame, uint32_t queues) {
  return static_cast<uint32_t>(toeplitz(frame) % kEntries % queues);
}

struct Elsewhere {
  uint64_t replies = 0, errors = 0;
};

// One family's connections: SYNs in, answers back, and an ICMP error about each, all by hash. Returns what
// arrives at another queue than the flow's.
template <typename Nic>
Elsewhere exercise(Nic& nic, const char* client, const char* vip, const char* router, uint8_t unreachable) {
  std::map<uint16_t, uint32_t> home;  // by client port
  Elsewhere elsewhere;
  for (uint16_t port = 1000; port < 1000 + kConnections; ++port) {
    home[port] = nic.arrive(Tcp(client, port, vip, kNat).flags(kSynFlag));
  }
  const std::vector<Bytes> syns = nic.leave(kConnections);
  EXPECT_EQ(kConnections, syns.size());

  // The answers' sequence number says which SYN they answer.
  std::vector<uint32_t> reply_queue;
  for (size_t i = 0; i < syns.size(); ++i) {
    const Seen syn = read_frame(syns[i]);
    EXPECT_TRUE(syn.checksums_right);
    reply_queue.push_back(nic.arrive(Tcp(syn.destination, kNat, syn.source, syn.source_port)
                                         .flags(kSynFlag)
                                         .seq(static_cast<uint32_t>(i))
                                         .ack(1001)));
  }
  const std::vector<Bytes> answers = nic.leave(syns.size());
  EXPECT_EQ(syns.size(), answers.size());
  std::map<uint16_t, size_t> syn_of;  // by client port
  for (const Bytes& frame : answers) {
    const Seen answer = read_frame(frame);
    EXPECT_EQ(client, answer.destination);
    EXPECT_EQ(vip, answer.source);
    EXPECT_TRUE(answer.checksums_right);
    EXPECT_TRUE(syn_of.emplace(answer.destination_port, answer.seq).second) << "each client gets one answer";
    if (answer.seq < reply_queue.size())
      elsewhere.replies += reply_queue[answer.seq] != home[answer.destination_port];
  }

  for (const auto& [port, index] : syn_of) {
    const Bytes inside(syns[index].begin() + 14, syns[index].end());
    const Bytes error =
        icmp_error(router, read_frame(syns[index]).source, unreachable, inside, inside.size());
    elsewhere.errors += nic.arrive(error) != home[port];
  }
  for (const Bytes& frame : nic.leave(syn_of.size())) {
    const Seen error = read_frame(frame);
    EXPECT_EQ(client, error.destination);
    EXPECT_EQ(1u, syn_of.erase(read_ip(error.icmp_embedded).source_port))
        << "the error names the client's port";
  }
  EXPECT_TRUE(syn_of.empty());
  return elsewhere;
}

// Connections of the dsr-l2 service: a SYN and an ACK each, both to one backend.
template <typename Nic>
void exercise_dsr(Nic& nic, const char* client, const char* vip) {
  std::map<uint16_t, std::string> backend;  // its MAC address, by client port
  for (const bool is_first : {true, false}) {
    for (uint16_t port = 1000; port < 1000 + kConnections; ++port) {
      Tcp packet(client, port, vip, kDsr);
      nic.arrive(is_first ? packet.flags(kSynFlag) : packet.ack(7));
    }
    const std::vector<Bytes> frames = nic.leave(kConnections);
    EXPECT_EQ(frames.size(), kConnections);
    for (const Bytes& frame : frames) {
      const Seen seen = read_frame(frame);
      EXPECT_EQ(seen.source, client);
      EXPECT_EQ(seen.destination, vip);
      EXPECT_TRUE(seen.checksums_right);
      EXPECT_EQ(backend.emplace(seen.source_port, seen.mac).first->second, seen.mac);
    }
  }
  EXPECT_EQ(backend.size(), kConnections);
}

}  // namespace portico::test
