// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_table.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <unordered_map>

#include "dataplane/checksum.h"
#include "dataplane/first_look.h"
#include "dataplane/nat_flows.h"
#include "dataplane/plain_lanes.h"
#include "dataplane/prefix_map.h"

namespace portico {
namespace {

constexpr HashKey kKey{{11, 22}};

DsrEntry<V4> entry_of(uint32_t client) {
  DsrEntry<V4> e{};
  e.client = client;
  e.vitals = Vitals(FlowState::established, false, 0);
  return e;
}
uint64_t hash_of(uint32_t client) {
  return V4::hash(kKey, client, 0, 0, 0);
}

// What bursts look up.
uint32_t candidate_by_avx512(const FlowIndex& index, uint64_t hash) {
  PlainColumns columns{};
  columns.buckets[0] = index.bucket_of(hash);
  columns.tags[0] = index.tag(hash);
  find_candidates_by_avx512(columns, 1, index, nullptr);
  return columns.candidates[0];
}

uint32_t find(const DsrFlows<V4>& table, uint32_t client) {
  const uint64_t hash = hash_of(client);
  const uint32_t candidate = table.index().candidate(hash);
  if (has_avx512()) {
    EXPECT_EQ(candidate_by_avx512(table.index(), hash), candidate);
  }
  return table.find(hash, candidate, [&](const auto& e) { return e.client == client; });
}

TEST(FlowTable, BytesPerFlow) {
  std::printf("bytes per flow, index included: dsr v4 %u, v6 %u; nat v4 %u, v6 %u\n",
              DsrFlows<V4>::kBytesPerFlow, DsrFlows<V6>::kBytesPerFlow,
              FlowTable<NatEntry<V4>>::kBytesPerFlow, FlowTable<NatEntry<V6>>::kBytesPerFlow);
  EXPECT_LE(DsrFlows<V4>::kBytesPerFlow, 32u);
  EXPECT_LE(DsrFlows<V6>::kBytesPerFlow, 64u);
  EXPECT_LE(FlowTable<NatEntry<V4>>::kBytesPerFlow, 80u);
  EXPECT_LE(FlowTable<NatEntry<V6>>::kBytesPerFlow, 160u);
}

TEST(FlowTable, HoldsItsWholeCapacity) {
  constexpr uint32_t kFlows = 100000;
  DsrFlows<V4> table(kFlows, false, -1);
  for (uint32_t i = 1; i <= kFlows; ++i) {
    const uint32_t r = table.allocate();
    ASSERT_NE(r, 0u);
    table[r] = entry_of(i);
    ASSERT_TRUE(table.insert_key(hash_of(i), r)) << i;
  }
  EXPECT_EQ(table.allocate(), 0u);
  for (uint32_t i = 1; i <= kFlows; ++i) ASSERT_EQ(table[find(table, i)].client, i);
  EXPECT_EQ(find(table, kFlows + 1), 0u);
}

// Keys that find their first bucket nearly full are found in their second, and taken out of it again.
TEST(FlowTable, ForgetsAllOfAFullTable) {
  constexpr uint32_t kFlows = 20000;
  DsrFlows<V4> table(kFlows, false, -1);
  for (uint32_t round = 0; round < 3; ++round) {
    for (uint32_t i = 1; i <= kFlows; ++i) {
      const uint32_t r = table.allocate();
      table[r] = entry_of(i + round);
      ASSERT_TRUE(table.insert_key(hash_of(i + round), r));
    }
    for (uint32_t i = 1; i <= kFlows; ++i) {
      const uint32_t r = find(table, i + round);
      ASSERT_EQ(table[r].client, i + round);
      table.erase_key(hash_of(i + round), r);
      table.release(r);
      ASSERT_EQ(find(table, i + round), 0u);
    }
  }
}

TEST(FlowHash, IsTheSameUnderAPreparedKey) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 1000; ++i) {
    const HashKey key{{random(), random()}};
    const auto a = static_cast<uint32_t>(random()), b = static_cast<uint32_t>(random());
    const auto a_port = static_cast<uint16_t>(random()), b_port = static_cast<uint16_t>(random());
    ASSERT_EQ(V4::Hasher(key)(a, a_port, b, b_port), V4::hash(key, a, a_port, b, b_port));
  }
}

