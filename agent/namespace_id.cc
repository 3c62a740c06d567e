// SPDX-License-Identifier: Apache-2.0
#include "agent/namespace_id.h"

#include <fcntl.h>
#include <linux/net_namespace.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "contract/run_dir.h"

namespace portico {

namespace {

constexpr int kNone = NETNSA_NSID_NOT_ASSIGNED;

int ask(NetlinkSocket& socket, int fd, int& id) {
  NetlinkRequest request(RTM_GETNSID, 0);
  request.fixed<rtgenmsg>();
  request.put_u32(NETNSA_FD, static_cast<uint32_t>(fd));
  return socket.request(request, [&](const nlmsghdr* message) {
    const auto fields = attributes<NETNSA_MAX + 1>(message, sizeof(rtgenmsg));
    if (fields[NETNSA_NSID] != nullptr) id = static_cast<int>(attribute_u32(fields[NETNSA_NSID]));
  });
}

int give(NetlinkSocket& socket, int fd) {
  NetlinkRequest request(RTM_NEWNSID, 0);
  request.fixed<rtgenmsg>();
  request.put_u32(NETNSA_NSID, static_cast<uint32_t>(kNone));  // any
  request.put_u32(NETNSA_FD, static_cast<uint32_t>(fd));
  return socket.request(request);
}

}  // namespace

std::optional<int> namespace_id(NetlinkSocket& socket, const std::string& path, std::string& failure) {
  const FileHandle file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat that, here;
  if (!file.is_open() || fstat(file.fd(), &that) != 0 || stat("/proc/self/ns/net", &here) != 0) {
    failure = path + ": " + std::strerror(errno);
    return std::nullopt;
  }
  if (that.st_dev == here.st_dev && that.st_ino == here.st_ino) return -1;
  int id = kNone;
  int error = ask(socket, file.fd(), id);
  if (error == 0 && id == kNone) error = give(socket, file.fd());
  if (error == 0 && id == kNone) error = ask(socket, file.fd(), id);
  if (error == 0 && id != kNone) return id;
  failure = path + ": " + (error != 0 ? std::strerror(error) : "the kernel gives it no number");
  return std::nullopt;
}

}  // namespace portico
