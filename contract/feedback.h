// SPDX-License-Identifier: Apache-2.0
// What stands in the `feedback` file: written by the dataplane's main thread (which gathers the workers'
// counters), read by control and the CLI with pread. Counters only grow while `epoch` stays; gauges say so.
#pragma once

#include "contract/drop_reasons.h"
#include "contract/flow_losses.h"
#include "contract/layout.h"

namespace portico {

enum class DataplaneState : uint32_t { starting = 1, waiting_for_table = 2, running = 3, stopping = 4 };

// "starting", "waiting_for_table", "running" or "stopping"; "unknown" for any other value, which a file that
// others wrote may hold.
constexpr const char* to_string(DataplaneState state) {
  switch (state) {
    case DataplaneState::starting:
      return "starting";
    case DataplaneState::waiting_for_table:
      return "waiting_for_table";
    case DataplaneState::running:
      return "running";
    case DataplaneState::stopping:
      return "stopping";
  }
  return "unknown";
}

// Why a generation was refused. The text in FeedbackHeader says which field of which record.
enum class RefusalReason : uint32_t {
  none = 0,
  bad_magic = 1,
  other_abi = 2,
  other_layout = 3,
  truncated = 4,
  bad_directory = 5,
  bad_checksum = 6,
  bad_reference = 7,  // a block outside the file, misaligned, or of a wrong size
  bad_record = 8,     // a field out of its range
  moved_on = 9,       // control republished while it was read, again and again
  no_memory = 10,
  needs_restart = 11,  // adopted, but a [start] setting differs from the running one
  ports_changed = 12,  // a port index means another device than the running one
};

struct WorkerFeedback {
  uint64_t heartbeat_ns;      // CLOCK_MONOTONIC
  uint64_t acked_generation;  // what this worker uses
  uint64_t busy_cycles;       // TSC cycles spent on bursts with packets
  uint64_t total_cycles;      // TSC cycles since the worker started
  uint64_t rx_packets;
  uint64_t tx_packets;
  uint64_t handed_over;     // packets given to the worker that owns their flow
  uint64_t flows;           // gauge
  uint64_t flow_capacity;   // gauge
  uint64_t nat_ports_used;  // gauge
  uint64_t sleeps;          // times `idle: adaptive` slept
  uint32_t cpu;
  // Gauges. Each backend endpoint (address and port) has all NAT ports of its family that the worker owns; of
  // the endpoint that uses the largest part of them: the backend's id (kNone: no endpoint uses any), how many
  // it uses, and how many there are (0: the worker has none).
  uint32_t nat_fullest_backend;
  uint64_t nat_fullest_used;
  uint64_t nat_fullest_ports;
  uint64_t flows_uninserted;  // dsr flows forwarded by hash alone: the rate of new flows, or a full table
  uint64_t evictions;         // flows on probation or over that gave way to new ones
};
static_assert(sizeof(WorkerFeedback) == 128);

struct ServiceFeedback {
  uint64_t flows;  // gauge
  uint64_t new_flows;
  uint64_t packets_in;   // from clients
  uint64_t bytes_in;     // of IP packets
  uint64_t packets_out;  // to clients; 0 in dsr modes
  uint64_t bytes_out;
  uint64_t missed;             // later packets whose flow was not in the table: the churn alarm
  uint64_t resets_sent;        // RSTs that we sent to clients
  uint64_t headers_sent;       // PROXY protocol headers: connections that got their first
  uint64_t headers_repeated;   // those sent again since the backend had not acknowledged them
  uint64_t headers_unwatched;  // those that go out with packets only: the timers had no room
  uint64_t source_limited;     // new connections refused since their source has or opens too many
  uint64_t reserved[4];
};
static_assert(sizeof(ServiceFeedback) == 128);

struct BackendFeedback {
  uint64_t flows;  // gauge
  uint64_t new_flows;
  uint64_t packets_in;  // toward the backend
  uint64_t bytes_in;
  uint64_t packets_out;  // from the backend; 0 in dsr modes
  uint64_t bytes_out;
  uint64_t resets_received;  // RSTs from the backend
  uint64_t resets_sent;      // flows that we reset because the backend went down
  // Signals that the backend may be gone, which have control probe it.
  uint64_t syn_repeats;      // SYNs seen again on a flow that the backend had not answered
  uint64_t syns_unanswered;  // flows whose SYN was not answered for 200 ms; 0 in dsr modes
  uint64_t syns_refused;     // of resets_received, those that answered a SYN
  uint64_t reserved[5];
};
static_assert(sizeof(BackendFeedback) == 128);

struct PortFeedback {
  char name[kNameSize];
  uint64_t rx_packets, tx_packets, rx_missed, rx_errors, tx_errors, rx_no_mbuf;
  uint32_t link_up;  // 0 or 1
  uint32_t queues;
  uint64_t reserved;
};
static_assert(sizeof(PortFeedback) == 128);

// An address that the dataplane has packets for and no MAC address: control resolves it and publishes it.
struct ResolveRequest {
  Address address;
  uint64_t requested_ns;  // CLOCK_MONOTONIC of the latest packet; 0: empty entry
  uint32_t port;          // index into ports
  uint32_t reserved;
};
static_assert(sizeof(ResolveRequest) == 32);

// What this dataplane took up from the one before it; all 0 if there was nothing to take up. Does not change
// after the start.
struct TakeOverFeedback {
  uint64_t stop_ns;     // from the last sign of life of the one before (10 ms apart) to forwarding again
  uint64_t flows_kept;  // connections that go on
  uint64_t flows_lost[kMaxFlowLosses];  // connections that do not, by FlowLoss
  uint64_t reserved[2];
};
static_assert(sizeof(TakeOverFeedback) == 128);

struct FeedbackHeader {
  uint64_t magic;        // kFeedbackMagic; written last at creation, release
  uint32_t abi_version;  // kAbiVersion
  uint32_t header_size;  // sizeof(Feedback)
  uint64_t layout_hash;
  uint64_t epoch;  // random per dataplane start; counters start over
  // All below: mutable, main thread. Odd while a write is under way (a sequence lock): readers retry.
  alignas(64) uint64_t sequence;
  uint64_t heartbeat_ns;  // CLOCK_MONOTONIC
  uint64_t pid;
  uint64_t start_realtime_ns;
  uint64_t table_epoch;         // epoch of the table file in use; 0: none
  uint64_t pending_generation;  // being copied; 0: none
  uint64_t adopted_generation;  // copied, validated, and acknowledged by every worker
  uint64_t adopted_monotonic_ns;
  uint64_t refused_generation;  // the newest one refused; 0: none
  uint64_t refused_count;
  uint32_t refused_reason;  // RefusalReason
  uint32_t state;           // DataplaneState
  uint32_t worker_count;
  uint32_t port_count;
  uint64_t tsc_hz;
  uint64_t nat_ports_total;  // gauge: NAT ports per backend endpoint, over all addresses
  uint64_t reserved[2];
  char refused_text[kTextSize];
  char version[kNameSize];
};
static_assert(sizeof(FeedbackHeader) == 512);

struct Feedback {
  FeedbackHeader header;
  uint64_t drops[kMaxDropReasons];  // packets, by DropReason
  uint64_t to_kernel;               // packets handed to the kernel
  uint64_t answered;                // packets answered with RST or ICMP
  // Of ports that DPDK drives alone, whose way to the kernel is a tap; 0 if there is none.
  uint64_t kernel_taken;  // of `to_kernel`: frames that the tap took
  uint64_t from_kernel;   // frames that the kernel sent and workers were given
  uint64_t kernel_waits;  // times that the kernel's frames waited a millisecond for a packet buffer
  uint64_t forwarded;     // packets sent on, rewritten or not
  uint64_t originated;    // packets of the dataplane's own: RSTs of sweeps and for backends, PROXY headers
  // Of ports by AF_XDP, what the XDP program did with frames: to a worker's socket, to the kernel, and
  // dropped since no socket polls their queue.
  uint64_t steered_to_dataplane, steered_to_kernel, steered_no_socket;
  uint64_t reassembled;       // packets that were put together from fragments
  uint64_t fragments_joined;  // fragments that such packets came in
  uint64_t fragments_held;    // gauge: fragments that wait for the others of their packet
  uint64_t fragmented;        // of `forwarded`: packets that went on in fragments
  uint64_t fragments_sent;    // the fragments of those
  uint64_t reserved[1];
  TakeOverFeedback take_over;
  PortFeedback ports[kMaxPorts];
  WorkerFeedback workers[kMaxWorkers];
  ServiceFeedback services[kMaxServices];
  BackendFeedback backends[kMaxBackends];
  ResolveRequest resolve[kMaxResolveRequests];
};

static_assert(std::is_trivially_copyable_v<Feedback>);

}  // namespace portico
