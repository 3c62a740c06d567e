// SPDX-License-Identifier: Apache-2.0
// The workers' view of one generation: what a snapshot says, arranged for the packet path. Built by the main
// thread, immutable afterwards; a worker loads the pointer to it once per burst and keeps nothing of it.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "contract/flow_hash.h"
#include "contract/snapshot.h"
#include "dataplane/address_map.h"
#include "dataplane/clock.h"
#include "dataplane/prefix_map.h"
#include "dataplane/tunnel_source.h"

namespace portico {

// What the packet path needs of a service. `exists` is 0 for ids that the generation does not use.
struct TableService {
  uint8_t exists;
  Mode mode;
  Affinity affinity;
  uint8_t affinity_prefix_v6;  // bits, 1..128
  uint16_t pool;               // pool id
  uint16_t backend_port;       // host byte order; 0: the listener's
  uint16_t access_list;        // kNone: open to all
  ProxyProtocol proxy_protocol;
  uint8_t limits_sources;  // 1: new connections are counted by their source
  uint32_t idle_timeout_ms;
  uint32_t source_rate, source_burst, source_flows;  // as in ServiceRecord
  uint8_t source_prefix_v4, source_prefix_v6;
  uint8_t reserved[2];

  // Whether a plain SYN of a new flow is treated as all are: then there is a short way for it.
  bool opens_plainly() const { return proxy_protocol == ProxyProtocol::none && limits_sources == 0; }
};
static_assert(sizeof(TableService) == 32);

struct TablePool {
  const uint16_t* lookup;  // backend id of each slot, in the snapshot's own block; null: no usable backend
  uint32_t lookup_size;
  PoolDisposition disposition;
  uint8_t fallback_columns;  // ids or kNone per slot of `fallback`; 0: there are none
  const uint16_t* fallback;  // as BlockKind::fallback says
};
static_assert(sizeof(TablePool) == 24);

// One cache line, since every packet of an established flow reads it.
struct alignas(64) TableBackend {
  uint8_t exists;
  BackendDisposition disposition;
  uint8_t reset_count;
  uint8_t has_v4, has_v6;  // whether it has an address of the family
  uint8_t takes_new;       // whether new flows go to it: slots of its pool name it, and it is to forward
  uint8_t is_plain;        // it exists and none of its flows is to be reset or to finish
  uint16_t next_hop_v4, next_hop_v6;  // kNone: no address, or no way to it yet
  uint32_t address_v4;                // network byte order
  std::array<uint64_t, 2> address_v6;
  uint16_t reset_ports[kMaxResetPorts];  // network byte order
};
static_assert(sizeof(TableBackend) == 64);

// The backend's address of a family (V4 or V6 of family.h). Zero if it has none.
template <typename F>
const typename F::Ip& address_of(const TableBackend& backend) {
  if constexpr (F::kFamily == Family::v4) {
    return backend.address_v4;
  } else {
    return backend.address_v6;
  }
}

// One neighbour. `l2` is the Ethernet header to write: destination, source, and the tag if `vlan` is not 0.
struct TableNextHop {
  std::array<uint8_t, 12> macs;  // destination, source
  uint16_t vlan;                 // network byte order tag; 0: untagged
  uint16_t port;
  uint32_t mtu;  // bytes of IP packet
  uint8_t resolved;
  uint8_t reserved;
  uint16_t plain_mtu;  // largest IP packet that goes out at once and untagged; 0: unresolved, or with a tag
};
static_assert(sizeof(TableNextHop) == 24);

// How plain packets go to a backend: untagged, by its own next hop, whose MAC address is known. `A`: of V4 or
// V6, the backend's address.
template <typename A>
struct alignas(32) PlainWay {
  std::array<uint8_t, 12> macs;  // destination, source
  uint16_t port;
  uint16_t
      mtu;  // largest IP packet; 0: no such way, or some of the backend's flows are to be reset or to finish
  A address;  // network byte order
};
static_assert(sizeof(PlainWay<uint32_t>) == 32 && sizeof(PlainWay<std::array<uint64_t, 2>>) == 32);

// An address for NAT with its range of ports (host byte order, inclusive).
struct TableNat {
  Address address;
  uint16_t first_port, last_port;
};

// What an address of ours is for; several may hold.
struct LocalAddress {
  uint8_t is_vip = 0;
  uint8_t is_nat = 0;
  uint16_t nat = 0;  // index into nat(), if is_nat
};

// Where the packets for an address go.
struct RouteChoice {
  uint16_t next_hop = kNone;  // index into next hops
  uint16_t port = kNone;      // with next_hop kNone: the port to ask on; both kNone: no route
};

class Table {
 public:
  // The reference that keeps every block alive which this table points into.
  const Snapshot& snapshot() const { return *snapshot_; }
  uint64_t generation() const { return snapshot_->generation; }
  const SettingsRecord& settings() const { return snapshot_->settings->records<SettingsRecord>()[0]; }
  const HashKey& hash_key() const { return hash_key_; }
  // The hash that chooses a slot under affinity `connection`. In network byte order.
  uint64_t slot_hash(uint32_t client, uint16_t client_port, uint32_t vip, uint16_t vip_port) const {
    return slot_hasher_(client, client_port, vip, vip_port);
  }
  uint64_t slot_hash(const std::array<uint64_t, 2>& client, uint16_t client_port,
                     const std::array<uint64_t, 2>& vip, uint16_t vip_port) const {
    return flow_hash_v6(hash_key_, client.data(), client_port, vip.data(), vip_port);
  }
  const Timeouts& timeouts() const { return timeouts_; }

