// SPDX-License-Identifier: Apache-2.0
// Live flows, as another thread than their worker's may look at them: the worker goes on meanwhile and does
// not notice. What is copied may be out of date by the time it is shown, but is no mixture of two flows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contract/address.h"
#include "contract/limits.h"
#include "dataplane/explain.h"

namespace portico {

struct WorkerCore;

// Which flows: all that fit every member that is set.
struct FlowFilter {
  uint16_t service = kNone, backend = kNone;  // ids
  std::optional<Prefix> client;
};

// Ports in host byte order.
struct ListedFlow {
  Address client, vip;
  Address nat{};  // what the backend sees the flow come from, if that is not the client; else none
  uint16_t client_port = 0, vip_port = 0, nat_port = 0;
  uint16_t service = kNone, backend = kNone;
  FlowState state = FlowState::none;
  bool is_probationary = false;
  uint32_t idle_ms = 0;  // since its last packet
};

// A walk through a worker's flow tables. It sees each flow once that lives from its begin to its end.
struct FlowWalk {
  FlowFilter filter;
  uint64_t at = 0;           // where it goes on; 0: at the beginning
  uint32_t most_visits = 0;  // entries to look at, used or not
  uint32_t most_flows = 0;   // to list; 0: they are only counted

  bool is_over = false;
  std::vector<ListedFlow> flows;
  uint64_t by_state[8] = {};  // how many fit
};

// Takes up to `most_visits` steps, fewer if `most_flows` have been found. `now`: TSC. Any thread.
void go_on(FlowWalk& walk, const WorkerCore& core, uint64_t now);

// What /portico/flows is asked: "SERVICE,BACKEND,CLIENT,COUNT,CURSOR", the first two ids, the third a prefix,
// each `-` for any; COUNT flows to list at most, 0 to count them; CURSOR: 0, or what the last answer said.
struct FlowsQuery {
  FlowFilter filter;
  uint32_t count = 0;
  uint32_t worker = 0;  // of the cursor
  uint64_t at = 0;
};
// On anything else `complaint` says what is wrong.
std::optional<FlowsQuery> parse_flows_query(std::string_view parameters, std::string& complaint);
uint64_t flows_cursor(uint32_t worker, uint64_t at);

}  // namespace portico
