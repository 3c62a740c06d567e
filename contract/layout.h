// SPDX-License-Identifier: Apache-2.0
// What stands in the `table` file: written by control, read by the dataplane with pread. Fixed-width fields
// in host byte order (both processes run on one host) unless a comment says otherwise; no pointer, no bool,
// no size_t. docs/contract.md says who writes what in which order and when memory returns.
//
// A change of any struct here needs a new kAbiVersion: tests/unit/layout_test.cc fails otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "contract/address.h"
#include "contract/limits.h"

namespace portico {

inline constexpr uint32_t kAbiVersion = 9;
inline constexpr uint64_t kTableMagic = 0x656c626174747270;     // "prttable"
inline constexpr uint64_t kFeedbackMagic = 0x6b63616264747270;  // "prtdback"

enum class BlockKind : uint16_t {
  settings = 1,   // one SettingsRecord
  ports = 2,      // PortRecord[]
  services = 3,   // ServiceRecord[], by ascending id
  listeners = 4,  // ListenerRecord[], ascending (address's 16 bytes, port), no two alike
  pool = 5,       // one PoolRecord; one block per pool
  backends = 6,   // BackendRecord[], by ascending id; one block per pool
  next_hops = 7,  // NextHopRecord[]; the index in this array is the next hop's index
  routes = 8,     // RouteRecord[], ascending, no two alike
  access = 9,     // AccessRecord[], ascending (list, prefix)
  nat = 10,       // NatRecord[]
  lookup = 11,    // uint16_t[PoolRecord::lookup_size]: the backend id of each slot; one block per pool
  vlans = 12,     // VlanRecord[], ascending (port, vlan), no two alike
  // uint16_t[PoolRecord::lookup_size * fallback_columns]: of each slot in turn, the ids of the backends that
  // may have its older flows, most likely ones first, then kNone; none names the slot's own backend or one
  // twice. One block per pool that has such columns and a lookup block.
  fallback = 13,
  own = 14,  // OwnRecord[], ascending, no two alike
};

enum class Mode : uint8_t { nat = 1, dsr_l2 = 2, dsr_ipip = 3, dsr_gue = 4, dnat = 5 };
// The word of the configuration, the CLI and the API.
constexpr const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::nat:
      return "nat";
    case Mode::dsr_l2:
      return "dsr-l2";
    case Mode::dsr_ipip:
      return "dsr-ipip";
    case Mode::dsr_gue:
      return "dsr-gue";
    case Mode::dnat:
      return "dnat";
  }
  return "";
}
// Whether packets go to backends inside an outer header.
constexpr bool is_tunnel(Mode mode) {
  return mode == Mode::dsr_ipip || mode == Mode::dsr_gue;
}
// Whether addresses or ports are translated, and replies pass.
constexpr bool translates(Mode mode) {
  return mode == Mode::nat || mode == Mode::dnat;
}
// Over which family a tunnel carries packets of family `inner`: the same if it is possible, else the other;
// nothing: neither is.
constexpr std::optional<Family> outer_family(Family inner, bool v4_possible, bool v6_possible) {
  if (v4_possible && (inner == Family::v4 || !v6_possible)) return Family::v4;
  return v6_possible ? std::optional(Family::v6) : std::nullopt;
}
enum class Affinity : uint8_t { connection = 1, client = 2 };
// What a connection to a backend begins with, to tell it who the client is.
enum class ProxyProtocol : uint8_t { none = 0, v2 = 1 };
enum class IdleMode : uint8_t { poll = 1, adaptive = 2 };
enum class HugePages : uint8_t { required = 1, off = 2 };
// What becomes of IP fragments of TCP to a listener or NAT address.
enum class Fragments : uint8_t { reassemble = 1, drop = 2 };

// What a pool does with new flows.
enum class PoolDisposition : uint8_t {
  serve = 1,  // by the lookup table
  reset = 2,  // answer SYNs with RST (`all_down: reset`)
  drop = 3,   // drop them (`all_down: drop`)
};

// What happens to a backend's existing flows. New flows go by the lookup table alone.
enum class BackendDisposition : uint8_t {
  forward = 1,  // as if nothing were wrong: up, draining, held, weight 0, or kept
  finish =
      2,  // server data flows on; the client's next payload is answered with RST, so its next request moves
  reset = 3,  // reset them all now, rate-limited
};

