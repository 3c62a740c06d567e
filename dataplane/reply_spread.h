// SPDX-License-Identifier: Apache-2.0
// Which worker the replies to a NAT port reach by the NIC's own choice, so that a worker can take ports whose
// replies come back to it. A NIC with RSS hashes a TCP packet's addresses and ports (Toeplitz, rte_thash.h);
// the low bits of that say which queue it goes to. The hash is linear over GF(2): a reply's is that of all
// but its destination port, XOR that of the port. So for each value that the rest may have, the ports that
// lead to one queue are a coset of those that change nothing, and can be counted through without a search.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "dataplane/family.h"

namespace portico {

// What the hash of the longest tuple, IPv6 with ports, depends on. NICs that take longer keys ignore the
// rest.
inline constexpr uint32_t kRssKeyBytes = 40;
using RssKey = std::array<uint8_t, kRssKeyBytes>;

// How a port spreads the TCP packets that arrive on it.
struct RssModel {
  RssKey key{};
  std::vector<uint16_t> queues;  // by the hash's low bits: a power of two, at most kMostRssQueues
  bool v4 = false, v6 = false;   // whether ports count, too, for a family
  bool operator==(const RssModel&) const = default;
};
inline constexpr size_t kMostRssQueues = 1 << 12;

// A random key under which every spread is usable.
RssKey random_rss_key();

// For replies of one family. Read only, so all workers share it.
template <typename F>
class ReplySpread {
 public:
  using Ip = typename F::Ip;

  // Worker i has queue i. is_usable() is false if the port's bits do not reach every value of the hash's low
  // bits under this key.
  ReplySpread(const RssModel& model, uint32_t workers);
  bool is_usable() const { return is_usable_; }

  // What a reply's hash is but for its destination port; for owner() and turns of PortShare. Addresses and
  // ports in network byte order.
  uint32_t rest(const Ip& backend, uint16_t backend_port, const Ip& nat) const {
    const auto sum = [this](const auto& field, size_t at) {
      std::array<uint8_t, sizeof field> bytes;
      std::memcpy(bytes.data(), &field, sizeof field);
      uint32_t hash = 0;
      for (size_t i = 0; i < sizeof field; ++i) hash ^= by_byte_[at + i][bytes[i]];
      return hash;
    };
    return sum(backend, 0) ^ sum(nat, sizeof(Ip)) ^ sum(backend_port, 2 * sizeof(Ip));
  }
  // The worker that a reply to a port (host byte order) reaches.
  uint32_t owner(uint32_t rest, uint16_t port) const {
    constexpr size_t kAt = 2 * sizeof(Ip) + 2;
    return workers_[rest ^ by_byte_[kAt][port >> 8] ^ by_byte_[kAt + 1][port & 255]];
  }

  // Ports that do not change the hash's low bits, ascending: with those, what leads to another value does.
  const std::vector<uint16_t>& neutral() const { return neutral_; }
  // A port for each value of the low bits. It has no bit above coset_bits().
  const std::vector<uint16_t>& port_of() const { return port_of_; }
  uint32_t coset_bits() const { return coset_bits_; }
  // The values that lead to a worker.
  const std::vector<uint16_t>& values_of(uint32_t worker) const { return values_[worker]; }

 private:
  bool is_usable_ = false;
  uint32_t coset_bits_ = 0;  // low bits of ports in which those of one value differ from the neutral ones
  std::array<std::array<uint16_t, 256>, 2 * sizeof(Ip) + 4> by_byte_{};  // of the tuple: its part of the hash
  std::vector<uint16_t> workers_;                                        // by the hash's low bits
  std::vector<uint16_t> neutral_, port_of_;
  std::vector<std::vector<uint16_t>> values_;
};

// For both families; null: replies of the family come to any worker, so ports are shared out by number.
struct ReplySpreads {
  std::unique_ptr<const ReplySpread<V4>> v4;
  std::unique_ptr<const ReplySpread<V6>> v6;

  ReplySpreads() = default;
  // As far as the model can be used.
  ReplySpreads(const RssModel& model, uint32_t workers);

  template <typename F>
  const ReplySpread<F>* of() const {
    if constexpr (F::kFamily == Family::v4) {
      return v4.get();
    } else {
      return v6.get();
    }
  }
};

}  // namespace portico