  // The id of the service that listens there, or kNone. The port is in network byte order, as in the packet.
  uint16_t find_service(uint32_t address, uint16_t port) const {
    return listeners_v4_->find({address, port});
  }
  uint16_t find_service(const std::array<uint64_t, 2>& address, uint16_t port) const {
    return listeners_v6_->find({address, port});
  }
  // The map behind find_service(); the argument only names the family.
  AddressMap<uint32_t>::Reader listeners(uint32_t) const { return listeners_v4_->reader(); }
  AddressMap<std::array<uint64_t, 2>>::Reader listeners(const std::array<uint64_t, 2>&) const {
    return listeners_v6_->reader();
  }
  // The maps behind find_local(), whose values are indexes into local_addresses().
  AddressMap<uint32_t>::Reader local_map(uint32_t) const { return locals_v4_.reader(); }
  AddressMap<std::array<uint64_t, 2>>::Reader local_map(const std::array<uint64_t, 2>&) const {
    return locals_v6_.reader();
  }
  const LocalAddress* local_addresses() const { return locals_.data(); }
  // IPv4 addresses for NAT: the map's values are indexes into nat() and into the ranges of ports, first port
  // in the lower half, last in the upper.
  AddressMap<uint32_t>::Reader nat_map() const { return nat_map_.reader(); }
  const uint32_t* nat_ranges() const { return nat_ranges_.data(); }
  // Index into local addresses, or null if the address is not ours.
  const LocalAddress* find_local(uint32_t address) const {
    const uint16_t i = locals_v4_.find({address, 0});
    return i == kNone ? nullptr : &locals_[i];
  }
  const LocalAddress* find_local(const std::array<uint64_t, 2>& address) const {
    const uint16_t i = locals_v6_.find({address, 0});
    return i == kNone ? nullptr : &locals_[i];
  }

