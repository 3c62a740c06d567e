// SPDX-License-Identifier: Apache-2.0
// The run directory (tmpfs) of one Portico instance and its two files: `table`, written by control, and
// `feedback`, written by the dataplane. A writer holds an open-file-description lock (fcntl(2), F_OFD_SETLK)
// on its file for as long as it lives. The kernel drops the lock however the process ends, so the lock, not
// the pid, says whether a writer is there.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

namespace portico {

inline constexpr const char* kTableFile = "table";
inline constexpr const char* kFeedbackFile = "feedback";
// A link to the directory of the dataplane's flow tables, which may be on another file system.
inline constexpr const char* kFlowTablesLink = "flow-tables";

// An owned file descriptor; -1: none.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int fd) : fd_(fd) {}
  FileHandle(FileHandle&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileHandle& operator=(FileHandle&& other) noexcept;
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;
  ~FileHandle();

  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  void close();

 private:
  int fd_ = -1;
};

// Creates the directory (0750) and its parents if missing. Throws std::runtime_error with the path, the
// system's reason and the remedy if it cannot be made or written to.
void ensure_run_dir(const std::filesystem::path& run_dir);

// Who writes a file of the run directory, as seen from outside.
struct WriterState {
  bool file_exists = false;
  bool alive = false;  // the lock is held
  pid_t pid = 0;       // as the file's header has it; 0: not known
};
WriterState table_writer(const std::filesystem::path& run_dir);
WriterState feedback_writer(const std::filesystem::path& run_dir);

// True if a process holds the writer's lock on the open file.
bool is_locked(int fd);

// A file of the run directory, opened by its one writer and locked. Throws std::runtime_error on system
// errors, and if another process holds the lock: "... a second instance on the same run directory:
// /run/x/table is in use by process 123; ...".
//
// A new or replacing file appears under its name whole: it is made under a temporary name, locked, filled by
// `fill(fd)` and then renamed, so nobody ever sees half a header.
class WriterFile {
 public:
  using Fill = std::function<void(int fd)>;

  // `name` is kTableFile or kFeedbackFile. An existing file is opened and locked; else one is made with
  // `fill`.
  WriterFile(const std::filesystem::path& run_dir, const char* name, const Fill& fill);

  // Puts a new file, made with `fill`, in place of the present one. The lock is held throughout.
  void replace(const Fill& fill);

  // True if the file's name still names the open file: nobody removed or replaced it.
  bool is_in_place() const;
  // replace() for a file that others removed, displaced or spoiled; makes the run directory again if it is
  // gone. Throws std::runtime_error also if what stands there now is another process's.
  void restore(const Fill& fill);

  int fd() const { return handle_.fd(); }
  // True if the file was made by the constructor or by replace().
  bool created() const { return created_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  bool take_existing();
  FileHandle make_temporary(const Fill& fill) const;
  bool create(const Fill& fill);
  void remove_leftovers() const;
  std::filesystem::path temporary_path() const;

  std::filesystem::path path_;
  FileHandle handle_;
  bool created_ = false;
};

// Bytes of the open file; 0 on an error.
uint64_t size_of(int fd);

// pread(2) and pwrite(2) of all `size` bytes, across interruptions. read_at returns the bytes read: fewer
// only at the end of the file or on an error. write_at throws std::runtime_error naming `what`.
size_t read_at(int fd, void* buffer, size_t size, uint64_t offset);
void write_at(int fd, const void* bytes, size_t size, uint64_t offset, const std::string& what);

// CLOCK_MONOTONIC and CLOCK_REALTIME in nanoseconds.
uint64_t monotonic_ns();
uint64_t realtime_ns();

// A random, non-zero 64-bit value: the epoch of a new file.
uint64_t random_epoch();

}  // namespace portico
