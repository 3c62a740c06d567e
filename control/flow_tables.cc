// SPDX-License-Identifier: Apache-2.0
#include "control/flow_tables.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

#include "contract/run_dir.h"

namespace portico {

namespace fs = std::filesystem;

namespace {

bool is_in_memory(int directory) {
  struct statfs info {};
  if (fstatfs(directory, &info) != 0) return false;
  return info.f_type == HUGETLBFS_MAGIC || info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC;
}

// "" if the directory may be a dataplane's of that user.
std::string why_not_ours(int directory, uid_t owner) {
  struct stat info {};
  if (fstat(directory, &info) != 0) return std::strerror(errno);
  if (info.st_uid != owner) return "another user's than the link to it";
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "others may write there";
  if (!is_in_memory(directory)) return "not on hugetlbfs or tmpfs";
  return "";
}

// Not those of directories in it: a dataplane makes none.
void remove_files(int directory) {
  const int copy = fcntl(directory, F_DUPFD_CLOEXEC, 0);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(copy < 0 ? nullptr : fdopendir(copy), closedir);
  if (!entries) return;
  for (const dirent* entry = readdir(entries.get()); entry != nullptr; entry = readdir(entries.get()))
    if (entry->d_type != DT_DIR) unlinkat(directory, entry->d_name, 0);
}

std::string remove_place(const fs::path& place, uid_t owner) {
  if (!place.filename().string().starts_with("portico-")) return "not named portico-*";
  const FileHandle above(open(place.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const std::string name = place.filename();
  const FileHandle directory(
      openat(above.fd(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory.is_open()) return errno == ENOENT || !above.is_open() ? "" : std::strerror(errno);
  if (auto why = why_not_ours(directory.fd(), owner); !why.empty()) return why;
  remove_files(directory.fd());
  return unlinkat(above.fd(), name.c_str(), AT_REMOVEDIR) == 0 ? "" : std::strerror(errno);
}

}  // namespace

std::string remove_flow_tables(const fs::path& run_dir) {
  const fs::path link = run_dir / kFlowTablesLink;
  std::error_code error;
  const fs::path place = fs::read_symlink(link, error);
  struct stat info {};
  if (error || lstat(link.c_str(), &info) != 0) return "";
  const std::string why = remove_place(place, info.st_uid);
  fs::remove(link, error);
  return why.empty() ? "" : "flow tables left in " + place.string() + ": " + why;
}

}  // namespace portico
