// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_place.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace portico {

namespace fs = std::filesystem;

namespace {

constexpr long kHugePage = 2l << 20;

[[noreturn]] void fail(const fs::path& place, const std::string& what) {
  throw std::runtime_error(place.string() + ": " + what);
}

bool is_in_memory(const fs::path& directory) {
  struct statfs info;
  return statfs(directory.c_str(), &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

}  // namespace

fs::path find_hugetlbfs(const fs::path& mounts) {
  std::ifstream lines(mounts);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string device, directory, type;
    if (!(fields >> device >> directory >> type) || type != "hugetlbfs") continue;
    struct statfs info;
    if (statfs(directory.c_str(), &info) != 0 || info.f_type != HUGETLBFS_MAGIC) continue;
    if (info.f_bsize == kHugePage && access(directory.c_str(), W_OK | X_OK) == 0) return directory;
  }
  return {};
}

fs::path choose_flow_place(const fs::path& run_dir, const std::string& prefix, bool huge_pages) {
  const fs::path above = huge_pages ? find_hugetlbfs() : is_in_memory(run_dir) ? run_dir : "/dev/shm";
  return above.empty() ? fs::path() : above / ("portico-" + prefix);
}

FileHandle lock_flow_place(const fs::path& place) {
  if (mkdir(place.c_str(), 0700) != 0 && errno != EEXIST)
    fail(place, std::string("cannot make the directory: ") + std::strerror(errno));
  FileHandle handle(open(place.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!handle.is_open()) fail(place, std::string("cannot open the directory: ") + std::strerror(errno));
  struct stat info;
  // Others could put files of their own there.
  if (fstat(handle.fd(), &info) != 0 || info.st_uid != geteuid() || (info.st_mode & 022) != 0)
    fail(place, "another user's, or others may write there; remove it");
  if (flock(handle.fd(), LOCK_EX | LOCK_NB) != 0)
    fail(place, "in use by another dataplane; give this one another --file-prefix");
  return handle;
}

bool is_on_huge_pages(int fd) {
  struct statfs info;
  return fstatfs(fd, &info) == 0 && info.f_type == HUGETLBFS_MAGIC;
}

}  // namespace portico
