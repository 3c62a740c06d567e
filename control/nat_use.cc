// SPDX-License-Identifier: Apache-2.0
#include "control/nat_use.h"

#include <algorithm>
#include <span>

namespace portico {
namespace {

std::string name_of_backend(const Config& config, const Ids& ids, uint32_t id) {
  for (const auto& pool : config.pools)
    for (const auto& backend : pool.backends)
      if (id != kNone && ids.backend(pool.name, backend) == id) return pool.name + "/" + backend.name;
  return {};
}

}  // namespace

NatUse nat_use(const Config& config, const Ids& ids, const Feedback& feedback) {
  const uint32_t workers = std::min(feedback.header.worker_count, kMaxWorkers);
  const WorkerFeedback* fullest = nullptr;
  for (const WorkerFeedback& worker : std::span(feedback.workers).first(workers)) {
    if (worker.nat_fullest_ports == 0) continue;
    if (fullest == nullptr || worker.nat_fullest_used * fullest->nat_fullest_ports >
                                  fullest->nat_fullest_used * worker.nat_fullest_ports)
      fullest = &worker;
  }
  if (fullest == nullptr) return {};
  return {fullest->nat_fullest_used, fullest->nat_fullest_ports,
          name_of_backend(config, ids, fullest->nat_fullest_backend)};
}

}  // namespace portico
