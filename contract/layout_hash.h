// SPDX-License-Identifier: Apache-2.0
// One number for the layout of everything that is shared: sizes and offsets of every field, and the values of
// the enums. It stands in both files, so that builds whose compilers or sources disagree refuse each other
// plainly. tests/unit/layout_test.cc pins it per kAbiVersion.
#pragma once

#include <string_view>

#include "contract/feedback.h"
#include "contract/layout.h"

namespace portico {

namespace layout_hash_detail {

constexpr uint64_t mix(uint64_t hash, uint64_t value) {  // FNV-1a over the value's bytes
  for (int byte = 0; byte < 8; ++byte) hash = (hash ^ ((value >> (8 * byte)) & 0xff)) * 0x100000001b3;
  return hash;
}

constexpr uint64_t mix(uint64_t hash, std::string_view text) {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return mix(hash, text.size());
}

}  // namespace layout_hash_detail

// Offset and size of each field, in order, folded into one number.
#define PORTICO_FIELD(Type, field)                                       \
  hash = layout_hash_detail::mix(hash, std::string_view(#field));        \
  hash = layout_hash_detail::mix(hash, uint64_t{offsetof(Type, field)}); \
  hash = layout_hash_detail::mix(hash, uint64_t{sizeof(Type::field)});
#define PORTICO_STRUCT(Type)                                     \
  hash = layout_hash_detail::mix(hash, std::string_view(#Type)); \
  hash = layout_hash_detail::mix(hash, uint64_t{sizeof(Type)});  \
  hash = layout_hash_detail::mix(hash, uint64_t{alignof(Type)});

// Layout of the table file's structs.
constexpr uint64_t table_struct_hash() {
  uint64_t hash = 0xcbf29ce484222325;
  // One line per struct and its fields.
  // clang-format off
#define F(field) PORTICO_FIELD(TableHeader, field)
  PORTICO_STRUCT(TableHeader) F(magic) F(abi_version) F(header_size) F(layout_hash) F(epoch) F(file_size)
    F(current) F(heartbeat_ns) F(control_pid)
#undef F
#define F(field) PORTICO_FIELD(BlockRef, field)
  PORTICO_STRUCT(BlockRef) F(kind) F(id) F(count) F(offset) F(size) F(version) F(checksum)
#undef F
#define F(field) PORTICO_FIELD(Directory, field)
  PORTICO_STRUCT(Directory) F(checksum) F(generation) F(epoch) F(published_realtime_ns)
    F(published_monotonic_ns) F(config_version) F(block_count) F(blocks)
#undef F
#define F(field) PORTICO_FIELD(SettingsRecord, field)
  PORTICO_STRUCT(SettingsRecord) F(hash_key) F(workers) F(flows) F(mbufs) F(idle) F(huge_pages)
    F(new_flow_rate) F(reset_rate) F(timeout_syn_ms) F(timeout_closing_ms) F(timeout_half_closed_ms)
    F(instance) F(worker_cpus) F(tunnel_source_v4) F(tunnel_source_v6) F(tunnel_length_v4) F(tunnel_length_v6)
    F(gue_port) F(fragments)
#undef F
#define F(field) PORTICO_FIELD(PortRecord, field)
  PORTICO_STRUCT(PortRecord) F(name) F(devargs) F(queues) F(mtu)
#undef F
#define F(field) PORTICO_FIELD(ServiceRecord, field)
  PORTICO_STRUCT(ServiceRecord) F(id) F(pool) F(backend_port) F(access_list) F(mode) F(affinity)
    F(affinity_prefix_v6) F(proxy_protocol) F(idle_timeout_ms) F(source_rate) F(source_burst) F(source_flows)
    F(source_prefix_v4) F(source_prefix_v6) F(name)
#undef F
#define F(field) PORTICO_FIELD(ListenerRecord, field)
  PORTICO_STRUCT(ListenerRecord) F(address) F(port) F(service)
#undef F
#define F(field) PORTICO_FIELD(PoolRecord, field)
  PORTICO_STRUCT(PoolRecord) F(id) F(disposition) F(fallback_columns) F(lookup_size) F(backend_count) F(usable_count) F(name)
#undef F
#define F(field) PORTICO_FIELD(BackendRecord, field)
  PORTICO_STRUCT(BackendRecord) F(id) F(pool) F(weight) F(disposition) F(reset_count) F(reset_ports)
    F(next_hop_v4) F(next_hop_v6) F(address_v4) F(address_v6) F(name)
#undef F
#define F(field) PORTICO_FIELD(NextHopRecord, field)
  PORTICO_STRUCT(NextHopRecord) F(address) F(mac) F(source_mac) F(port) F(vlan) F(mtu) F(resolved)
#undef F
#define F(field) PORTICO_FIELD(RouteRecord, field)
  PORTICO_STRUCT(RouteRecord) F(prefix) F(length) F(on_link) F(next_hop) F(port)
#undef F
#define F(field) PORTICO_FIELD(AccessRecord, field)
  PORTICO_STRUCT(AccessRecord) F(prefix) F(list) F(length) F(allow)
#undef F
#define F(field) PORTICO_FIELD(NatRecord, field)
  PORTICO_STRUCT(NatRecord) F(address) F(first_port) F(last_port)
#undef F
#define F(field) PORTICO_FIELD(VlanRecord, field)
  PORTICO_STRUCT(VlanRecord) F(port) F(vlan)
#undef F
#define F(field) PORTICO_FIELD(OwnRecord, field)
  PORTICO_STRUCT(OwnRecord) F(address)
#undef F
      // clang-format on
      return hash;
}

// Meaning of the table file's numbers.
constexpr uint64_t table_enum_hash(uint64_t hash) {
  const auto add = [&hash](auto... value) {
    ((hash = layout_hash_detail::mix(hash, static_cast<uint64_t>(value))), ...);
  };
  add(BlockKind::settings, BlockKind::ports, BlockKind::services, BlockKind::listeners, BlockKind::pool,
      BlockKind::backends, BlockKind::next_hops, BlockKind::routes, BlockKind::access, BlockKind::nat,
      BlockKind::lookup, BlockKind::vlans, Mode::nat, Mode::dsr_l2, Mode::dsr_ipip, Affinity::connection,
      Affinity::client, IdleMode::poll, IdleMode::adaptive, HugePages::required, HugePages::off,
      PoolDisposition::serve, PoolDisposition::reset, PoolDisposition::drop, BackendDisposition::forward,
      BackendDisposition::finish, BackendDisposition::reset, ProxyProtocol::none, ProxyProtocol::v2,
      kDirectorySlots, BlockKind::fallback, Mode::dsr_gue, Mode::dnat, kMaxFallbackColumns, BlockKind::own);
  return hash;
}

// Layout of the feedback file's structs, without the drop reasons' names.
constexpr uint64_t feedback_struct_hash() {
  uint64_t hash = 0xcbf29ce484222325;
  // One line per struct and its fields.
  // clang-format off
#define F(field) PORTICO_FIELD(FeedbackHeader, field)
  PORTICO_STRUCT(FeedbackHeader) F(magic) F(abi_version) F(header_size) F(layout_hash) F(epoch) F(sequence)
    F(heartbeat_ns) F(pid) F(start_realtime_ns) F(table_epoch) F(pending_generation) F(adopted_generation)
    F(adopted_monotonic_ns) F(refused_generation) F(refused_count) F(refused_reason) F(state)
    F(worker_count) F(port_count) F(tsc_hz) F(nat_ports_total) F(refused_text) F(version)
#undef F
#define F(field) PORTICO_FIELD(WorkerFeedback, field)
  PORTICO_STRUCT(WorkerFeedback) F(heartbeat_ns) F(acked_generation) F(busy_cycles) F(total_cycles)
    F(rx_packets) F(tx_packets) F(handed_over) F(flows) F(flow_capacity) F(nat_ports_used) F(sleeps) F(cpu)
    F(nat_fullest_backend) F(nat_fullest_used) F(nat_fullest_ports) F(flows_uninserted)
    F(evictions)
#undef F
#define F(field) PORTICO_FIELD(ServiceFeedback, field)
  PORTICO_STRUCT(ServiceFeedback) F(flows) F(new_flows) F(packets_in) F(bytes_in) F(packets_out)
    F(bytes_out) F(missed) F(resets_sent) F(headers_sent) F(headers_repeated)
    F(headers_unwatched) F(source_limited)
#undef F
#define F(field) PORTICO_FIELD(BackendFeedback, field)
  PORTICO_STRUCT(BackendFeedback) F(flows) F(new_flows) F(packets_in) F(bytes_in) F(packets_out)
    F(bytes_out) F(resets_received) F(resets_sent) F(syn_repeats) F(syns_unanswered) F(syns_refused)
#undef F
#define F(field) PORTICO_FIELD(PortFeedback, field)
  PORTICO_STRUCT(PortFeedback) F(name) F(rx_packets) F(tx_packets) F(rx_missed) F(rx_errors) F(tx_errors)
    F(rx_no_mbuf) F(link_up) F(queues)
#undef F
#define F(field) PORTICO_FIELD(ResolveRequest, field)
  PORTICO_STRUCT(ResolveRequest) F(address) F(requested_ns) F(port)
#undef F
#define F(field) PORTICO_FIELD(TakeOverFeedback, field)
  PORTICO_STRUCT(TakeOverFeedback) F(stop_ns) F(flows_kept) F(flows_lost)
#undef F
#define F(field) PORTICO_FIELD(Feedback, field)
  PORTICO_STRUCT(Feedback) F(header) F(drops) F(to_kernel) F(answered) F(kernel_taken) F(from_kernel) F(kernel_waits) F(forwarded)
    F(originated) F(reassembled) F(fragments_joined) F(fragments_held)
    F(fragmented) F(fragments_sent) F(steered_to_dataplane) F(steered_to_kernel) F(steered_no_socket) F(take_over)
    F(ports) F(workers) F(services) F(backends) F(resolve)
#undef F
      // clang-format on
      return hash;
}

#undef PORTICO_FIELD
#undef PORTICO_STRUCT

// What control writes into TableHeader::layout_hash.
inline constexpr uint64_t kLayoutHash = table_enum_hash(table_struct_hash());

// What the dataplane writes into FeedbackHeader::layout_hash. The drop reasons' names are part of it: with
// another list (or one of flow losses) the counters would be shown under wrong names. A new reason is no new
// ABI version, only another build.
constexpr uint64_t feedback_layout_hash() {
  uint64_t hash = feedback_struct_hash();
  for (const std::string_view name : kDropReasonNames) hash = layout_hash_detail::mix(hash, name);
  for (const std::string_view name : kFlowLossNames) hash = layout_hash_detail::mix(hash, name);
  return hash;
}
inline constexpr uint64_t kFeedbackLayoutHash = feedback_layout_hash();

}  // namespace portico
