// SPDX-License-Identifier: Apache-2.0
#include "control/own_side.h"

#include <algorithm>

#include "contract/port_name.h"

namespace portico {
namespace {

// Where thousands of probes fail at once, one look does for many.
constexpr std::chrono::milliseconds kLookPause{5};

}  // namespace

void OwnSide::follow(const Config& config) {
  ports_.clear();
  taps_.clear();
  for (const auto& config_port : config.dataplane.ports) {
    const PortName port = parse_port(config_port.name, config_port.devargs);
    ports_.insert(port.kernel_side());
    if (!port.tap.empty()) taps_.insert(port.tap);
  }
  pools_.clear();
  std::set<Address> used;
  for (const auto& pool : config.pools)
    for (const auto& backend : pool.backends)
      for (const auto& address : {backend.v4, backend.v6})
        if (address) used.insert(*pools_[pool.name].addresses.insert(*address).first);
  std::erase_if(answers_, [this](const auto& of) { return !pools_.contains(of.first); });
  std::erase_if(last_ports_, [&](const auto& last) { return !used.contains(last.first); });
  seen_version_ = 0;
}

void OwnSide::note_forwarding(bool is_forwarding, Clock::time_point now) {
  if (!is_forwarding)
    forwards_since_.reset();
  else if (!forwards_since_)
    forwards_since_ = now;
}

// A network manager may take the routes away with the carrier, and what is left (a default route of the
// management network) leads nowhere: then the port that led there last counts, for as long as it lacks it.
std::optional<int> OwnSide::device_to(const Address& address) {
  const auto device = kernel_.device_to(address);
  if (device && ports_.contains(kernel_.interface_of(*device))) return last_ports_[address] = *device;
  const auto last = last_ports_.find(address);
  const bool is_down = last != last_ports_.end() && ports_.contains(kernel_.interface_of(last->second)) &&
                       !kernel_.is_up_since(last->second, Clock::now());
  return is_down ? last->second : device;
}

// Once for all probes that fail by one cause: a pool may have thousands of backends.
void OwnSide::find_devices() {
  const uint64_t version = kernel_.version();
  if (version == seen_version_) return;
  seen_version_ = version;
  for (auto& [name, pool] : pools_) {
    pool.devices.clear();
    pool.gateways.clear();
    for (const Address& address : pool.addresses) {
      if (const auto device = device_to(address)) pool.devices.insert(*device);
      if (const auto gateway = kernel_.gateway_to(address)) pool.gateways.insert(*gateway);
    }
  }
}

std::string OwnSide::why_deaf(int device, Clock::time_point since) const {
  const std::string interface = kernel_.interface_of(device);
  if (!kernel_.is_up_since(device, since)) return interface + " has no carrier";
  if (taps_.contains(interface) && (!forwards_since_ || *forwards_since_ > since))
    return "no dataplane forwards for " + interface;
  return "";
}

void OwnSide::look() {
  if (const auto now = Clock::now(); now >= looked_ + kLookPause) {
    kernel_.look();
    looked_ = now;
  }
  find_devices();
}

std::string OwnSide::why_deaf(const std::string& pool, Clock::time_point since) {
  look();
  const auto found = pools_.find(pool);
  if (found == pools_.end()) return "";
  std::string why;
  for (const int device : found->second.devices) {
    why = why_deaf(device, since);
    if (why.empty()) return "";
  }
  return why;
}

void OwnSide::note_answer(const std::string& pool, Clock::time_point began) {
  const auto [answers, is_new] = answers_.try_emplace(pool, Row{began, began});
  if (is_new) return;
  if (!why_deaf(pool, answers->second.last).empty()) answers->second.first = began;
  answers->second.last = std::max(answers->second.last, began);
}

std::string OwnSide::why_unheard(const std::string& pool, Clock::time_point began) {
  std::string why = why_deaf(pool, began);
  if (!why.empty()) return why;
  why = why_deaf(pool, began - kSettling);
  if (why.empty()) return "";
  const auto found = answers_.find(pool);
  const bool is_heard = found != answers_.end() && began >= found->second.first + kResolving &&
                        why_deaf(pool, found->second.first).empty();
  return is_heard ? "" : why + " until a moment ago";
}

void OwnSide::sign_links(Clock::time_point now, OwnSigns& signs) const {
  bool is_a_way = false;
  for (const auto& [name, pool] : pools_)
    for (const int device : pool.devices) {
      const std::string why = why_deaf(device, now);
      is_a_way |= why.empty();
      if (!why.empty()) signs.some_link = why;
    }
  if (!is_a_way) signs.all_links = signs.some_link;
}

void OwnSide::sign_gateways(Clock::time_point now, OwnSigns& signs) {
  std::set<Gateway> gateways;
  for (const auto& [name, pool] : pools_) gateways.insert(pool.gateways.begin(), pool.gateways.end());
  const bool lead_to_backends = !gateways.empty();
  if (!lead_to_backends) gateways = kernel_.gateways();
  if (gateways.empty()) return;
  if (!asked_since_) asked_since_ = now;
  if (*asked_since_ == now || now >= asked_last_ + kAskPause) {
    asked_last_ = now;
    for (const Gateway& gateway : gateways) kernel_.verify(gateway);
  }
  bool is_there = false, is_unknown = false;
  for (const Gateway& gateway : gateways) {
    const Presence presence = kernel_.presence(gateway);
    is_there |= presence == Presence::there;
    is_unknown |= presence == Presence::unknown;
    if (presence == Presence::lost) signs.gateway = to_string(gateway.second);
  }
  using enum OwnSigns::Gateways;
  if (now < *asked_since_ + kGatewayTime)
    signs.gateways = asked;
  else if (is_there)
    signs.gateways = lead_to_backends ? answer : none;
  else
    signs.gateways = is_unknown ? asked : silent;
}

OwnSigns OwnSide::signs(Clock::time_point now) {
  look();
  OwnSigns signs;
  sign_links(now, signs);
  sign_gateways(now, signs);
  return signs;
}

}  // namespace portico
