// SPDX-License-Identifier: Apache-2.0
#include "control/netlink.h"

#include <gtest/gtest.h>

#include <set>

namespace portico {
namespace {

// As after a request that was given up: its answer waits in the socket, and the dump it asked for goes on.
void leave_an_answer(const NetlinkSocket& socket) {
  NetlinkRequest late(RTM_GETLINK, NLM_F_DUMP);
  late.fixed<ifinfomsg>();
  late.header()->nlmsg_seq = 4711;
  ASSERT_EQ(send(socket.fd(), late.header(), late.header()->nlmsg_len, 0), late.header()->nlmsg_len);
}

TEST(Netlink, TakesNoLateAnswerForThatOfTheNextRequest) {
  auto socket = NetlinkSocket::open(0);
  ASSERT_TRUE(socket);
  leave_an_answer(*socket);
  std::set<int> types;
  NetlinkRequest request(RTM_GETLINK, 0);
  request.fixed<ifinfomsg>()->ifi_index = 1;
  EXPECT_EQ(socket->request(request,
                            [&](const nlmsghdr* message) {
                              types.insert(message->nlmsg_type);
                              EXPECT_NE(message->nlmsg_seq, 4711u);
                            }),
            0);
  EXPECT_EQ(types, std::set<int>{RTM_NEWLINK});
}

TEST(Netlink, TellsTheKernelsRefusal) {
  auto socket = NetlinkSocket::open(0);
  ASSERT_TRUE(socket);
  NetlinkRequest request(RTM_GETLINK, 0);
  request.fixed<ifinfomsg>()->ifi_index = 0x7ffffff0;
  EXPECT_EQ(socket->request(request), ENODEV);
}

}  // namespace
}  // namespace portico
