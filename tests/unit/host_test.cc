// SPDX-License-Identifier: Apache-2.0
#include "control/host.h"

#include <gtest/gtest.h>

namespace portico {
namespace {

HostAddress host_address(const char* text, uint8_t length, uint8_t protocol) {
  return {.address = *Address::parse(text), .length = length, .ifindex = 2, .protocol = protocol};
}

TEST(AddressProtocol, IsToldSinceLinux518) {
  for (const char* release : {"5.18.0", "5.19", "6.1.0-18-amd64", "10.0"})
    EXPECT_TRUE(tells_address_protocol({}, release)) << release;
  for (const char* release : {"5.17.9", "5.15.0-91-generic", "4.19", "5", "", "x.20"})
    EXPECT_FALSE(tells_address_protocol({}, release)) << release;
}

TEST(AddressProtocol, IsToldWhereAnAddressHasOne) {
  const HostAddress none = host_address("192.0.2.1", 24, 0), kernels = host_address("127.0.0.1", 8, 1);
  const HostAddress all[] = {none, kernels};
  EXPECT_FALSE(tells_address_protocol({&none, 1}, "5.14.0"));
  EXPECT_TRUE(tells_address_protocol(all, "5.14.0"));
}

// A control that starts again on an older kernel finds its own addresses there, without a sign of whose they
// are.
TEST(AddressProtocol, WithoutOneAHostAddressMayBeOurs) {
  EXPECT_EQ(owner_of(host_address("192.0.2.1", 32, 0), false), AddressOwner::perhaps_portico);
  EXPECT_EQ(owner_of(host_address("2001:db8::1", 128, 0), false), AddressOwner::perhaps_portico);
  EXPECT_EQ(owner_of(host_address("2001:db8::1", 32, 0), false), AddressOwner::others);
  EXPECT_EQ(owner_of(host_address("192.0.2.1", 24, 0), false), AddressOwner::others);
  EXPECT_EQ(owner_of(host_address("192.0.2.1", 32, 0), true), AddressOwner::others);
  EXPECT_EQ(owner_of(host_address("192.0.2.1", 32, kFirstAddressProtocol), true), AddressOwner::portico);
}

}  // namespace
}  // namespace portico