// File offset 0 of `table`. Written once by control before `magic`, then only the fields marked mutable.
struct TableHeader {
  uint64_t magic;        // kTableMagic; written last at creation, release
  uint32_t abi_version;  // kAbiVersion
  uint32_t header_size;  // sizeof(TableHeader)
  uint64_t layout_hash;  // kLayoutHash of the writer
  uint64_t epoch;        // random; another value means another file, generations start over
  uint64_t file_size;    // bytes
  uint8_t reserved0[24];
  // Mutable, control, release. Low 8 bits: directory slot; the rest: generation, from 1. 0: nothing
  // published.
  alignas(64) uint64_t current;
  uint8_t reserved1[56];
  // Mutable, control, relaxed.
  alignas(64) uint64_t heartbeat_ns;  // CLOCK_MONOTONIC
  uint64_t control_pid;
  uint8_t reserved2[48];
};
static_assert(sizeof(TableHeader) == 192 && offsetof(TableHeader, current) == 64);

// Names one block of a generation. Blocks are immutable from the moment a published directory names them.
struct BlockRef {
  uint16_t kind;      // BlockKind
  uint16_t id;        // pool id for blocks of one pool, else 0
  uint32_t count;     // records
  uint64_t offset;    // bytes from the start of the file; multiple of 64
  uint64_t size;      // bytes; count * record size
  uint64_t version;   // unique per content within an epoch: the same version is the same bytes
  uint64_t checksum;  // XXH3-64 of the bytes
};
static_assert(sizeof(BlockRef) == 40);

// One generation. Directory slot i stands at sizeof(TableHeader) + i * sizeof(Directory).
struct Directory {
  uint64_t checksum;    // XXH3-64 of all that follows in this struct (block_count entries of `blocks` only)
  uint64_t generation;  // equals the one in `current`
  uint64_t epoch;
  uint64_t published_realtime_ns;
  uint64_t published_monotonic_ns;
  uint64_t config_version;  // counts applied configurations
  uint32_t block_count;     // <= kMaxBlocks
  uint32_t reserved;
  uint64_t reserved2;
  BlockRef blocks[kMaxBlocks];
};
static_assert(sizeof(Directory) == 64 + kMaxBlocks * sizeof(BlockRef));

// Settings of the whole dataplane. Those marked [start] take effect when the dataplane starts.
struct SettingsRecord {
  uint64_t hash_key[2];  // secret of the flow hash; the same on all balancers of a group
  uint32_t workers;      // [start] 1..kMaxWorkers; 0: chosen by the dataplane
  uint32_t flows;        // [start] flow table capacity over all workers, per family and mode
  uint32_t mbufs;        // [start] packet buffers per NUMA node; 0: chosen by the dataplane
  uint8_t idle;          // IdleMode
  uint8_t huge_pages;    // [start] HugePages
  uint8_t reserved0[2];
  uint32_t new_flow_rate;  // new flows/s per worker above which dsr forwards by hash without inserting; 0: no
                           // limit
  uint32_t reset_rate;     // RSTs/s per worker at most, sweep and answers each
  uint32_t timeout_syn_ms;          // a flow that has seen only SYNs
  uint32_t timeout_closing_ms;      // both sides sent FIN, or RST seen
  uint32_t timeout_half_closed_ms;  // one side sent FIN and nothing moves
  uint32_t reserved1;
  char instance[kNameSize];     // for messages; also names the guard
  char worker_cpus[kTextSize];  // [start] "2,3" or "2-5"; empty: chosen by the dataplane
  // Prefixes of which tunnels' outer sources are, host bits zero; none: no tunnels over that family.
  Address tunnel_source_v4, tunnel_source_v6;
  uint8_t tunnel_length_v4, tunnel_length_v6;  // bits of their own family; 0 with none
  uint16_t gue_port;                           // UDP port of backends in dsr_gue: 1..65535
  uint8_t fragments;                           // Fragments
  uint8_t reserved2[3];
};
static_assert(sizeof(SettingsRecord) == 416);

// A DPDK port [start]. The index in the block is the `port` of next hops.
struct PortRecord {
  char name[kNameSize];     // interface name, PCI address, or vdev name
  char devargs[kTextSize];  // DPDK vdev/devargs chosen by control; empty: implied by the name
  uint32_t queues;          // RX/TX queue pairs; equals workers
  uint32_t mtu;             // bytes of IP packet; 0: ask the device
};
static_assert(sizeof(PortRecord) == 328);

struct ServiceRecord {
  uint16_t id;
  uint16_t pool;
  uint16_t backend_port;       // 0: the listener's port
  uint16_t access_list;        // kNone: open to all
  uint8_t mode;                // Mode
  uint8_t affinity;            // Affinity
  uint8_t affinity_prefix_v6;  // bits of an IPv6 client that affinity `client` hashes: 1..128
  uint8_t proxy_protocol;      // ProxyProtocol; not none: mode is nat
  uint32_t idle_timeout_ms;    // established flows
  // What the clients of one prefix may have: new connections a second, so many of them at once, and
  // connections. 0: any number; the burst is 0 if and only if the rate is.
  uint32_t source_rate;
  uint32_t source_burst;
  uint32_t source_flows;
  uint8_t source_prefix_v4;  // bits of a client's address that are its prefix: 1..32
  uint8_t source_prefix_v6;  // 1..128
  uint8_t reserved1[2];
  char name[kNameSize];
};
static_assert(sizeof(ServiceRecord) == 32 + kNameSize);

