// SPDX-License-Identifier: Apache-2.0
#include "dataplane/port_plan.h"

namespace portico {
namespace {

// net_af_xdp takes the first N queues. busy_budget=0: the driver's preferred busy polling costs a system call
// per empty poll and needs sysfs settings of the interface that are not ours to change.
std::string af_xdp_arguments(const std::string& interface, uint32_t queues, const std::string& xdp_program) {
  std::string arguments =
      "iface=" + interface + ",start_queue=0,queue_count=" + std::to_string(queues) + ",busy_budget=0";
  if (!xdp_program.empty()) arguments += ",xdp_prog=" + xdp_program;
  return arguments;
}

}  // namespace

PortPlan plan_port(const PortRecord& record, uint32_t index, uint32_t queues,
                   const std::string& xdp_program) {
  const std::string name = field_text(record.name);
  const PortName parsed = parse_port(name, field_text(record.devargs));
  PortPlan plan{.kind = parsed.kind,
                .name = name,
                .device = parsed.device,
                .arguments = parsed.arguments,
                .interface = parsed.interface,
                .tap = parsed.tap};
  if (plan.kind == PortKind::kernel_interface) {
    plan.device = "net_af_xdp" + std::to_string(index);
    plan.arguments = af_xdp_arguments(plan.interface, queues, xdp_program);
  }
  return plan;
}

}  // namespace portico
