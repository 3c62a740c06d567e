// SPDX-License-Identifier: Apache-2.0
#include "contract/run_dir.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "contract/feedback.h"
#include "contract/layout.h"

namespace portico {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const std::string& what, int error, const char* remedy) {
  throw std::runtime_error(path.string() + ": " + what + ": " + std::strerror(error) + "; " + remedy);
}

constexpr const char* kDirRemedy = "run as a user that may write there, or choose another run directory";
constexpr const char* kSpaceRemedy = "check the room on that file system (`df`) and the permissions";

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;  // l_start = l_len = 0: all of it; l_pid must be 0 for F_OFD_*
}

// True if the lock is ours now; false if somebody else has it.
bool try_lock(int fd, const fs::path& path) {
  struct flock lock = whole_file(F_WRLCK);
  if (fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  fail(path, "cannot lock", errno, "the run directory must be on a local file system (tmpfs)");
}

// The writer's pid as the file's header has it, whichever of the two files it is; 0: not known.
pid_t pid_in_header(int fd) {
  uint64_t magic = 0, pid = 0;
  if (read_at(fd, &magic, sizeof magic, 0) != sizeof magic) return 0;
  const uint64_t offset = magic == kTableMagic      ? offsetof(TableHeader, control_pid)
                          : magic == kFeedbackMagic ? offsetof(FeedbackHeader, pid)
                                                    : 0;
  if (offset == 0 || read_at(fd, &pid, sizeof pid, offset) != sizeof pid || pid > 0x7fffffff) return 0;
  return static_cast<pid_t>(pid);
}

// O_NONBLOCK: whoever put a FIFO there does not make us wait.
FileHandle open_existing(const fs::path& path, int flags) {
  return FileHandle(open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
}

bool is_same_file(int fd, const fs::path& path) {
  struct stat open_file, named_file;
  return fstat(fd, &open_file) == 0 && lstat(path.c_str(), &named_file) == 0 &&
         open_file.st_ino == named_file.st_ino && open_file.st_dev == named_file.st_dev;
}

WriterState writer_of(const fs::path& path) {
  const FileHandle file = open_existing(path, O_RDONLY);
  if (!file.is_open()) return {.file_exists = errno != ENOENT};
  return {.file_exists = true, .alive = is_locked(file.fd()), .pid = pid_in_header(file.fd())};
}

}  // namespace

FileHandle& FileHandle::operator=(FileHandle&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

FileHandle::~FileHandle() {
  close();
}

void FileHandle::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

void ensure_run_dir(const fs::path& run_dir) {
  std::error_code error;
  if (fs::create_directories(run_dir, error)) {
    fs::permissions(run_dir, static_cast<fs::perms>(0750), error);
  } else if (error) {
    fail(run_dir, "cannot create the run directory", error.value(), kDirRemedy);
  }
  if (access(run_dir.c_str(), W_OK | X_OK) != 0)
    fail(run_dir, "cannot write to the run directory", errno, kDirRemedy);
}

WriterState table_writer(const fs::path& run_dir) {
  return writer_of(run_dir / kTableFile);
}

WriterState feedback_writer(const fs::path& run_dir) {
  return writer_of(run_dir / kFeedbackFile);
}

bool is_locked(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

WriterFile::WriterFile(const fs::path& run_dir, const char* name, const Fill& fill) : path_(run_dir / name) {
  ensure_run_dir(run_dir);
  // Each round ends in a lock or an error, unless somebody else replaced or made the file under our eyes.
  while (!take_existing() && !create(fill)) {
  }
  remove_leftovers();
}

// False if there is no such file, or if it was replaced while it was being locked.
bool WriterFile::take_existing() {
  FileHandle file = open_existing(path_, O_RDWR);
  if (!file.is_open()) {
    if (errno == ENOENT) return false;
    fail(path_, "cannot open", errno, "remove it, or run as the user that owns it");
  }
  struct stat status;
  if (fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode))
    throw std::runtime_error(path_.string() + ": not a regular file; remove it");
  if (!try_lock(file.fd(), path_)) {
    if (!is_same_file(file.fd(), path_)) return false;
    const pid_t pid = pid_in_header(file.fd());
    throw std::runtime_error("a second instance on the same run directory: " + path_.string() +
                             " is in use by process " + (pid ? std::to_string(pid) : "(unknown)") +
                             "; stop that one, or give this one a run directory of its own");
  }
  if (!is_same_file(file.fd(), path_)) return false;
  handle_ = std::move(file);
  created_ = false;
  return true;
}

// A locked, filled file of mode 0640 under a name that no other process uses.
FileHandle WriterFile::make_temporary(const Fill& fill) const {
  const fs::path temporary = temporary_path();
  unlink(temporary.c_str());
  FileHandle file(open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!file.is_open()) fail(temporary, "cannot create", errno, kSpaceRemedy);
  fchmod(file.fd(), 0640);  // whatever the umask says
  if (!try_lock(file.fd(), temporary)) throw std::runtime_error(temporary.string() + ": locked by another");
  try {
    fill(file.fd());
  } catch (...) {
    unlink(temporary.c_str());
    throw;
  }
  return file;
}

// False if somebody else's file took the name first, or if whoever has the lock removed our temporary one.
bool WriterFile::create(const Fill& fill) {
  FileHandle file = make_temporary(fill);
  const fs::path temporary = temporary_path();
  const bool linked = link(temporary.c_str(), path_.c_str()) == 0;
  const int error = errno;
  unlink(temporary.c_str());
  if (!linked) {
    if (error == EEXIST || error == ENOENT) return false;
    fail(path_, "cannot create", error, kSpaceRemedy);
  }
  handle_ = std::move(file);
  created_ = true;
  return true;
}

void WriterFile::replace(const Fill& fill) {
  // Said before there is anything to clear away: whoever tends the file tries again and again.
  if (fs::is_directory(fs::symlink_status(path_)))
    throw std::runtime_error(path_.string() +
                             ": a directory stands in the file's place; remove it, and the file is " +
                             "made anew within a second");
  FileHandle file = make_temporary(fill);
  if (rename(temporary_path().c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_path().c_str());
    fail(path_, "cannot replace", error, error == EISDIR ? "remove that directory" : kSpaceRemedy);
  }
  handle_ = std::move(file);  // only now the old file's lock goes
  created_ = true;
}

bool WriterFile::is_in_place() const {
  return is_same_file(handle_.fd(), path_);
}

void WriterFile::restore(const Fill& fill) {
  ensure_run_dir(path_.parent_path());
  if (!is_in_place()) {
    const FileHandle other = open_existing(path_, O_RDONLY);
    if (other.is_open() && is_locked(other.fd())) {
      const pid_t pid = pid_in_header(other.fd());
      throw std::runtime_error(path_.string() + ": was removed, and process " +
                               (pid ? std::to_string(pid) : "(unknown)") +
                               " made it anew; stop one of the two, then restart the other");
    }
  }
  replace(fill);
}

fs::path WriterFile::temporary_path() const {
  return path_.string() + ".new." + std::to_string(getpid());
}

// What writers that were killed while they made a file left behind. Only the holder of the lock does this; a
// process that is about to lose against it finds its temporary file gone, looks again and sees the lock.
void WriterFile::remove_leftovers() const {
  std::error_code error;
  const std::string prefix = path_.filename().string() + ".new.";
  for (const auto& entry : fs::directory_iterator(path_.parent_path(), error))
    if (entry.path().filename().string().starts_with(prefix)) unlink(entry.path().c_str());
}

uint64_t size_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

size_t read_at(int fd, void* buffer, size_t size, uint64_t offset) {
  size_t done = 0;
  while (done < size) {
    const ssize_t got =
        pread(fd, static_cast<char*>(buffer) + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

void write_at(int fd, const void* bytes, size_t size, uint64_t offset, const std::string& what) {
  size_t done = 0;
  while (done < size) {
    const ssize_t put =
        pwrite(fd, static_cast<const char*>(bytes) + done, size - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail(what, "cannot write", put < 0 ? errno : ENOSPC, kSpaceRemedy);
    done += static_cast<size_t>(put);
  }
}

namespace {

uint64_t now_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

uint64_t monotonic_ns() {
  return now_ns(CLOCK_MONOTONIC);
}

uint64_t realtime_ns() {
  return now_ns(CLOCK_REALTIME);
}

uint64_t random_epoch() {
  uint64_t value = 0;
  while (value == 0)
    if (getrandom(&value, sizeof value, 0) != sizeof value) value = monotonic_ns() ^ realtime_ns() << 20;
  return value;
}

}  // namespace portico