// As many flows as the index is for, whose addresses and ports have what real ones have: patterns. Of keys
// that fall at random, 15 and more into a bucket for 8, some 1.7 % are in such a bucket; of any pattern not
// many more may be.
TEST(FlowHash, SpreadsPatterns) {
  constexpr uint32_t kKeys = 1 << 18, kBuckets = kKeys / 8;
  using Pattern = std::array<uint32_t, 3> (*)(uint32_t);  // source, destination, ports
  const Pattern patterns[] = {
      [](uint32_t i) {
        return std::array{htonl(0xc6120000u + i), 0x010012c6u, 0x50000004u};
      },
      [](uint32_t i) {
        return std::array{0x0100a8c0u, 0x010012c6u, i << 16 | i >> 16 | 0x5000u};
      },
      [](uint32_t i) {
        return std::array{(i & 0xff) << 24 | 0x0012c6u, 0x010012c6u, 0x50000000u | i >> 8};
      },
      [](uint32_t i) {
        return std::array{(i & 15) << 24 | 0x0112c6u, (i >> 4 & 63) << 24 | 0x0912c6u,
                          i >> 10 << 16 | 0x5000u};
      },
      [](uint32_t i) {
        return std::array{i << 12, i << 3, i << 7};
      },
      [](uint32_t i) {
        return std::array{i, ~i, i};
      },
  };
  std::mt19937_64 random(8);
  for (uint32_t round = 0; round < 8; ++round) {
    const V4::Hasher hash(round == 0 ? HashKey{} : HashKey{{random(), random()}});
    for (const Pattern& pattern : patterns) {
      std::vector<uint32_t> buckets(kBuckets), tags(256);
      for (uint32_t i = 0; i < kKeys; ++i) {
        const auto [a, b, ports] = pattern(i);
        const uint64_t h = hash(a, b, ports);
        ++buckets[(h & 0xffffffff) * kBuckets >> 32];
        ++tags[h >> 32 & 255];
      }
      uint32_t crowded = 0;
      for (const uint32_t n : buckets) crowded += n > FlowIndex::kPlaces ? n : 0;
      EXPECT_LT(crowded, kKeys / 40) << "pattern " << &pattern - patterns << ", key " << round;
      const uint32_t most = *std::max_element(tags.begin(), tags.end());
      EXPECT_LT(most, kKeys / 256 * 2) << "pattern " << &pattern - patterns << ", key " << round;
    }
  }
}

TEST(Checksum, ShortFoldIsTheLongOne) {
  std::mt19937 random(6);
  for (const uint32_t edge : {0u, 1u, 0xffffu, 0x10000u, 0x1fffeu, 0x1ffffu, 0xffff0000u, 0xffffffffu})
    EXPECT_EQ(fold_sum32(edge), fold_sum(edge)) << edge;
  for (int i = 0; i < 100000; ++i) {
    const auto sum = static_cast<uint32_t>(random());
    ASSERT_EQ(fold_sum32(sum), fold_sum(sum)) << sum;
  }
}

TEST(Checksum, AgedHeaderHasTheRightOne) {
  for (uint32_t checksum = 0; checksum <= 0xffff; ++checksum) {
    for (const uint8_t ttl : {uint8_t{1}, uint8_t{2}, uint8_t{64}, uint8_t{255}}) {
      uint8_t bytes[4] = {ttl, IPPROTO_TCP, 0, 0},
              expected[4] = {static_cast<uint8_t>(ttl - 1), IPPROTO_TCP, 0, 0};
      store(bytes + 2, static_cast<uint16_t>(checksum));
      store(expected + 2, static_cast<uint16_t>(checksum));
      adjust_checksum(expected + 2, kTtlDelta);
      ASSERT_EQ(aged(load<uint32_t>(bytes)), load<uint32_t>(expected)) << checksum << " " << int{ttl};
    }
  }
}

