// SPDX-License-Identifier: Apache-2.0
// Programs at clsact, tc's place for programs on an interface. They stay when the process that put them there
// ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace portico {

enum class TcSide : uint8_t { ingress, egress };

// Puts the program there, in place of the one that stands under the same number, without a packet between.
// nullopt, or what went wrong.
std::optional<std::string> put_filter(int ifindex, TcSide side, uint32_t handle, int program);

struct TcFilter {
  int ifindex = 0;
  uint32_t program_id = 0;
};

// The program of that name under that number on an interface.
std::optional<TcFilter> filter_at(int ifindex, TcSide side, uint32_t handle, const char* name);
// The same on all interfaces of this network namespace.
std::vector<TcFilter> find_filters(TcSide side, uint32_t handle, const char* name);

// Takes what stands under that number away, and the clsact with it if nothing else is there. False and errno
// on failure.
bool remove_filter(int ifindex, TcSide side, uint32_t handle);

}  // namespace portico
