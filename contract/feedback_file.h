// SPDX-License-Identifier: Apache-2.0
// The `feedback` file: the dataplane's main thread writes it, control and the CLI read consistent copies.
// Each start of the dataplane makes a new file with a new epoch.
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
  ~FeedbackWriter();
  FeedbackWriter(const FeedbackWriter&) = delete;
  FeedbackWriter& operator=(const FeedbackWriter&) = delete;

  // Between begin() and end() the caller may write what it likes, but for magic, abi_version, header_size,
  // layout_hash, epoch, pid and sequence; readers wait, so keep it short (gather first). Not nested. end()
  // also stores the heartbeat.
  Feedback& begin();
  void end();

  // What stands in the file, to read back.
  const Feedback& view() const { return *feedback_; }

 private:
  WriterFile file_;
  Feedback* feedback_ = nullptr;
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