// Whether a key's first bucket has room or not, and whether other keys have been moved out of it: the load
// goes from nothing to the whole capacity and back.
TEST(FlowTable, InsertsAKeyAsNewOnlyOnce) {
  constexpr uint32_t kFlows = 20000;
  DsrFlows<V4> table(kFlows, false, -1);
  const auto key_of = [&](uint32_t client) {
    return DsrFlows<V4>::NewKey(table, hash_of(client), [=](const auto& e) { return e.client == client; });
  };
  for (uint32_t i = 1; i < kFlows; i += 2) {
    const auto first = key_of(i), second = key_of(i + 1);
    const uint32_t a = table.allocate(), b = table.allocate();
    ASSERT_TRUE(first.is_new() && second.is_new()) << i;
    ASSERT_TRUE(first.insert(table, a) && second.insert(table, b, &first)) << i;
    table[a] = entry_of(i);
    table[b] = entry_of(i + 1);
    for (const uint32_t client : {i, i + 1, i / 2 + 1}) ASSERT_FALSE(key_of(client).is_new()) << client;
  }
  for (uint32_t i = 1; i <= kFlows; ++i) {
    const uint32_t r = find(table, i);
    ASSERT_EQ(table[r].client, i);
    table.erase_key(hash_of(i), r);
    table.release(r);
    ASSERT_EQ(find(table, i), 0u);
  }
}

TEST(FlowTable, AgreesWithAMapUnderRandomUse) {
  DsrFlows<V4> table(500, false, -1);
  std::unordered_map<uint32_t, uint32_t> model;
  std::mt19937 random(7);
  for (int step = 0; step < 100000; ++step) {
    const auto client = static_cast<uint32_t>(random() % 1000 + 1);
    ASSERT_EQ(find(table, client), model.contains(client) ? model[client] : 0);
    if (model.contains(client)) {
      table.erase_key(hash_of(client), model[client]);
      table.release(model[client]);
      model.erase(client);
    } else if (const uint32_t r = table.allocate()) {
      table[r] = entry_of(client);
      ASSERT_TRUE(table.insert_key(hash_of(client), r));
      model[client] = r;
    } else {
      ASSERT_EQ(model.size(), 500u);
    }
    ASSERT_EQ(table.size(), model.size());
  }
}

TEST(NatPorts, WorkersShareARangeWithoutOverlap) {
  for (const uint32_t workers : {1u, 2u, 3u, 8u, 64u}) {
    for (const uint16_t last : std::initializer_list<uint16_t>{1024, 1030, 65535}) {
      const TableNat nat{{}, 1024, last};
      std::vector<int> owners(65536);
      for (uint32_t w = 0; w < workers; ++w) {
        const PortShare share(nat, w, workers);
        for (uint32_t i = 0; i < share.count(); ++i) {
          ++owners[share.port(i)];
          EXPECT_EQ(port_owner(nat, share.port(i), workers), w);
        }
      }
      for (uint32_t port = 0; port < 65536; ++port)
        ASSERT_EQ(owners[port], port >= 1024 && port <= last) << port << " of " << workers;
      EXPECT_EQ(port_owner(nat, 1023, workers), workers);
    }
  }
}

TEST(HalfOpenFlows, OldestFirstAndRemovableAnywhere) {
  NatFlows<V4> flows(8, false, -1);
  const uint32_t list = NatFlows<V4>::port_list(3);
  uint32_t r[4];
  for (uint32_t& reference : r) {
    reference = flows.allocate();
    flows[reference].backend = 3;
    flows[reference].nat_port = 1;  // not the client's
    flows.link_half_open(reference);
  }
  flows.unlink_half_open(r[1]);
  flows.unlink_half_open(r[1]);
  EXPECT_EQ(flows.half_open_count(list), 3u);
  for (const uint32_t expected : {r[0], r[2], r[3]}) {
    EXPECT_EQ(flows.oldest_half_open(list), expected);
    flows.unlink_half_open(expected);
  }
  EXPECT_EQ(flows.oldest_half_open(list), 0u);
}

