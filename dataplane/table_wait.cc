// SPDX-License-Identifier: Apache-2.0
#include "dataplane/table_wait.h"

#include <stdexcept>

#include "contract/log_limit.h"
#include "dataplane/log.h"

namespace portico {
namespace {

bool is_other_build(RefusalReason reason) {
  return reason == RefusalReason::other_abi || reason == RefusalReason::other_layout;
}

}  // namespace

std::shared_ptr<const Snapshot> wait_for_table(const std::filesystem::path& run_dir, Adopter& adopter,
                                               Report& report, Signals& signals) {
  AdoptionStatus status;
  LogLimit log_limit;
  bool said = false;
  uint64_t next_report_ns = 0;
  do {
    const AdoptResult result = adopter.poll();
    if (result.kind == AdoptResult::Kind::adopted) return result.snapshot;
    if (result.kind == AdoptResult::Kind::refused) {
      status.table_epoch = result.epoch;
      status.refused_generation = result.generation;
      ++status.refused_count;
      status.refused_reason = result.reason;
      status.refused_text = result.text;
      report.write_state(DataplaneState::waiting_for_table, status);
      // The file of a control process that has ended is waited out: the next one replaces it.
      if (is_other_build(result.reason) && table_writer(run_dir).alive) {
        throw std::runtime_error("the table is not for this build: " + result.text +
                                 "; portico-dataplane and portico-control must be of one version: restart "
                                 "the older one after the upgrade, control first");
      }
      if (const auto more = log_limit.admit(result.text, monotonic_ns()))
        log_error("the table is not usable: " + result.text + "; waiting for a good one" + *more);
      said = true;
    } else if (!said) {
      log_info("no table in " + run_dir.string() + " yet; waiting for portico-control --run-dir " +
               run_dir.string());
      said = true;
    }
    const uint64_t now_ns = monotonic_ns();
    if (now_ns < next_report_ns) continue;
    report.write_state(DataplaneState::waiting_for_table, status);
    next_report_ns = now_ns + uint64_t{kFeedbackIntervalMs} * 1'000'000;
  } while (!signals.wait(kAdoptIntervalUs));
  log_info("stopping");
  return nullptr;
}

}  // namespace portico