  // Ids below kMaxServices, kMaxPools and kMaxBackends are all valid indexes; `exists` tells.
  const TableService& service(uint16_t id) const { return services_[id]; }
  const TablePool& pool(uint16_t id) const { return pools_[id]; }
  const TableBackend& backend(uint16_t id) const { return backends_[id]; }
  // By backend id; the argument only names the family.
  const PlainWay<uint32_t>* plain_ways(uint32_t) const { return ways_v4_.data(); }
  const PlainWay<std::array<uint64_t, 2>>* plain_ways(const std::array<uint64_t, 2>&) const {
    return ways_v6_.data();
  }
  // Whether frames of the VLAN are for us on the port, an index into the snapshot's ports.
  bool takes_vlan(uint16_t port, uint16_t vlan) const { return port < vlans_.size() && vlans_[port][vlan]; }
  const TableNextHop& next_hop(uint16_t index) const { return (*next_hops_)[index]; }
  uint32_t next_hop_count() const { return static_cast<uint32_t>(next_hops_->size()); }
  // For messages and resolve requests.
  const Address& next_hop_address(uint16_t index) const {
    return snapshot_->next_hops->records<NextHopRecord>()[index].address;
  }
  std::span<const TableNat> nat() const { return nat_; }
  // Whether a TCP packet between two such ends is a reply for a client of a service in mode dnat. The port is
  // the source's, in network byte order; the destination is neither a VIP nor a NAT address.
  template <typename A>
  bool is_dnat_reply(const A& source, uint16_t port, const A& destination) const {
    return is_dnat_backend(source, port) && own(destination).find({destination, 0}) == kNone;
  }
  // Whether such a service sends packets to that address and port (network byte order).
  bool is_dnat_backend(uint32_t address, uint16_t port) const {
    return dnat_v4_.find({address, port}) != kNone;
  }
  bool is_dnat_backend(const std::array<uint64_t, 2>& address, uint16_t port) const {
    return dnat_v6_.find({address, port}) != kNone;
  }
  // Indexes into nat() of one family.
  std::span<const uint16_t> nat_of(Family family) const { return family == Family::v4 ? nat_v4_ : nat_v6_; }

  RouteChoice route(uint32_t address) const { return choice(routes_->find(address)); }
  RouteChoice route(const std::array<uint64_t, 2>& address) const { return choice(routes_->find(address)); }
  // Differs from the previous table's whenever a route or next hop index may mean something else, so that
  // flows can remember a next hop. Never 0.
  uint16_t route_version() const { return route_version_; }

  // Whether the access list lets the client in. kNone lets everybody in.
  bool allows(uint16_t list, uint32_t client) const {
    return list == kNone || access_list(list).find(client) == 1;
  }
  bool allows(uint16_t list, const std::array<uint64_t, 2>& client) const {
    return list == kNone || access_list(list).find(client) == 1;
  }

  // Whether any service of the mode listens on an address of the family: whether flow memory is needed.
  bool uses(Mode mode, Family family) const { return uses_[translates(mode)][family == Family::v6]; }
  // Whether any service is in mode dnat.
  bool uses_dnat() const { return uses_dnat_; }
  // Whether any service limits what one source may have; and a number that differs from the previous table's
  // if what is counted does.
  bool limits_sources() const { return limits_sources_; }
  uint32_t limits_version() const { return limits_version_; }
  // Whether any service tells its backends of the clients.
  bool uses_proxy_protocol() const { return uses_proxy_protocol_; }
  template <typename F>
  const TunnelSource<F>& tunnel_source() const {
    if constexpr (F::kFamily == Family::v4) {
      return tunnel_v4_;
    } else {
      return tunnel_v6_;
    }
  }
  // Of tunnels to a backend: a family is possible if the backend has an address of it and the tunnels a
  // source.
  std::optional<Family> tunnel_family(const TableBackend& backend, Family inner) const {
    return outer_family(inner, backend.has_v4 && tunnel_v4_.exists(), backend.has_v6 && tunnel_v6_.exists());
  }
  // Grows with every generation that may ask for flows to be reset; changes of neighbours and routes do not.
  // Never 0.
  uint64_t flow_version() const { return flow_version_; }
  // The id of a backend, in whatever state, that has this address; kNone: there is none.
  uint16_t find_backend(uint32_t address) const { return backends_v4_.find({address, 0}); }
  uint16_t find_backend(const std::array<uint64_t, 2>& address) const {
    return backends_v6_.find({address, 0});
  }
  bool is_backend(const auto& address) const { return find_backend(address) != kNone; }
  // NAT ports per backend endpoint, over all addresses of both families.
  uint64_t nat_ports_total() const;