TEST(PrefixMap, AgreesWithASearchThroughAllPrefixes) {
  std::mt19937 random(3);
  std::vector<PrefixMap::Rule> rules;
  const auto add = [&](const Address& a, uint8_t length) {
    Prefix p{a, length};
    const unsigned first_bit = a.is_v4() ? 96 : 0;
    for (unsigned bit = first_bit + length; bit < 128; ++bit)
      p.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> (bit % 8)));
    for (const auto& rule : rules) {
      if (rule.prefix == p) return;
    }
    rules.push_back({p, static_cast<uint32_t>(rules.size())});
  };
  const auto v4 = [&] {
    return Address::from_v4(htonl(0xc6120000u | static_cast<uint32_t>(random() & 0x1ffff)));
  };
  const auto v6 = [&] {
    Address a = Address::parse("2001:db8::").value();
    for (size_t i = 4; i < 16; ++i) a.bytes[i] = random() % 4 == 0 ? static_cast<uint8_t>(random()) : 0;
    return a;
  };
  for (int i = 0; i < 300; ++i) {
    add(v4(), static_cast<uint8_t>(14 + random() % 19));
    add(v6(), static_cast<uint8_t>(random() % 98 + 31));
  }
  add(Address::parse("255.255.255.255").value(), 32);
  add(Address::parse("::").value(), 0);
  const PrefixMap map(rules);
  const auto expected = [&](const Address& a) {
    uint32_t best = PrefixMap::kNoMatch;
    int length = -1;
    for (const auto& rule : rules) {
      if (rule.prefix.contains(a) && rule.prefix.length > length)
        best = rule.value, length = rule.prefix.length;
    }
    return best;
  };
  for (int i = 0; i < 5000; ++i) {
    const Address a = v4(), b = v6();
    ASSERT_EQ(map.find(a.v4()), expected(a)) << to_string(a);
    ASSERT_EQ(map.find(V6::from(b)), expected(b)) << to_string(b);
  }
  EXPECT_EQ(map.find(0xffffffffu), expected(Address::from_v4(0xffffffffu)));
  EXPECT_EQ(map.find(0u), PrefixMap::kNoMatch);
  EXPECT_EQ(PrefixMap().find(1u), PrefixMap::kNoMatch);
}

TEST(FlowState, FollowsTheHandshakeAndBothCloses) {
  using enum FlowState;
  EXPECT_EQ(next_state(syn, true, kSyn, false), syn);
  EXPECT_EQ(next_state(syn, true, kAck, false), established);
  EXPECT_EQ(next_state(syn, false, kSyn | kAck, false), syn);
  EXPECT_EQ(next_state(established, true, kFin | kAck, false), client_fin);
  EXPECT_EQ(next_state(client_fin, true, kAck, false), client_fin);
  EXPECT_EQ(next_state(client_fin, false, kFin | kAck, false), closing);
  EXPECT_EQ(next_state(established, false, kFin | kAck, false), server_fin);
  EXPECT_EQ(next_state(server_fin, true, kFin | kAck, false), closing);
  EXPECT_EQ(next_state(closing, true, kAck, false), closing);
  EXPECT_EQ(next_state(client_fin, true, kSyn, false), client_fin);
  EXPECT_EQ(next_state(established, true, kSyn, false), established);
  EXPECT_EQ(next_state(established, true, kRst, false), reset);
  EXPECT_EQ(next_state(reset, true, kAck, true), established) << "its sender goes on: the RST was forged";
  EXPECT_EQ(next_state(reset, false, kAck, true), reset) << "still under way";
  EXPECT_EQ(next_state(reset, true, kSyn, true), reset);
  EXPECT_EQ(next_state(dead, true, kAck, true), dead);
}

TEST(Clock, TicksWrapAndKeepTheirDistance) {
  const Clock clock(2'600'000'000);
  EXPECT_EQ(ticks_since(clock.tick(2'600'000'000ull * 100), clock.tick(2'600'000'000ull * 90)),
            10000 / kTickMs);
  EXPECT_EQ(ticks_since(3, kTickMask - 1), 5u);
  EXPECT_EQ(ticks_of_ms(0), 1u);
  EXPECT_EQ(ticks_of_ms(17), 2u);
  EXPECT_LE(ticks_of_ms(UINT32_MAX), kTickMask);
}

TEST(Checksum, IncrementalEqualsFromScratch) {
  std::mt19937 random(5);
  for (int i = 0; i < 20000; ++i) {
    uint8_t bytes[22];
    for (uint8_t& b : bytes)
      b = static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random() % 3 == 0 ? 0 : random());
    bytes[0] |= 1;  // not all zero
    store(bytes + 20, static_cast<uint16_t>(~fold_sum(sum_bytes(bytes, 20))));
    ASSERT_EQ(fold_sum(sum_bytes(bytes, 22)), 0xffff);
    const auto old_word = load<uint64_t>(bytes + 4);
    const uint64_t new_word = uint64_t{random()} << 32 | random();
    store(bytes + 4, new_word);
    const uint16_t delta = checksum_delta(sum_of(old_word), sum_of(new_word));
    adjust_checksum(bytes + 20, delta);
    ASSERT_EQ(fold_sum(sum_bytes(bytes, 22)), 0xffff);
    store(bytes + 4, old_word);
    adjust_checksum(bytes + 20, inverse_delta(delta));
    ASSERT_EQ(fold_sum(sum_bytes(bytes, 22)), 0xffff);
  }
}

