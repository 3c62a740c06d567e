// SPDX-License-Identifier: Apache-2.0
// Questions about one connection, for `portico explain`: asked by the main thread, answered by a worker
// between two bursts.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "contract/address.h"

namespace portico {

// Ports in host byte order. Both addresses of one family.
struct ExplainQuery {
  Address client, vip;
  uint16_t client_port = 0;
  uint16_t vip_port = 0;
};

enum class FlowState : uint8_t {
  none = 0,
  syn = 1,          // only SYNs seen (nat: the client has not acknowledged the backend's)
  established = 2,  // data may flow both ways
  client_fin = 3,   // the client has sent FIN, the backend still streams
  server_fin = 4,   // the other way round
  closing = 5,      // both have sent FIN
  reset = 6,        // one side has sent RST
  dead = 7,         // we have reset it; answers what still comes
};

struct ExplainAnswer {
  bool found = false;  // this worker has the flow
  bool is_probationary = false;
  FlowState state = FlowState::none;
  uint16_t service = 0xffff;  // kNone: nothing listens there
  // Of the flow, or, without a flow, what a new one would get; kNone: none.
  uint16_t backend = 0xffff;
  uint16_t next_hop = 0xffff;    // toward the backend
  uint16_t return_hop = 0xffff;  // nat: toward the client
  uint32_t slot = 0;             // of the pool's look-up table
  uint32_t idle_ms = 0;          // since the flow's last packet
  Address nat_address{};         // none: no translation
  uint16_t nat_port = 0;         // host byte order
  Address tunnel_source{};       // dsr-ipip: of the outer header; none: no tunnel
  Address tunnel_destination{};
  bool allowed = true;  // by the service's access list
};

// One question at a time. ask() and take() are for one asking thread, the rest for the worker.
class ExplainMailbox {
 public:
  // False while the last question's answer has not been taken.
  bool ask(const ExplainQuery& query);
  // The answer, once it is there.
  std::optional<ExplainAnswer> take();

  // The question that waits, or null. Costs one load if there is none.
  const ExplainQuery* pending() const;
  // Answers pending().
  void answer(const ExplainAnswer& answer);

 private:
  enum State : uint32_t { idle, asked, answered };
  // idle -> asked (asker, release) -> answered (worker, release) -> idle (asker).
  std::atomic<uint32_t> state_{idle};
  ExplainQuery query_;    // written by the asker while idle
  ExplainAnswer answer_;  // written by the worker while asked
};

inline bool ExplainMailbox::ask(const ExplainQuery& query) {
  if (state_.load(std::memory_order_acquire) != idle) return false;
  query_ = query;
  state_.store(asked, std::memory_order_release);
  return true;
}

inline std::optional<ExplainAnswer> ExplainMailbox::take() {
  if (state_.load(std::memory_order_acquire) != answered) return std::nullopt;
  const ExplainAnswer copy = answer_;
  state_.store(idle, std::memory_order_release);
  return copy;
}

inline const ExplainQuery* ExplainMailbox::pending() const {
  return state_.load(std::memory_order_acquire) == asked ? &query_ : nullptr;
}

inline void ExplainMailbox::answer(const ExplainAnswer& answer) {
  answer_ = answer;
  state_.store(answered, std::memory_order_release);
}

}  // namespace portico
