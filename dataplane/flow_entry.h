// SPDX-License-Identifier: Apache-2.0
// What a worker remembers of a flow. Addresses and ports as they stand in packets (network byte order). The
// sizes are a promise: at most 32 bytes per IPv4 DSR flow and 80 per NAT flow with the index, twice for IPv6.
#pragma once

#include <cstddef>

#include "dataplane/family.h"
#include "dataplane/flow_state.h"

namespace portico {

// Whether two addresses that stand one behind the other are a header's source and destination.
template <typename F>
bool is_pair_of(const void* pair, const uint8_t* l3) {
  return std::memcmp(pair, l3 + F::kSourceOffset, 2 * sizeof(typename F::Ip)) == 0;
}
// The same of two ports.
inline bool is_port_pair_of(const uint16_t* pair, const uint8_t* l4) {
  return std::memcmp(pair, l4, 2 * sizeof *pair) == 0;
}

// A flow whose packets we see in one direction only.
template <typename F>
struct DsrEntry {
  using Family = F;
  static constexpr uint32_t kKeys = 1;  // places in the index

  typename F::Ip client, vip;
  uint16_t client_port, vip_port;
  uint16_t service, backend;
  uint32_t client_ack;  // in state syn the client's initial sequence number, then its last acknowledgement
  Vitals vitals;

  bool is_from_client(const typename F::Ip& source, uint16_t source_port, const typename F::Ip& destination,
                      uint16_t destination_port) const {
    return client == source && vip == destination && client_port == source_port &&
           vip_port == destination_port;
  }
  // The same of headers without options or extensions between addresses and ports.
  bool is_client_of(const uint8_t* l3, const uint8_t* l4) const {
    return is_pair_of<F>(this, l3) && is_port_pair_of(&client_port, l4);
  }
};
static_assert(sizeof(DsrEntry<V4>) == 24 && sizeof(DsrEntry<V6>) == 48);

// In dsr no server's FIN passes. There this state says of an established flow that its backend is a guess:
// its SYN was not seen here, and by a second chance (docs/gue.md) another backend may have it. Such a flow is
// never reset for the sake of the backend that it names.
inline constexpr FlowState kGuessed = FlowState::server_fin;
template <typename F>
bool is_guessed(const DsrEntry<F>& entry) {
  return entry.vitals.state() == kGuessed;
}

// How far a flow's PROXY protocol header has come, in one byte with the window scale of the backend's SYN.
class HeaderMark {
 public:
  enum State : uint8_t {
    none,    // the flow has none
    unsent,  // the client's handshake is not proven yet
    sent,    // and not acknowledged
    taken,   // the backend has it
  };
  HeaderMark() = default;
  explicit HeaderMark(State state) : byte_(state) {}
  State state() const { return static_cast<State>(byte_ & 3); }
  void set_state(State s) { byte_ = static_cast<uint8_t>((byte_ & ~3u) | s); }
  uint8_t window_scale() const { return byte_ >> 4; }
  void set_window_scale(uint8_t scale) { byte_ = static_cast<uint8_t>((byte_ & 0x0f) | scale << 4); }
  // Whether packets of the flow may have to be changed still: it stays on probation.
  bool is_outstanding() const { return state() == unsent || state() == sent; }

 private:
  uint8_t byte_;
};
static_assert(sizeof(HeaderMark) == 1);

// A flow that we translate: all that rewriting needs is in here.
template <typename F>
struct alignas(64) NatEntry {
  using Family = F;
  static constexpr uint32_t kKeys = 2;  // as the client's packets show it, and as the backend's do

  // In the order of packets from the client, and of those from the backend, so that either compares as a
  // whole.
  typename F::Ip client, vip, backend_address, nat;
  uint16_t client_port, vip_port, backend_port, nat_port;
  uint16_t service, backend;
  Vitals vitals;
  uint32_t client_isn;      // the client's initial sequence number
  uint32_t client_ack;      // the client's last acknowledgement; before it: what it will acknowledge first
  uint32_t server_ack;      // the backend's last acknowledgement
  uint16_t address_delta;   // checksum_delta of client and vip -> nat and backend addresses
  uint16_t tcp_delta;       // the same with the ports
  uint16_t return_hop;      // next hop toward the client as of return_version
  uint16_t return_version;  // Table::route_version; 0: never looked up
  uint32_t older, newer;    // neighbours in the backend's list of half-open flows; 0: none
  uint8_t is_half_open;     // in that list
  uint8_t is_answered;      // the backend has sent its SYN
  uint8_t reset_by_client;  // who sent the RST that led to state reset
  HeaderMark header;

  // Whether the backend sees the client as it is (mode dnat): no NAT address is the client's own.
  bool shows_client() const { return nat == client && nat_port == client_port; }
  bool is_from_client(const typename F::Ip& source, uint16_t source_port, const typename F::Ip& destination,
                      uint16_t destination_port) const {
    return client == source && vip == destination && client_port == source_port &&
           vip_port == destination_port;
  }
  bool is_from_backend(const typename F::Ip& source, uint16_t source_port, const typename F::Ip& destination,
                       uint16_t destination_port) const {
    return backend_address == source && nat == destination && backend_port == source_port &&
           nat_port == destination_port;
  }
  bool is_client_of(const uint8_t* l3, const uint8_t* l4) const {
    return is_pair_of<F>(this, l3) && is_port_pair_of(&client_port, l4);
  }
  bool is_backend_of(const uint8_t* l3, const uint8_t* l4) const {
    static_assert(offsetof(NatEntry, backend_address) == 2 * sizeof(typename F::Ip));
    return is_pair_of<F>(reinterpret_cast<const char*>(this) + 2 * sizeof(typename F::Ip), l3) &&
           is_port_pair_of(&backend_port, l4);
  }
};
static_assert(sizeof(NatEntry<V4>) == 64 && sizeof(NatEntry<V6>) == 128);
template <typename F>
bool is_guessed(const NatEntry<F>&) {
  return false;
}

}  // namespace portico
