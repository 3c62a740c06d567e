// SPDX-License-Identifier: Apache-2.0
// Which stations of a network say that an address is theirs: ARP probes (RFC 5227 section 2.1.1) and
// solicitations as for duplicate address detection (RFC 4862 section 5.4), which change nobody's cache.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <tuple>

#include "contract/address.h"
#include "control/link_frames.h"

namespace portico::doctor {

// A station that speaks for an address.
struct Answer {
  Address address{};
  MacAddress mac{};
  // False: it did not answer, but asked for others with the address as its own, which spoils caches as well.
  bool is_answer = true;

  auto operator<=>(const Answer&) const = default;
};

// Asks on the interface for all of the addresses, twice, and listens for `patience`. Answers of the interface
// itself do not count. Needs CAP_NET_RAW. False: it cannot be done, errno says why.
bool ask_who_has(const std::string& interface, std::span<const Address> addresses,
                 std::chrono::milliseconds patience, std::set<Answer>& answers);

// The frame that asks. Pure.
Frame probe_frame(const Address& address, const MacAddress& mac);

// What a frame tells about who has one of the addresses; nullopt: nothing. Pure; `frame` is what any station
// sends.
std::optional<Answer> read_answer(std::span<const uint8_t> frame, std::span<const Address> addresses);

}  // namespace portico::doctor
