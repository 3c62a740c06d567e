// SPDX-License-Identifier: Apache-2.0
#include "dataplane/reply_spread.h"

#include <rte_thash.h>

#include <algorithm>
#include <bit>
#include <random>

namespace portico {

namespace {

constexpr uint32_t kPortBits = 16;

// The hash of a tuple of which bit `bit` alone is set, the first byte's highest bit being bit 0.
uint32_t hash_of_bit(const RssKey& key, size_t tuple_bytes, size_t bit) {
  std::array<uint32_t, 9> words{};  // host byte order
  words[bit / 32] = 1u << (31 - bit % 32);
  return rte_softrss(words.data(), static_cast<uint32_t>(tuple_bytes / 4), key.data());
}

// A sum of port bits and what it comes to in the hash.
struct Sum {
  uint16_t hash, port;
};

// What Gauss's elimination finds out about the bits of a reply's destination port.
struct Solution {
  std::vector<Sum> basis;         // by hash, descending; no two have the same highest bit
  std::vector<uint16_t> neutral;  // independent sums of port bits that come to nothing
  uint32_t coset_bits = 0;        // one more than the highest port bit in the basis

  Sum reduce(Sum sum) const {
    for (const Sum& b : basis) {
      if ((sum.hash ^ b.hash) < sum.hash)
        sum = {static_cast<uint16_t>(sum.hash ^ b.hash), static_cast<uint16_t>(sum.port ^ b.port)};
    }
    return sum;
  }
};

// From the lowest port bit on, so that ports of one value are spread finely over a range.
Solution solve(const RssKey& key, size_t tuple_bytes, size_t values) {
  Solution found;
  for (uint32_t bit = 0; bit < kPortBits; ++bit) {
    const uint32_t hash = hash_of_bit(key, tuple_bytes, tuple_bytes * 8 - 1 - bit);
    const Sum sum =
        found.reduce({static_cast<uint16_t>(hash & (values - 1)), static_cast<uint16_t>(1u << bit)});
    if (sum.hash == 0) {
      found.neutral.push_back(sum.port);
      continue;
    }
    found.basis.push_back(sum);
    std::sort(found.basis.begin(), found.basis.end(),
              [](const Sum& a, const Sum& b) { return a.hash > b.hash; });
    found.coset_bits = bit + 1;
  }
  return found;
}
bool reaches_all(const Solution& solution, size_t values) {
  return size_t{1} << solution.basis.size() == values;
}

// The shortest part of the table that repeats itself: 8 queues of a table of 128 take 3 bits, not 7.
size_t period_of(const std::vector<uint16_t>& queues) {
  size_t period = queues.size();
  while (period > 1 && std::equal(queues.begin(), queues.begin() + static_cast<long>(period / 2),
                                  queues.begin() + static_cast<long>(period / 2)))
    period /= 2;
  return period;
}

bool is_sound(const RssModel& model, uint32_t workers) {
  return std::has_single_bit(model.queues.size()) && model.queues.size() <= kMostRssQueues &&
         std::all_of(model.queues.begin(), model.queues.end(), [&](uint16_t q) { return q < workers; });
}

}  // namespace

template <typename F>
ReplySpread<F>::ReplySpread(const RssModel& model, uint32_t workers) {
  if (!is_sound(model, workers)) return;
  const size_t values = period_of(model.queues);
  workers_.assign(model.queues.begin(), model.queues.begin() + static_cast<long>(values));
  values_.resize(workers);
  for (size_t value = 0; value < values; ++value)
    values_[workers_[value]].push_back(static_cast<uint16_t>(value));
  for (size_t at = 0; at < by_byte_.size(); ++at) {
    for (size_t bit = 0; bit < 8; ++bit) {
      const auto hash =
          static_cast<uint16_t>(hash_of_bit(model.key, by_byte_.size(), at * 8 + bit) & (values - 1));
      for (size_t byte = 0; byte < 256; ++byte)
        if (byte & 128u >> bit) by_byte_[at][byte] ^= hash;
    }
  }
  const Solution solution = solve(model.key, by_byte_.size(), values);
  if (!reaches_all(solution, values)) return;
  coset_bits_ = solution.coset_bits;
  neutral_ = {0};
  for (const uint16_t sum : solution.neutral) {
    const size_t before = neutral_.size();
    for (size_t i = 0; i < before; ++i) neutral_.push_back(neutral_[i] ^ sum);
  }
  std::sort(neutral_.begin(), neutral_.end());
  for (size_t value = 0; value < values; ++value)
    port_of_.push_back(solution.reduce({static_cast<uint16_t>(value), 0}).port);
  is_usable_ = true;
}

ReplySpreads::ReplySpreads(const RssModel& model, uint32_t workers) {
  if (workers < 2) return;
  if (model.v4) v4 = std::make_unique<const ReplySpread<V4>>(model, workers);
  if (model.v6) v6 = std::make_unique<const ReplySpread<V6>>(model, workers);
  if (v4 != nullptr && !v4->is_usable()) v4.reset();
  if (v6 != nullptr && !v6->is_usable()) v6.reset();
}

RssKey random_rss_key() {
  std::random_device source;
  RssKey key;
  const auto is_good = [&key](size_t tuple_bytes) {
    return reaches_all(solve(key, tuple_bytes, kMostRssQueues), kMostRssQueues);
  };
  do {
    for (uint8_t& byte : key) byte = static_cast<uint8_t>(source());
  } while (!is_good(2 * sizeof(V4::Ip) + 4) || !is_good(2 * sizeof(V6::Ip) + 4));
  return key;
}

template class ReplySpread<V4>;
template class ReplySpread<V6>;

}  // namespace portico
