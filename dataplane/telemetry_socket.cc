// SPDX-License-Identifier: Apache-2.0
#include "dataplane/telemetry_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "dataplane/eal_arguments.h"
#include "dataplane/log.h"

namespace portico {
namespace {

constexpr const char* kLinkName = "telemetry";
constexpr int kBacklog = 1;  // as DPDK has it

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return address;
}

// The path at which a descriptor listens; empty if it does not.
std::string listens_at(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return {};
  sockaddr_un address{};
  size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 || address.sun_family != AF_UNIX)
    return {};
  return {address.sun_path, strnlen(address.sun_path, sizeof address.sun_path)};
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

void connect_to(int fd, const std::string& path) {
  const sockaddr_un address = address_of(path);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail(path);
}

FileHandle new_socket(int flags) {
  FileHandle made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!made.is_open()) fail("socket");
  return made;
}

}  // namespace

TelemetrySocket::TelemetrySocket(const std::filesystem::path& run_dir, const std::string& file_prefix)
    : path_(telemetry_socket_path(run_dir, file_prefix)),
      link_(run_dir / kLinkName),
      link_target_(telemetry_socket_path(".", file_prefix)) {
  find_listener();
  std::error_code ignored;
  std::filesystem::remove(link_, ignored);
  check();
}

void TelemetrySocket::find_listener() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    if (listens_at(fd) != path_) continue;
    listener_ = fd;
    name_ = FileHandle(open(path_.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    return;
  }
  log_warning("DPDK has no telemetry socket at " + path_.string() + "; `portico explain` does not work");
}

void TelemetrySocket::check() {
  waker_.close();
  if (listener_ < 0) return;
  try {
    if (!is_in_place()) make_socket();
    make_link();
    told_ = false;
  } catch (const std::runtime_error& error) {
    if (!std::exchange(told_, true))
      log_warning(std::string("the telemetry socket was removed and cannot be made anew: ") + error.what());
  }
}

// What others put in its place stays theirs.
bool TelemetrySocket::is_in_place() const {
  struct stat status;
  return lstat(path_.c_str(), &status) == 0;
}

// A new socket takes the place of the old one under DPDK's descriptor. DPDK waits in accept() at the old one,
// which has lost its name but not its inode: a connection to that makes it come back and accept at the new
// one. The connection stays open until the next check, so that its greeting finds a reader.
void TelemetrySocket::make_socket() {
  std::error_code error;
  // Who may connect may upgrade the program: nobody but its own user, whatever the umask is.
  std::filesystem::create_directories(path_.parent_path(), error);
  if (chmod(path_.parent_path().c_str(), 0700) != 0) fail(path_.parent_path());
  const FileHandle made = new_socket(0);
  const sockaddr_un address = address_of(path_);
  if (bind(made.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      chmod(path_.c_str(), 0600) != 0 || listen(made.fd(), kBacklog) != 0)
    fail(path_);
  FileHandle name(open(path_.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!name.is_open() || dup3(made.fd(), listener_, O_CLOEXEC) < 0) fail(path_);
  const FileHandle old = std::exchange(name_, std::move(name));
  waker_ = new_socket(SOCK_NONBLOCK);
  connect_to(waker_.fd(), "/proc/self/fd/" + std::to_string(old.fd()));
  log_warning("the telemetry socket was removed; made anew: " + path_.string());
}

void TelemetrySocket::make_link() {
  std::error_code error;
  if (std::filesystem::is_symlink(link_, error)) return;
  std::filesystem::create_symlink(link_target_, link_, error);
  if (error) throw std::runtime_error(link_.string() + ": " + error.message());
}

}  // namespace portico