struct ListenerRecord {
  Address address;
  uint16_t port;  // host byte order, 1..65535
  uint16_t service;
  uint32_t reserved;
};
static_assert(sizeof(ListenerRecord) == 24);

struct PoolRecord {
  uint16_t id;
  uint8_t disposition;       // PoolDisposition
  uint8_t fallback_columns;  // of its fallback block: 0..kMaxFallbackColumns
  uint32_t lookup_size;      // slots of this pool's lookup block; prime
  uint32_t backend_count;
  uint32_t usable_count;  // backends that hold slots
  char name[kNameSize];
};
static_assert(sizeof(PoolRecord) == 16 + kNameSize);

struct BackendRecord {
  uint16_t id;
  uint16_t pool;
  uint16_t weight;                       // 0..1000
  uint8_t disposition;                   // BackendDisposition
  uint8_t reset_count;                   // entries used of reset_ports
  uint16_t reset_ports[kMaxResetPorts];  // backend ports whose flows are reset now, whatever the disposition
  uint16_t next_hop_v4;                  // index into next_hops; kNone: no address of that family
  uint16_t next_hop_v6;
  uint8_t reserved0[4];
  Address address_v4;  // none if the backend has no address of that family
  Address address_v6;
  char name[kNameSize];
};
static_assert(sizeof(BackendRecord) == 64 + kNameSize);

struct NextHopRecord {
  Address address;  // the neighbour, for messages and resolve requests
  uint8_t mac[6];   // destination; meaningless while unresolved
  uint8_t source_mac[6];
  uint16_t port;     // index into ports
  uint16_t vlan;     // 0: untagged; else 1..4094
  uint32_t mtu;      // bytes of IP packet
  uint8_t resolved;  // 0 or 1
  uint8_t reserved[11];
};
static_assert(sizeof(NextHopRecord) == 48);

struct RouteRecord {
  Address prefix;  // host bits zero
  uint8_t length;  // bits of its own family: 0..32 or 0..128
  uint8_t
      on_link;  // 1: the destination itself is the neighbour; unknown ones are asked for by a resolve request
  uint16_t next_hop;  // index into next_hops; kNone with on_link: drop and ask
  uint16_t port;      // index into ports
  uint16_t reserved;
};
static_assert(sizeof(RouteRecord) == 24);

struct AccessRecord {
  Address prefix;  // host bits zero
  uint16_t list;   // access list id
  uint8_t length;  // bits of its own family
  uint8_t allow;   // 1 allow, 0 deny; the longest match decides, no match denies
  uint32_t reserved;
};
static_assert(sizeof(AccessRecord) == 24);

struct NatRecord {
  Address address;
  uint16_t first_port;  // of the range that NAT may use, inclusive
  uint16_t last_port;
  uint32_t reserved;
};
static_assert(sizeof(NatRecord) == 24);

// A VLAN whose frames a port takes. Of tagged frames, the others are not for this host.
struct VlanRecord {
  uint16_t port;  // index into ports
  uint16_t vlan;  // 802.1Q VLAN identifier, 1..4094
};
static_assert(sizeof(VlanRecord) == 4);

// An address of the host's own. What comes to one from a backend's service port, such as answers to health
// checks, is the kernel's and no reply of `dnat`. There are none where no service is in that mode.
struct OwnRecord {
  Address address;
};
static_assert(sizeof(OwnRecord) == 16);

// Bytes of one record of a kind; 0 for an unknown kind.
constexpr uint32_t record_size(BlockKind kind) {
  switch (kind) {
    case BlockKind::settings:
      return sizeof(SettingsRecord);
    case BlockKind::ports:
      return sizeof(PortRecord);
    case BlockKind::services:
      return sizeof(ServiceRecord);
    case BlockKind::listeners:
      return sizeof(ListenerRecord);
    case BlockKind::pool:
      return sizeof(PoolRecord);
    case BlockKind::backends:
      return sizeof(BackendRecord);
    case BlockKind::next_hops:
      return sizeof(NextHopRecord);
    case BlockKind::routes:
      return sizeof(RouteRecord);
    case BlockKind::access:
      return sizeof(AccessRecord);
    case BlockKind::nat:
      return sizeof(NatRecord);
    case BlockKind::lookup:
    case BlockKind::fallback:
      return sizeof(uint16_t);
    case BlockKind::vlans:
      return sizeof(VlanRecord);
    case BlockKind::own:
      return sizeof(OwnRecord);
  }
  return 0;
}

static_assert(std::is_trivially_copyable_v<TableHeader> && std::is_trivially_copyable_v<Directory>);

}  // namespace portico
