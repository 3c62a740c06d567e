// SPDX-License-Identifier: Apache-2.0
// What each telemetry command answers. `parameters` is what followed the command's name; a wrong one gives
// an object with the one member "error".
#pragma once

#include <string_view>

#include "dataplane/telemetry.h"
#include "dataplane/telemetry_value.h"

namespace portico {

// Lists are objects whose members are objects: by index, or by id for services and backends. DPDK cuts an
// answer at 16 KiB, so they come in pages of this many; "next" is the first index of the next page, absent
// after the last.
inline constexpr size_t kTelemetryPage = 24;

// "established", "closing" and so on.
const char* flow_state_name(FlowState state);

void answer_upgrade(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_status(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_drops(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_workers(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_ports(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_resolve(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_services(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_backends(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_capture(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_capture_status(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_flows(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);
void answer_explain(Telemetry& telemetry, std::string_view parameters, TelemetryObject& out);

}  // namespace portico
