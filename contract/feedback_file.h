// SPDX-License-Identifier: Apache-2.0
// The `feedback` file: the dataplane's main thread writes it, control and the CLI read consistent copies.
// Each start of the dataplane makes a new file with a new epoch. Nothing is mapped: a file that others cut
// off would be a SIGBUS.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "contract/feedback.h"
#include "contract/run_dir.h"

namespace portico {

// The dataplane's side. Not thread-safe: the main thread owns it.
class FeedbackWriter {
 public:
  // Puts a new, zeroed file in place, locked for this object's life. `version` is the program's, for
  // messages. Throws std::runtime_error if another dataplane has the run directory, or on a system error.
  FeedbackWriter(const std::filesystem::path& run_dir, const std::string& version);
  FeedbackWriter(const FeedbackWriter&) = delete;
  FeedbackWriter& operator=(const FeedbackWriter&) = delete;

  // How many entries of services and backends have ever been used: the rest need not be written.
  struct Used {
    size_t services = kMaxServices, backends = kMaxBackends;
  };

  // Between begin() and end() the caller may write what it likes, but for magic, abi_version, header_size,
  // layout_hash, epoch, pid and sequence. end() stores the heartbeat and writes to the file the header,
  // drops, the ports and workers that the header counts, the services and backends in use, and resolve
  // requests. It makes a file anew that was removed or replaced, mends one that was cut off or overwritten by
  // writing it, and never throws: what cannot be written now is written by a later end().
  Feedback& begin() { return *feedback_; }
  void end(const Used& used);
  void end() { end(Used{}); }

  // What the last end() could not do or had to mend, with the remedy; empty: nothing.
  const std::string& trouble() const { return trouble_; }

  // What stands in the file, to read back.
  const Feedback& view() const { return *feedback_; }

 private:
  void fill(int fd) const;
  void write(const Used& used);
  void write_part(const void* part, size_t size) const;

  std::unique_ptr<Feedback> feedback_;  // what the file should say
  WriterFile file_;
  std::string trouble_;
  uint64_t restore_at_ns_ = 0;  // the earliest next attempt to make the file anew
};

enum class FeedbackStatus {
  ok,
  absent,        // no file: no dataplane has run since the run directory was made
  other_abi,     // written by a dataplane of another ABI version
  other_layout,  // same ABI version, another build
  unreadable,    // not a feedback file, cut off, or no permission
  busy,          // the writer was in the middle of an update each time; try again, unless it is dead
};

struct FeedbackResult {
  FeedbackStatus status = FeedbackStatus::absent;
  bool writer_alive = false;  // the lock is held
  bool stale = false;         // the heartbeat is older than kHeartbeatStaleMs
  pid_t pid = 0;              // of the writer, alive or not; 0: not known
  std::string text;           // for a person, if status is not ok: what is wrong and the remedy
  bool ok() const { return status == FeedbackStatus::ok; }
};

// Anybody's side. Opens the file anew each time, so that a restarted dataplane is seen.
class FeedbackReader {
 public:
  explicit FeedbackReader(const std::filesystem::path& run_dir);

  // A consistent copy of all (600 KB), or of the header alone. On any status but ok `out` holds nothing of
  // use. A file whose writer died in the middle of an update is `busy` with writer_alive false.
  FeedbackResult read(Feedback& out) const;
  FeedbackResult read_header(FeedbackHeader& out) const;

 private:
  FeedbackResult read_bytes(void* out, size_t size) const;

  std::filesystem::path path_;
};

}  // namespace portico
