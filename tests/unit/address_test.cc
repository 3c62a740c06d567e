// SPDX-License-Identifier: Apache-2.0
#include "contract/address.h"

#include <gtest/gtest.h>

#include "contract/feedback.h"
#include "contract/flow_hash.h"

namespace portico {
namespace {

TEST(Address, PrintsWhatItParses) {
  for (const char* text : {"192.0.2.1", "2001:db8::1", "0.0.0.0", "::1"}) {
    const auto address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), text);
  }
}

TEST(Address, RefusesEverythingElse) {
  for (const char* text :
       {"", "192.0.2", "192.0.2.256", "192.0.2.1:80", "fe80::1%eth0", "host", "192.0.2.1/24"})
    EXPECT_FALSE(Address::parse(text)) << text;
  EXPECT_FALSE(Address::parse({"192.0.2.1\0", 10})) << "ends with a null character";
  EXPECT_FALSE(Address::parse({"2001:db8::1\0::1", 15})) << "holds a null character";
}

TEST(Prefix, ContainsItsOwnFamilyOnly) {
  const auto v4 = Prefix::parse("192.0.2.0/25");
  ASSERT_TRUE(v4);
  EXPECT_TRUE(v4->contains(*Address::parse("192.0.2.127")));
  EXPECT_FALSE(v4->contains(*Address::parse("192.0.2.128")));
  const auto all_v6 = Prefix::parse("::/0");
  ASSERT_TRUE(all_v6);
  EXPECT_TRUE(all_v6->contains(*Address::parse("2001:db8::1")));
  EXPECT_FALSE(all_v6->contains(*Address::parse("192.0.2.1")));
}

TEST(Prefix, RefusesHostBitsAndBadLengths) {
  for (const char* text :
       {"192.0.2.1/24", "192.0.2.0/33", "2001:db8::1/64", "2001:db8::/129", "192.0.2.0/", "/8"})
    EXPECT_FALSE(Prefix::parse(text)) << text;
}

TEST(FlowHash, ClientHashIgnoresWhatThePrefixLeavesOut) {
  const HashKey key{{1, 2}};
  const auto a = *Address::parse("2001:db8::1"), b = *Address::parse("2001:db8::2");
  const auto c = *Address::parse("2001:db8:0:1::1");
  EXPECT_EQ(client_hash(key, a, 64), client_hash(key, b, 64));
  EXPECT_NE(client_hash(key, a, 128), client_hash(key, b, 128));
  EXPECT_NE(client_hash(key, a, 64), client_hash(key, c, 64));
}

TEST(FlowHash, SpreadsNeighbouringPortsOverSlots) {
  const HashKey key{{0x0123456789abcdef, 0xfedcba9876543210}};
  constexpr uint32_t kSlots = 16;
  unsigned counts[kSlots] = {};
  for (unsigned port = 0; port < 16000; ++port)
    ++counts[slot_of(flow_hash_v4(key, 0x010200c6, static_cast<uint16_t>(port), 0x0a0000c6, 0x5000), kSlots)];
  for (const unsigned count : counts) EXPECT_NEAR(count, 1000, 150);
}

}  // namespace
}  // namespace portico
