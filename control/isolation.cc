// SPDX-License-Identifier: Apache-2.0
#include "control/isolation.h"

#include <utility>

namespace portico {

const char* to_string(Isolation state) {
  switch (state) {
    case Isolation::connected:
      return "connected";
    case Isolation::examining:
      return "examining";
    case Isolation::backends_down:
      return "backends_down";
    case Isolation::cut_off:
      return "cut_off";
  }
  return "unknown";
}

Judgement judge(const OwnSigns& signs) {
  using enum OwnSigns::Gateways;
  if (!signs.all_links.empty()) return {Isolation::cut_off, signs.all_links};
  if (signs.loop_back == OwnSigns::LoopBack::silent)
    return {Isolation::cut_off, "control cannot reach itself: a firewall, or lo is down"};
  // A gateway that answers is somebody who is heard.
  const bool is_heard = signs.gateways == answer;
  if (!is_heard && !signs.some_link.empty()) return {Isolation::cut_off, signs.some_link};
  if (signs.gateways == silent) return {Isolation::cut_off, "gateway " + signs.gateway + " does not answer"};
  const bool is_asked = signs.gateways == asked || signs.loop_back == OwnSigns::LoopBack::asked;
  return {is_asked ? Isolation::examining : Isolation::backends_down, ""};
}

Isolation IsolationWatch::next(const OwnSigns& signs, Clock::time_point now) {
  Judgement judgement = judge(signs);
  if (judgement.state == Isolation::cut_off) {
    last_trouble_ = now;
    why_ = std::move(judgement.why);
  } else if (is_cut_off() && (now < last_trouble_ + kSettling || judgement.state == Isolation::examining)) {
    return Isolation::cut_off;
  } else if (judgement.state == Isolation::examining &&
             (state_ == Isolation::backends_down || now >= silent_since_ + kExamining)) {
    // What could not be found out in time, or was known before, is not examined for ever.
    return Isolation::backends_down;
  }
  return judgement.state;
}

bool IsolationWatch::note(bool is_silence, const OwnSigns& signs, Clock::time_point now) {
  Isolation state = Isolation::connected;
  if (is_silence) {
    if (state_ == Isolation::connected) silent_since_ = now;
    state = next(signs, now);
  }
  if (is_cut_off() && state == Isolation::connected) returned_ = now;
  const bool returns = returned_ != Clock::time_point{} && now < returned_ + kSettling;
  const bool is_returning = state == Isolation::connected && returns;
  const bool is_change = state_ != state || is_returning_ != is_returning;
  state_ = state;
  is_returning_ = is_returning;
  return is_change;
}

}  // namespace portico
