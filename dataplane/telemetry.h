// SPDX-License-Identifier: Apache-2.0
// DPDK telemetry commands, all below /portico/: what the dataplane counts, and `explain`. DPDK calls them
// from its own threads, one per connected client; parameters are what any local user with access to the
// socket sends.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/adoption.h"
#include "dataplane/capture.h"
#include "dataplane/report.h"
#include "dataplane/upgrade.h"
#include "dataplane/worker_thread.h"

namespace portico {

// A worker answers between two bursts; one that takes longer than this is stuck.
inline constexpr uint64_t kExplainDeadlineNs = 100'000'000;

// Parses "CLIENT,CLIENT_PORT,VIP,VIP_PORT": addresses of one family, the client's port 0 if unknown. On
// anything else `complaint` says what is wrong.
std::optional<ExplainQuery> parse_explain(std::string_view parameters, std::string& complaint);

// Registers the commands for its life. At most one at a time in a process.
class Telemetry {
 public:
  Telemetry(const Report& report, const Adoption& adoption, std::vector<WorkerThread*> workers,
            Upgrade& upgrade, Capture& capture);
  ~Telemetry();
  Telemetry(const Telemetry&) = delete;
  Telemetry& operator=(const Telemetry&) = delete;

  const Report& report() const { return report_; }
  const Adoption& adoption() const { return adoption_; }
  Upgrade& upgrade() { return upgrade_; }
  Capture& capture() { return capture_; }
  const std::vector<WorkerThread*>& workers() const { return workers_; }

  // The answer of the worker that has the flow, else of the last worker that answered: what a new flow would
  // get. `worker` is that worker. Nothing if none answers; `silent` names those that did not.
  std::optional<ExplainAnswer> explain(const ExplainQuery& query, uint32_t& worker, std::string& silent);

 private:
  const Report& report_;
  const Adoption& adoption_;
  const std::vector<WorkerThread*> workers_;
  Upgrade& upgrade_;
  Capture& capture_;
  std::mutex asking_;  // mailboxes take one question at a time
};

}  // namespace portico
