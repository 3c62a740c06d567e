// SPDX-License-Identifier: Apache-2.0
// A packet on its way through the stages, and the outcomes of parsing. One cache line each.
#pragma once

#include <cstdint>

#include "contract/drop_reasons.h"
#include "contract/layout.h"
#include "contract/limits.h"

struct rte_mbuf;

namespace portico {

class FlowIndex;

// What parsing found.
enum class Kind : uint8_t {
  malformed,   // Packet::reason says how
  not_ip,      // ARP and the like
  fragment,    // of IP, first ones too
  icmp_error,  // l4 points at the ICMP or ICMPv6 header
  other_ip,    // well-formed IP of no interest
  tcp,         // l4 points at a whole TCP header
};

// Which stage handles it, after classification.
enum class Path : uint8_t {
  done,     // has got its verdict
  dsr,      // from a client to a service
  nat_in,   // from a client to a service
  nat_out,  // from a backend to a NAT address, or to a client that it sees
  icmp,     // an ICMP error about a flow
  tunnel,   // from a client to a service
};
inline constexpr uint32_t kPaths = 6;
constexpr Path path_of(Mode mode) {
  return translates(mode) ? Path::nat_in : mode == Mode::dsr_l2 ? Path::dsr : Path::tunnel;
}

// Whether plain.h may have a short way for it: no tags, no IP options, no extension headers, and of TCP's
// flags (PSH, URG and those of ECN aside)
enum class Shape : uint8_t {
  general,  // others, or not even plain headers
  later,    // ACK alone
  opening,  // SYN alone
};

struct Packet {
  rte_mbuf* mbuf;
  uint8_t* l3;             // IP header
  uint8_t* l4;             // TCP or ICMP header
  uint64_t hash;           // of the flow, for the flow table
  const FlowIndex* index;  // of the flow table; null: none to look into
  uint32_t candidate;      // reference of the likely entry; 0: none
  uint16_t ip_length;      // bytes, header included
  uint16_t payload;        // bytes after the TCP header
  uint16_t service;        // id; kNone: none
  uint16_t nat;            // nat_out to a NAT address: its index
  uint8_t flags;           // of TCP
  bool is_v6;
  bool was_handed_over;
  Shape shape;
  Kind kind;
  Path path;
  DropReason reason;  // of kind malformed
};
static_assert(sizeof(Packet) <= 64);

}  // namespace portico
