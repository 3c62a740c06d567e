// SPDX-License-Identifier: Apache-2.0
// Every limit of the contract in one place, with the relations between them asserted.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portico {

inline constexpr uint32_t kMaxServices = 1024;          // service ids are [0, kMaxServices)
inline constexpr uint32_t kMaxListeners = 4096;         // (address, port) pairs of all services together
inline constexpr uint32_t kMaxPools = 256;              // pool ids are [0, kMaxPools)
inline constexpr uint32_t kMaxBackends = 4096;          // backend ids are [0, kMaxBackends), over all pools
inline constexpr uint32_t kMaxNextHops = 8192;          // next hop indexes are [0, kMaxNextHops)
inline constexpr uint32_t kMaxRoutes = 65536;           // longest-prefix routes, both families together
inline constexpr uint32_t kMaxAccessLists = 1024;       // access list ids are [0, kMaxAccessLists)
inline constexpr uint32_t kMaxAccessPrefixes = 131072;  // prefixes of all access lists together
inline constexpr uint32_t kMaxNatAddresses = 64;        // both families together
inline constexpr uint32_t kMaxOwnAddresses = 1024;      // of the host, both families together
inline constexpr uint32_t kMaxReplyEndpoints = 8192;  // (backend address, port) pairs behind `dnat` services
inline constexpr uint32_t kMaxPorts = 16;             // DPDK ports of one dataplane
inline constexpr uint32_t kMaxVlan = 4094;            // IEEE 802.1Q: 0 and 4095 name no VLAN
inline constexpr uint32_t kMaxWorkers = 64;
inline constexpr uint32_t kMaxDropReasons = 64;      // upper bound of the list in drop_reasons.h
inline constexpr uint32_t kMaxResetPorts = 8;        // ports of one backend known to be refused
inline constexpr uint32_t kMaxResolveRequests = 64;  // addresses the dataplane can ask for at a time
inline constexpr uint32_t kMinLookupSize = 251;      // slots; prime
inline constexpr uint32_t kMaxLookupSize = 1048573;  // slots; prime
inline constexpr uint32_t kDefaultLookupSize = 65537;
inline constexpr uint32_t kMaxLookupSlots = 33554432;   // slots of all pools together: 64 MiB per copy
inline constexpr uint32_t kMaxSourceLimit = 1'000'000;  // connections per source prefix, also per second
inline constexpr uint32_t kMaxWeight = 1000;
inline constexpr uint32_t kMaxFlows = 1u << 28;    // flow table entries of one dataplane
inline constexpr uint32_t kMaxMbufs = 1u << 24;    // packet buffers per NUMA node
inline constexpr uint16_t kDefaultGuePort = 6080;  // UDP, draft-ietf-intarea-gue-09
inline constexpr uint32_t kMinMtu = 68;            // RFC 791
inline constexpr uint32_t kMaxMtu = 65535;
inline constexpr uint32_t kNameSize = 64;           // bytes, NUL included
inline constexpr uint32_t kTextSize = 256;          // bytes, NUL included
inline constexpr uint32_t kMaxFallbackColumns = 3;  // backends beside its own that a slot names

// The dataplane looks at `current` this often, and writes its heartbeat and counters this often.
inline constexpr uint32_t kAdoptIntervalUs = 1000;
inline constexpr uint32_t kFeedbackIntervalMs = 10;
// A process whose heartbeat is older than this is shown as not answering.
inline constexpr uint32_t kHeartbeatStaleMs = 1000;

// 0xffff is never an id.
inline constexpr uint16_t kNone = 0xffff;

// Ten kinds have one block; four kinds (pool, backends, lookup, fallback) have one per pool, so that a
// change of one pool costs that pool's blocks alone.
inline constexpr uint32_t kFixedBlocks = 10;
inline constexpr uint32_t kBlocksPerPool = 4;
inline constexpr uint32_t kMaxBlocks = kFixedBlocks + kBlocksPerPool * kMaxPools;
inline constexpr uint32_t kDirectorySlots = 8;

static_assert(kMaxServices < kNone && kMaxBackends < kNone && kMaxNextHops < kNone && kMaxPools < kNone);
static_assert(kMaxListeners >= kMaxServices);
static_assert(kMinLookupSize <= kDefaultLookupSize && kDefaultLookupSize <= kMaxLookupSize);
static_assert(kMaxBackends * 16 <= kMaxLookupSize, "the largest table gives every backend slots");
static_assert(kMaxAccessLists < kNone);
static_assert(uint64_t{kMaxPools} * kDefaultLookupSize <= kMaxLookupSlots,
              "every pool can have the default size");

}  // namespace portico
