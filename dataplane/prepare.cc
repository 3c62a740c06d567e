// SPDX-License-Identifier: Apache-2.0
#include "dataplane/prepare.h"

#include "dataplane/moved_flows.h"

namespace portico {

void prepare_workers(std::span<Worker* const> workers, const Table& table, FlowStore* store, uint64_t now) {
  if (store != nullptr) store->note_backends(table);
  for (Worker* worker : workers) worker->prepare(table, now);
  if (store == nullptr) return;
  if (workers.size() > 1 && store->found() == FlowStore::Found::elsewhere) {
    std::vector<MovedFlows::Place> places;
    for (const Worker* worker : workers) worker->list_flows(places);
    const auto moved = std::make_shared<const MovedFlows>(places);
    for (Worker* worker : workers) worker->set_moved_flows(moved);
  }
  store->settle();
}

}  // namespace portico
