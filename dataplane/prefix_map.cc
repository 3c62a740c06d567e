// SPDX-License-Identifier: Apache-2.0
#include "dataplane/prefix_map.h"

#include <endian.h>

#include <algorithm>
#include <cstring>

namespace portico {

namespace {

using Wide = std::pair<uint64_t, uint64_t>;

// Addresses as ordered numbers of one type, so that both families share the flattening.
__extension__ using Position = unsigned __int128;

Position position_of(const Address& address) {
  if (address.is_v4()) return be32toh(address.v4());
  uint64_t words[2];
  std::memcpy(words, address.bytes.data(), sizeof words);
  return (Position{be64toh(words[0])} << 64) | be64toh(words[1]);
}

struct Span {
  Position first, last;
  uint32_t value;
};

struct Boundary {
  Position start;
  uint32_t value;
};

// From `start` on the value is `value`; a later boundary at the same place replaces an earlier one.
void add_boundary(std::vector<Boundary>& out, Position start, uint32_t value) {
  if (!out.empty() && out.back().start == start) out.pop_back();
  if (out.empty() || out.back().value != value) out.push_back({start, value});
}

// Prefixes are nested or disjoint, so a stack of the open ones gives the longest at every place. `spans` is
// ascending by first address, wider ones first.
std::vector<Boundary> flatten(const std::vector<Span>& spans, Position highest) {
  std::vector<Boundary> out;
  std::vector<const Span*> open;
  add_boundary(out, 0, PrefixMap::kNoMatch);
  const auto close_before = [&](Position place, bool all) {
    while (!open.empty() && (all || open.back()->last < place)) {
      const Position last = open.back()->last;
      open.pop_back();
      if (last != highest)
        add_boundary(out, last + 1, open.empty() ? PrefixMap::kNoMatch : open.back()->value);
    }
  };
  for (const Span& span : spans) {
    close_before(span.first, false);
    add_boundary(out, span.first, span.value);
    open.push_back(&span);
  }
  close_before(0, true);
  return out;
}

std::vector<Boundary> boundaries(const std::vector<PrefixMap::Rule>& rules, Family family) {
  const unsigned width = family == Family::v4 ? 32 : 128;
  const Position highest = family == Family::v4 ? Position{0xffffffff} : ~Position{0};
  std::vector<Span> spans;
  for (const auto& rule : rules) {
    if (rule.prefix.address.family() != family) continue;
    const Position first = position_of(rule.prefix.address);
    const unsigned host_bits = width - rule.prefix.length;
    const Position size = host_bits == 128 ? highest : (Position{1} << host_bits) - 1;
    spans.push_back({first, first + size, rule.value});
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return a.first != b.first ? a.first < b.first : a.last > b.last;
  });
  return flatten(spans, highest);
}

// Index of the last start that is not above the address; starts[0] is 0. Branch-free halving.
template <typename T>
size_t range_of(const std::vector<T>& starts, const T& address) {
  const T* base = starts.data();
  for (size_t n = starts.size(); n > 1;) {
    const size_t half = n / 2;
    base += base[half] <= address ? half : 0;
    n -= half;
  }
  return static_cast<size_t>(base - starts.data());
}

}  // namespace

PrefixMap::PrefixMap(const std::vector<Rule>& rules) {
  for (const Boundary& b : boundaries(rules, Family::v4)) {
    starts_v4_.push_back(static_cast<uint32_t>(b.start));
    values_v4_.push_back(b.value);
  }
  for (const Boundary& b : boundaries(rules, Family::v6)) {
    starts_v6_.push_back(Wide{static_cast<uint64_t>(b.start >> 64), static_cast<uint64_t>(b.start)});
    values_v6_.push_back(b.value);
  }
}

uint32_t PrefixMap::find(uint32_t address) const {
  if (starts_v4_.empty()) return kNoMatch;
  return values_v4_[range_of(starts_v4_, be32toh(address))];
}

uint32_t PrefixMap::find(const std::array<uint64_t, 2>& address) const {
  if (starts_v6_.empty()) return kNoMatch;
  return values_v6_[range_of(starts_v6_, Wide{be64toh(address[0]), be64toh(address[1])})];
}

}  // namespace portico
