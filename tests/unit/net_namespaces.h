// SPDX-License-Identifier: Apache-2.0
// Network namespaces of a test's own. They have no name and vanish with the test process, however it ends.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

#include "contract/address.h"

namespace portico {

// A new, empty network namespace.
class NetNamespace {
 public:
  NetNamespace() {
    const int before = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(unshare(CLONE_NEWNET), 0) << "needs root";
    fd_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(setns(before, CLONE_NEWNET), 0);
    close(before);
    run("ip link set lo up");
  }
  ~NetNamespace() { close(fd_); }
  NetNamespace(const NetNamespace&) = delete;
  NetNamespace& operator=(const NetNamespace&) = delete;

  // Runs `code` with this thread inside. Sockets made there stay there.
  template <typename Code>
  auto inside(Code code) const {
    struct Inside {
      explicit Inside(int fd) : before(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
        EXPECT_EQ(setns(fd, CLONE_NEWNET), 0);
      }
      ~Inside() {
        EXPECT_EQ(setns(before, CLONE_NEWNET), 0);
        close(before);
      }
      int before;
    } here(fd_);
    return code();
  }
  // A shell command that must succeed.
  void run(const std::string& command) const {
    inside([&] { EXPECT_EQ(std::system(command.c_str()), 0) << command; });
  }
  // What `ip link ... netns PATH` takes.
  std::string path() const { return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_); }

 private:
  int fd_ = -1;
};

// A socket address of either family.
struct SocketAddress {
  SocketAddress(const std::string& text, uint16_t port) {
    const Address address = *Address::parse(text);
    if (address.is_v4()) {
      sockaddr_in v4{};
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      v4.sin_addr.s_addr = address.v4();
      std::memcpy(&storage, &v4, size = sizeof v4);
    } else {
      sockaddr_in6 v6{};
      v6.sin6_family = AF_INET6;
      v6.sin6_port = htons(port);
      std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
      std::memcpy(&storage, &v6, size = sizeof v6);
    }
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr_storage storage{};
  socklen_t size = 0;
};

// True once `condition` holds; false if it never does. The bound only ends a broken test.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    usleep(5000);
  }
  return false;
}

}  // namespace portico
