// SPDX-License-Identifier: Apache-2.0
// Gets workers ready for their first table, with the flows of the process before.
#pragma once

#include <span>

#include "dataplane/flow_store.h"
#include "dataplane/worker.h"

namespace portico {

// Worker::prepare() of all, before any of them runs; what `store` (may be null) has is theirs afterwards, and
// the store is settled. `now`: TSC. Throws std::runtime_error that says what to do if memory is missing.
void prepare_workers(std::span<Worker* const> workers, const Table& table, FlowStore* store, uint64_t now);

}  // namespace portico
