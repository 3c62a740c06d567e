// SPDX-License-Identifier: Apache-2.0
// The rules that concern one block by itself, and the words that all complaints use. Part of validate().
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "contract/layout.h"

namespace portico {

using Complaint = std::optional<std::string>;

// "services[3].pool: there is no pool 7".
std::string complain(std::string_view block, size_t index, std::string_view field, std::string_view what);
// "backends of pool 7".
std::string of_pool(std::string_view block, unsigned pool);

Complaint check_settings(const SettingsRecord& settings);
Complaint check_ports(std::span<const PortRecord> ports);
Complaint check_services(std::span<const ServiceRecord> services);
Complaint check_listeners(std::span<const ListenerRecord> listeners);
Complaint check_pool(const PoolRecord& pool, unsigned id, size_t backends);
Complaint check_backends(std::span<const BackendRecord> backends, unsigned pool);
// Fallback columns name backends of the pool as BlockKind::fallback says. `lookup` and `backends` have
// passed.
Complaint check_fallback(std::span<const uint16_t> fallback, std::span<const uint16_t> lookup,
                         const PoolRecord& pool, std::span<const BackendRecord> backends);
// Slots name backends of the pool that have weight, and as many as usable_count says. `backends` has passed
// check_backends.
Complaint check_lookup(std::span<const uint16_t> slots, const PoolRecord& pool,
                       std::span<const BackendRecord> backends);
Complaint check_next_hops(std::span<const NextHopRecord> next_hops, size_t ports);
Complaint check_routes(std::span<const RouteRecord> routes, size_t next_hops, size_t ports);
Complaint check_access(std::span<const AccessRecord> access);
Complaint check_nat(std::span<const NatRecord> nat);

Complaint check_vlans(std::span<const VlanRecord> vlans, size_t ports);
Complaint check_own(std::span<const OwnRecord> own);

}  // namespace portico
