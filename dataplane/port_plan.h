// SPDX-License-Identifier: Apache-2.0
// What DPDK must be asked for to get a port of the table. Pure: strings in, strings out.
#pragma once

#include <string>

#include "contract/layout.h"
#include "contract/port_name.h"

namespace portico {

struct PortPlan {
  PortKind kind;
  std::string name;       // as in the table, for messages
  std::string device;     // DPDK's device name: "net_af_xdp0", "0000:03:00.0"
  std::string arguments;  // the device's arguments, without the name
  std::string interface;  // kernel name behind the port; empty: none
  std::string tap;        // kernel interface to make for what is not ours; empty: none
};

// The plan for port `index` with `queues` queue pairs. `xdp_program` is the steering program's object file;
// empty: the driver's own program, which takes every packet.
PortPlan plan_port(const PortRecord& record, uint32_t index, uint32_t queues, const std::string& xdp_program);

// The record's text up to the first NUL or the field's end.
template <size_t N>
std::string field_text(const char (&field)[N]) {
  size_t length = 0;
  while (length < N && field[length] != '\0') ++length;
  return std::string(field, length);
}

}  // namespace portico
