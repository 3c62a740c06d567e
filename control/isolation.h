// SPDX-License-Identifier: Apache-2.0
// Whether this balancer is cut off from everybody, or its backends are down: to checks that nobody answers
// both look alike. docs/health.md has the table. Pure, without clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace portico {

// What tells of the balancer's own side while nobody answers its checks.
struct OwnSigns {
  enum class Gateways : uint8_t {
    none,    // there is none, or what they say tells nothing of the way to the backends
    asked,   // they have not answered yet, nor had the time to
    answer,  // one that leads to backends does
    silent,  // none does
  };
  std::string all_links;  // why no way to any backend can be heard: "eth0 has no carrier"; empty: one can
  std::string some_link;  // the same of one way
  Gateways gateways = Gateways::none;
  std::string gateway;  // a silent one
  enum class LoopBack : uint8_t { asked, answers, silent };
  LoopBack loop_back = LoopBack::asked;  // whether control can reach itself
};

enum class Isolation : uint8_t {
  connected,      // somebody answers
  examining,      // nobody does, and it is not known yet why
  backends_down,  // nobody does, and the own side is well
  cut_off,        // nobody does, and the own side is not well
};
// "connected", "examining", "backends_down", "cut_off".
const char* to_string(Isolation state);

// What nobody's answering means by these signs, and why: never `connected`.
struct Judgement {
  Isolation state = Isolation::examining;
  std::string why;  // of cut_off
};
Judgement judge(const OwnSigns& signs);

class IsolationWatch {
 public:
  using Clock = std::chrono::steady_clock;
  // So long the own side is asked at most. The kernel gives a neighbour three seconds.
  static constexpr std::chrono::seconds kExamining{5};
  // After the own side was mended, or somebody answered again: the others have not had the time to.
  static constexpr std::chrono::seconds kSettling{10};

  // Takes in how things are now; `signs` matter only if `is_silence`: nobody answers any check. True if
  // state() or keeps_table() has changed.
  bool note(bool is_silence, const OwnSigns& signs, Clock::time_point now);

  Isolation state() const { return state_; }
  bool is_cut_off() const { return state_ == Isolation::cut_off; }
  // Why it is cut off: as last seen while the own side was not well.
  const std::string& why() const { return why_; }

  // Nothing is to be concluded from the checks: the backends that had the flows keep them.
  bool keeps_table() const { return state_ == Isolation::examining || state_ == Isolation::cut_off; }
  // It was so until a moment ago: who has not returned yet is not given up.
  bool is_returning() const { return is_returning_; }

 private:
  Isolation next(const OwnSigns& signs, Clock::time_point now);

  Isolation state_ = Isolation::connected;
  bool is_returning_ = false;
  std::string why_;
  Clock::time_point silent_since_{}, last_trouble_{}, returned_{};
};

}  // namespace portico
