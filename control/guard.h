// SPDX-License-Identifier: Apache-2.0
// The guard: nftables rules that keep the services' packets from the kernel's own TCP whenever the steering
// program is not there to take them, so that no restart of the dataplane resets a client. It lives in the
// kernel and outlives both processes on purpose.
//
// Order: guard, steering maps, addresses; removal reversed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "control/config.h"

struct nft_ctx;

namespace portico {

// The ports of a NAT address that the dataplane uses, inclusive.
struct NatRange {
  Address address;
  uint16_t first_port = 0, last_port = 0;

  auto operator<=>(const NatRange&) const = default;
};

// Owns the table `inet portico-INSTANCE`. Not thread-safe. Functions that can fail return what went wrong and
// the remedy, or nullopt.
class Guard {
 public:
  using Failure = std::optional<std::string>;

  // `instance`: any text; what nftables does not take in a name becomes '_'.
  explicit Guard(const std::string& instance);
  ~Guard();  // leaves the rules in place
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // Guards exactly these: drops TCP to them before the kernel's sockets see it, and RSTs that the kernel
  // would send from them. What comes from `backends`, whose replies mode dnat translates, the kernel does not
  // forward: their clients would get them from an address that they never asked. One transaction: no packet
  // meets a half-made guard. The same again does nothing, unless somebody changed or flushed the rules
  // meanwhile; then they come back.
  Failure apply(std::span<const Endpoint> listeners, std::span<const NatRange> nat,
                std::span<const Endpoint> backends = {});

  // True if the last apply() found rules of this object's changed or gone, and put them back.
  bool was_mended() const { return was_mended_; }

  // Removes the table; well if there is none.
  Failure remove();

  // Packets that the guard has dropped since it was set up, both directions; nullopt if it is not there.
  std::optional<uint64_t> dropped();

  // What of such a guard, by this object or another, the kernel does not have: "the guard has no rules for
  // services"; nullopt: nothing. Changes nothing; for who looks from outside.
  Failure find_hole(std::span<const Endpoint> listeners, std::span<const NatRange> nat,
                    std::span<const Endpoint> backends = {});

  // The table's name, "portico-...".
  const std::string& table() const { return table_; }

 private:
  Failure open();
  Failure run(const std::string& commands);
  std::string listing();

  std::string table_;
  nft_ctx* context_ = nullptr;
  std::string applied_;  // the sets' text of the last apply
  std::string listed_;   // the whole table as the kernel had it after that
  bool was_mended_ = false;
};

}  // namespace portico
