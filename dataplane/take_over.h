// SPDX-License-Identifier: Apache-2.0
// Takes up the flows that another process left in memory. Nothing of it is trusted: each entry has to agree
// with itself, with the table in use and with the entries taken before it, else it is dropped and counted.
// The index, the free list, the lists of half-open flows, the NAT ports in use and all gauges are built from
// the entries, so that nothing else has to survive whole.
#pragma once

#include <bitset>
#include <memory>
#include <optional>

#include "contract/flow_losses.h"
#include "dataplane/core.h"
#include "dataplane/flow_store.h"

namespace portico {

// What there is to say against an entry that is not free; nullopt: nothing. begin() has been called.
// `same_backends`: FlowStore::same_backends() of its family.
template <typename F>
std::optional<FlowLoss> objection_to(const WorkerCore& core, const DsrEntry<F>& entry,
                                     const std::bitset<kMaxBackends>& same_backends);
template <typename F>
std::optional<FlowLoss> objection_to(const WorkerCore& core, const NatEntry<F>& entry,
                                     const std::bitset<kMaxBackends>& same_backends);

// A new table for the worker's flows of a kind: in the store's memory with what it has from before, or, where
// the configuration names no store, in memory of its own. begin() has been called if the store has something.
// Throws std::runtime_error that says what to do if memory is missing.
template <typename Flows>
std::unique_ptr<Flows> open_flows(WorkerCore& core, FlowKind kind);

}  // namespace portico
