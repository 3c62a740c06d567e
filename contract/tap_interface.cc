// SPDX-License-Identifier: Apache-2.0
#include "contract/tap_interface.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace portico {
namespace {

bool bring_up(const ifreq& named) {
  const FileHandle control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = named;
  if (ioctl(control.fd(), SIOCGIFFLAGS, &request) != 0) return false;
  request.ifr_flags |= IFF_UP;
  return ioctl(control.fd(), SIOCSIFFLAGS, &request) == 0;
}

}  // namespace

FileHandle open_tap(const std::string& name) {
  FileHandle handle(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!handle.is_open()) return handle;
  ifreq named{};
  std::memcpy(named.ifr_name, name.data(), std::min(name.size(), sizeof named.ifr_name - 1));
  ifreq request = named;
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(handle.fd(), TUNSETIFF, &request) == 0 && ioctl(handle.fd(), TUNSETPERSIST, 1) == 0 &&
      bring_up(named)) {
    return handle;
  }
  const int error = errno;
  handle.close();
  errno = error;
  return handle;
}

std::optional<std::string> ensure_tap(const std::string& name) {
  if (if_nametoindex(name.c_str()) != 0 || open_tap(name).is_open()) return std::nullopt;
  return "the tap interface " + name +
         ", the kernel's side of a port, cannot be made: " + std::strerror(errno) +
         "; it takes root or CAP_NET_ADMIN, and the kernel's tun module (`modprobe tun`)";
}

}  // namespace portico
