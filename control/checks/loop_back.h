// SPDX-License-Identifier: Apache-2.0
// Whether this host can open a TCP connection at all: to itself. A full conntrack table, a firewall that lets
// nothing new pass, or lo being down looks to the checks like silence of all backends.
#pragma once

#include "control/checks/coroutines.h"

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <optional>

namespace portico {

// Lives on the thread that runs the io_context.
class LoopBack {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPause{1};  // from one connection to the next
  static constexpr std::chrono::milliseconds kTimeout{1000};

  explicit LoopBack(boost::asio::io_context& io);
  ~LoopBack();  // a connection under way ends
  LoopBack(const LoopBack&) = delete;
  LoopBack& operator=(const LoopBack&) = delete;

  // Whether the last connection since forget() came about; nullopt: none has ended yet. Begins the next one
  // if it is time. To be called often while the answer matters.
  std::optional<bool> look(Clock::time_point now = Clock::now());
  // What was found until now says nothing of the next time.
  void forget();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace portico
