// SPDX-License-Identifier: Apache-2.0
// What tests about fragments begin with, for IPv4 and IPv6.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/packet/rig.h"
#include "tests/support/sample_table.h"

namespace portico::test {

struct Ends {
  const char *client, *vip;
};
inline const Ends kV4{kClient4, kVip4}, kV6{kClient6, kVip6};

inline std::string text(size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>('a' + i % 23);
  return out;
}

class FragmentCase : public testing::TestWithParam<Ends> {
 protected:
  bool is_v6() const { return GetParam().client == std::string(kClient6); }
  Tcp from_client(uint16_t service_port, uint16_t port = 40000) const {
    return Tcp(GetParam().client, port, GetParam().vip, service_port);
  }
  Bytes data(uint16_t service_port, size_t size = 1300) const {
    return from_client(service_port).seq(1001).ack(78).payload(text(size));
  }
  // Opens a flow of each service; returns what the backend of nat sees.
  Seen open(Rig& rig) const {
    rig.send_one(from_client(kDsr).flags(kSynFlag));
    const Seen in = rig.send_one(from_client(kNat).flags(kSynFlag));
    rig.send_one(Tcp(in.destination, in.destination_port, in.source, in.source_port)
                     .flags(kSynFlag)
                     .seq(77)
                     .ack(1001));
    return in;
  }
};

}  // namespace portico::test
