// SPDX-License-Identifier: Apache-2.0
// Whether this host can hear a pool's backends at all. A probe that stays unanswered says nothing of its
// target while every way to the pool lacks carrier, or leads through a dataplane that does not forward. And,
// while nobody at all answers, what tells of the host's own side (isolation.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "contract/address.h"
#include "control/config.h"
#include "control/isolation.h"

namespace portico {

class OwnSide {
 public:
  using Clock = std::chrono::steady_clock;
  using Gateway = std::pair<int, Address>;  // and the ifindex of the device that it is on
  enum class Presence : uint8_t { unknown, there, lost };

  // What the kernel says, asked through functions so that tests can answer.
  struct Kernel {
    std::function<void()> look;         // at the links, for the answers below
    std::function<uint64_t()> version;  // grows when an answer below may have changed
    std::function<std::optional<int>(const Address& destination)> device_to;  // an ifindex; nullopt: no route
    std::function<bool(int ifindex, Clock::time_point since)> is_up_since;    // with carrier all the time
    std::function<std::string(int ifindex)> interface_of;  // its name; of a VLAN device the one below
    std::function<std::optional<Gateway>(const Address& destination)> gateway_to;  // nullopt: on the link
    std::function<std::set<Gateway>()> gateways;  // of the routes by the ports
    std::function<Presence(const Gateway& gateway)> presence;
    std::function<void(const Gateway& gateway)> verify;  // asks it, for presence() to know
  };

  explicit OwnSide(Kernel kernel) : kernel_(std::move(kernel)) {}

  // The pools, and the taps of the ports that are not the kernel's.
  void follow(const Config& config);

  // To be called often: whether the dataplane forwards now.
  void note_forwarding(bool is_forwarding, Clock::time_point now = Clock::now());

  // Why none of the pool's backends can have been heard all the time since `since`: "eth0 has no carrier".
  // Empty if one of them can, or if no way to any of them was ever known.
  std::string why_deaf(const std::string& pool, Clock::time_point since);

  // A probe of the pool that began at `began` was answered.
  void note_answer(const std::string& pool, Clock::time_point began);

  // Why no answer to a probe that began at `began` can have been heard until now; empty: it can. After the
  // way was lost, switches take a while to forward again: then that holds from kResolving after the pool's
  // first answer on, or from kSettling after the way was back.
  std::string why_unheard(const std::string& pool, Clock::time_point began);

  // While nobody answers: what the links and gateways say of the own side, but not of loop_back. Call it some
  // times a second; it asks the gateways, those of the ports if no backend is behind one.
  OwnSigns signs(Clock::time_point now = Clock::now());
  // Somebody answers: the gateways' answers until now say nothing of the next time.
  void forget_gateways() { asked_since_.reset(); }

  static constexpr std::chrono::seconds kAskPause{1};  // from one question to the gateways to the next
  // A gateway that is there has answered the first question by then.
  static constexpr std::chrono::milliseconds kGatewayTime{100};
  static constexpr std::chrono::seconds kSettling{10};
  // The kernel asks once a second for a neighbour's address: what one backend answers says little of the
  // others until it has asked for theirs again.
  static constexpr std::chrono::milliseconds kResolving{1100};

 private:
  // Probes that were answered: when the first since the way was lost last began, and the last.
  struct Row {
    Clock::time_point first, last;
  };
  struct Pool {
    std::set<Address> addresses;
    std::set<int> devices;  // that lead to them
    std::set<Gateway> gateways;
  };

  void look();
  void find_devices();
  void sign_links(Clock::time_point now, OwnSigns& signs) const;
  void sign_gateways(Clock::time_point now, OwnSigns& signs);
  std::optional<int> device_to(const Address& address);
  std::string why_deaf(int device, Clock::time_point since) const;

  Kernel kernel_;
  std::map<std::string, Pool> pools_;
  std::map<std::string, Row> answers_;  // by pool
  std::set<std::string> ports_, taps_;  // interfaces; the taps are among the ports
  std::map<Address, int> last_ports_;   // the device of a port that last led there
  Clock::time_point looked_{};
  uint64_t seen_version_ = 0;  // of the kernel's answers that pools_ holds; 0: of none
  std::optional<Clock::time_point> forwards_since_;
  std::optional<Clock::time_point> asked_since_;  // the gateways
  Clock::time_point asked_last_{};
};

}  // namespace portico