  friend std::shared_ptr<const Table> build_table(std::shared_ptr<const Snapshot> snapshot,
                                                  const Table* previous);

 private:
  using AccessLists = std::vector<PrefixMap>;
  // The backends that a look-up table names.
  struct Named {
    std::shared_ptr<const Block> lookup;
    std::bitset<kMaxBackends> backends;
  };

  RouteChoice choice(uint32_t index) const {
    if (index == PrefixMap::kNoMatch) return {};
    const RouteRecord& r = snapshot_->routes->records<RouteRecord>()[index];
    return {r.next_hop, r.port};
  }
  const AddressMap<uint32_t>& own(uint32_t) const { return own_v4_; }
  const AddressMap<std::array<uint64_t, 2>>& own(const std::array<uint64_t, 2>&) const { return own_v6_; }
  const PrefixMap& access_list(uint16_t list) const {
    static const PrefixMap kEmpty;
    return list < access_->size() ? (*access_)[list] : kEmpty;
  }
  void build_services();
  void build_limits_version(const Table* previous);
  void build_listeners(const Table* previous);
  void build_locals();
  void build_dnat();
  void build_vlans();
  void build_pools(const Table* previous);
  void build_backend_addresses();
  void build_flow_version(const Table& previous);
  std::shared_ptr<const Named> name_backends(const Snapshot::Pool& pool, const Table* previous) const;
  void build_next_hops(const Table* previous);
  void build_plain_ways();
  void build_routes(const Table* previous);
  void build_access(const Table* previous);

  std::shared_ptr<const Snapshot> snapshot_;
  HashKey hash_key_{};
  FlowHasherV4 slot_hasher_;
  Timeouts timeouts_{};
  uint64_t flow_version_ = 1;
  bool uses_[2][2] = {};
  bool uses_proxy_protocol_ = false, limits_sources_ = false, uses_dnat_ = false;
  uint32_t limits_version_ = 1;
  TunnelSource<V4> tunnel_v4_;
  TunnelSource<V6> tunnel_v6_;
  uint16_t route_version_ = 1;
  std::shared_ptr<const AddressMap<uint32_t>> listeners_v4_;
  std::shared_ptr<const AddressMap<std::array<uint64_t, 2>>> listeners_v6_;
  AddressMap<uint32_t> locals_v4_;
  AddressMap<std::array<uint64_t, 2>> locals_v6_;
  AddressMap<uint32_t> dnat_v4_;  // where replies of mode dnat come from
  AddressMap<std::array<uint64_t, 2>> dnat_v6_;
  AddressMap<uint32_t> own_v4_;  // of the host, where a service is in mode dnat
  AddressMap<std::array<uint64_t, 2>> own_v6_;
  AddressMap<uint32_t> backends_v4_;
  AddressMap<std::array<uint64_t, 2>> backends_v6_;
  std::vector<LocalAddress> locals_;
  std::vector<TableService> services_;
  std::vector<TablePool> pools_;
  std::vector<TableBackend> backends_;
  std::vector<PlainWay<uint32_t>> ways_v4_;                 // by backend id
  std::vector<PlainWay<std::array<uint64_t, 2>>> ways_v6_;  // by backend id
  std::vector<std::shared_ptr<const Named>> named_;         // by pool id
  std::shared_ptr<const std::vector<TableNextHop>> next_hops_;
  std::shared_ptr<const PrefixMap> routes_;
  std::shared_ptr<const AccessLists> access_;
  std::vector<TableNat> nat_;
  std::vector<uint16_t> nat_v4_, nat_v6_;
  AddressMap<uint32_t> nat_map_;
  std::vector<uint32_t> nat_ranges_;
  std::vector<std::bitset<kMaxVlan + 2>> vlans_;  // by port; a bit for each 12-bit identifier
};

// Arranges a validated snapshot. Parts whose blocks `previous` (may be null) was built from too are shared
// with it. Main thread only; throws std::bad_alloc and nothing else.
std::shared_ptr<const Table> build_table(std::shared_ptr<const Snapshot> snapshot, const Table* previous);

}  // namespace portico
