// SPDX-License-Identifier: Apache-2.0
#include "dataplane/telemetry.h"

#include <time.h>

#include "dataplane/log.h"
#include "dataplane/telemetry_commands.h"
#include "dataplane/telemetry_value.h"

namespace portico {
namespace {

constexpr long kPollNs = 50'000;

// DPDK's callbacks carry no pointer of ours and cannot be taken back.
std::mutex active_lock;
Telemetry* active = nullptr;

using Answer = void (*)(Telemetry&, std::string_view, TelemetryObject&);

template <Answer answer>
int run_command(const char*, const char* parameters, rte_tel_data* data) {
  TelemetryObject out(data);
  // Held while answering: the end of the dataplane waits for it, at most for the explain deadlines.
  const std::lock_guard lock(active_lock);
  if (active == nullptr) {
    out.add("error", "the dataplane is starting or stopping");
  } else {
    answer(*active, parameters == nullptr ? "" : parameters, out);
  }
  return 0;
}

void register_commands() {
  struct Command {
    const char* name;
    telemetry_cb function;
    const char* help;
  };
  static constexpr Command kCommands[] = {
      {"/portico/status", run_command<answer_status>, "State, generations and totals. No parameters"},
      {"/portico/drops", run_command<answer_drops>, "Dropped packets by reason. No parameters"},
      {"/portico/workers", run_command<answer_workers>, "Workers. Optional parameter: first index"},
      {"/portico/ports", run_command<answer_ports>, "Ports. No parameters"},
      {"/portico/resolve", run_command<answer_resolve>, "Addresses that control is asked to resolve"},
      {"/portico/services", run_command<answer_services>, "Services. Optional parameter: first index"},
      {"/portico/backends", run_command<answer_backends>, "Backends. Optional parameter: first index"},
      {"/portico/explain", run_command<answer_explain>,
       "What happens to a connection. Parameters: client address, client port or 0, service address, port"},
      {"/portico/flows", run_command<answer_flows>,
       "Live flows. Parameters: service id, backend id, client prefix, each - for any; how many to list, 0: "
       "only "
       "count; cursor, 0 first"},
      {"/portico/upgrade", run_command<answer_upgrade>,
       "Gives way to the program that now has this one's name. No parameters"},
      {"/portico/capture", run_command<answer_capture>,
       "Captures packets. Parameters: see parse_capture() and POST /v1/capture, which asks so"},
      {"/portico/capture_status", run_command<answer_capture_status>,
       "The capture that runs, or the last one. No parameters"},
  };
  for (const Command& command : kCommands) {
    if (rte_telemetry_register_cmd(command.name, command.function, command.help) != 0) {
      log_warning(std::string("telemetry command ") + command.name + " is not available");
    }
  }
}

}  // namespace

Telemetry::Telemetry(const Report& report, const Adoption& adoption, std::vector<WorkerThread*> workers,
                     Upgrade& upgrade, Capture& capture)
    : report_(report),
      adoption_(adoption),
      workers_(std::move(workers)),
      upgrade_(upgrade),
      capture_(capture) {
  static std::once_flag once;
  std::call_once(once, register_commands);
  const std::lock_guard lock(active_lock);
  active = this;
}

Telemetry::~Telemetry() {
  const std::lock_guard lock(active_lock);
  active = nullptr;
}

std::optional<ExplainAnswer> Telemetry::explain(const ExplainQuery& query, uint32_t& worker,
                                                std::string& silent) {
  const std::lock_guard lock(asking_);
  std::optional<ExplainAnswer> best;
  std::vector<WorkerThread*> asked;
  for (WorkerThread* thread : workers_) {
    ExplainMailbox& mailbox = thread->worker().mailbox();
    mailbox.take();  // an answer that came too late for its asker
    if (mailbox.ask(query)) {
      asked.push_back(thread);
    } else {
      silent += (silent.empty() ? "" : ", ") + std::to_string(thread->index());
    }
  }
  const uint64_t deadline = monotonic_ns() + kExplainDeadlineNs;
  for (WorkerThread* thread : asked) {
    std::optional<ExplainAnswer> answer;
    while (!(answer = thread->worker().mailbox().take()) && monotonic_ns() < deadline) {
      const timespec pause{0, kPollNs};
      nanosleep(&pause, nullptr);
    }
    if (!answer) {
      silent += (silent.empty() ? "" : ", ") + std::to_string(thread->index());
    } else if (!best || answer->found) {
      best = answer;
      worker = thread->index();
    }
  }
  return best;
}

}  // namespace portico