TEST(NewKeys, OfOneFlowDoNotTakeEachOthersPlace) {
  constexpr uint32_t kFlows = 64;
  std::mt19937_64 random(9);
  for (uint32_t round = 0; round < 500; ++round) {
    FlowTable<NatEntry<V4>> flows(kFlows, false, -1);
    for (uint32_t i = 0; i < kFlows; ++i) {
      const uint32_t reference = flows.allocate();
      flows[reference].vitals = Vitals(FlowState::syn, true, 0);
      const auto is_it = [&](const NatEntry<V4>& e) { return &e == &flows[reference]; };
      const uint64_t one = random(), other = random();
      const FlowTable<NatEntry<V4>>::NewKey first(flows, one, is_it), second(flows, other, is_it);
      if (!first.insert(flows, reference) || !second.insert(flows, reference, &first)) continue;
      ASSERT_EQ(flows.find(one, 0, is_it), reference) << "round " << round << ", flow " << i;
      ASSERT_EQ(flows.find(other, 0, is_it), reference) << "round " << round << ", flow " << i;
    }
  }
}

// Keys of one hash fill their three buckets and no others.
TEST(FlowIndex, KeysGoOnToTheirThirdBucket) {
  constexpr uint32_t kMost = 3 * FlowIndex::kPlaces, kEntrySize = 64;
  const std::vector<char> entries((kMost + 2) * kEntrySize);  // prefetched
  FlowIndex index(1000, kMost + 1, entries.data(), kEntrySize, false, -1);
  std::mt19937_64 random(11);
  for (uint32_t round = 0; round < 100; ++round) {
    const uint64_t hash = random(), other = random();
    const auto find = [&](uint32_t wanted) {
      return index.find(hash, [&](uint32_t reference) { return reference == wanted; });
    };
    for (uint32_t i = 1; i <= kMost; ++i) ASSERT_TRUE(index.insert(hash, i)) << i;
    EXPECT_FALSE(index.insert(hash, kMost + 1));
    for (uint32_t i = 1; i <= kMost; ++i) ASSERT_EQ(find(i), i);
    EXPECT_TRUE(index.insert(other, kMost + 1));
    // Those of the third bucket last, then first.
    for (uint32_t i = 1; i <= kMost; ++i) {
      const uint32_t gone = round % 2 == 0 ? i : kMost + 1 - i;
      index.erase(hash, gone);
      ASSERT_EQ(find(gone), 0u);
      ASSERT_EQ(index.find(hash, [](uint32_t) { return true; }) != 0, i < kMost);
    }
    index.erase(other, kMost + 1);
    EXPECT_NE(index.place_of_new(hash), nullptr);  // no key counts as moved any more
  }
}

// An empty place is no candidate for a key whose hash has no bits for a tag.
TEST(FlowIndex, AnEmptyPlaceIsNoCandidate) {
  constexpr uint32_t kMostEntries = 255, kEntrySize = 64;
  const std::vector<char> entries((kMostEntries + 1) * kEntrySize);  // prefetched
  FlowIndex index(8, kMostEntries, entries.data(), kEntrySize, false, -1);
  constexpr uint64_t kFirst = 5 | uint64_t{1} << 56, kSecond = 5;
  index.insert(kFirst, 1);
  index.insert(kSecond, 2);
  index.erase(kFirst, 1);
  EXPECT_EQ(index.candidate(kSecond), 2u);
  if (has_avx512()) {
    EXPECT_EQ(candidate_by_avx512(index, kSecond), 2u);
  }
}

}  // namespace
}  // namespace portico
