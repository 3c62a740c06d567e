// SPDX-License-Identifier: Apache-2.0
// Why a flow that a dataplane left behind was not taken up by the next one. One list generates the enum, the
// names in counters and metrics, and the text for people.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace portico {

// clang-format off
#define PORTICO_FLOW_LOSSES(X)                                                                            \
  X(torn,            "its entry contradicts itself")                                                      \
  X(expired,         "it was silent for longer than its timeout")                                         \
  X(unknown_backend, "its backend's id means another backend now")                                        \
  X(unknown_service, "its address and port belong to another service now, or to none")                    \
  X(foreign_port,    "its NAT address or port is not in the configured ranges any more")                  \
  X(duplicate,       "another entry has the same addresses and ports")                                    \
  X(no_room,         "the flow table is smaller now")
// clang-format on

enum class FlowLoss : uint32_t {
#define X(name, text) name,
  PORTICO_FLOW_LOSSES(X)
#undef X
};

inline constexpr auto kFlowLossNames = std::to_array<std::string_view>({
#define X(name, text) #name,
    PORTICO_FLOW_LOSSES(X)
#undef X
});
inline constexpr auto kFlowLossTexts = std::to_array<std::string_view>({
#define X(name, text) text,
    PORTICO_FLOW_LOSSES(X)
#undef X
});
inline constexpr uint32_t kFlowLossCount = kFlowLossNames.size();
inline constexpr uint32_t kMaxFlowLosses = 12;  // upper bound of the list
static_assert(kFlowLossCount <= kMaxFlowLosses);

}  // namespace portico
