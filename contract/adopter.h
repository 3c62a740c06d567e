// SPDX-License-Identifier: Apache-2.0
// The dataplane's side of the table: copies a new generation out of the file, checks all of it, and only then
// yields it. Also serves who only looks (the CLI). Not thread-safe: one thread owns it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "contract/feedback.h"
#include "contract/run_dir.h"
#include "contract/snapshot.h"
#include "contract/table_file.h"

namespace portico {

struct AdoptResult {
  enum class Kind {
    no_table,   // no file, or nothing published in it yet
    unchanged,  // nothing new since the last call; a refused generation is not tried again
    adopted,    // `snapshot` is a new, whole, valid generation
    refused,    // `reason` and `text` say why; the last good one stays in use
  };
  Kind kind = Kind::unchanged;
  std::shared_ptr<const Snapshot> snapshot;  // adopted
  uint64_t generation = 0;                   // adopted or refused; 0: not known
  uint64_t epoch = 0;                        // adopted or refused; 0: not known
  RefusalReason reason = RefusalReason::none;
  std::string text;  // refused: block, record index and field, or what is wrong with the file
  uint32_t blocks_copied = 0;
  uint64_t bytes_copied = 0;  // of blocks; unchanged ones are not copied again
  uint32_t attempts = 0;      // 1, unless control moved on meanwhile
};

class Adopter {
 public:
  // Announces to control which generation is about to be copied: the caller stores it into
  // FeedbackHeader::table_epoch and pending_generation before it returns. Control then keeps its blocks. 0:
  // copying has ended, one way or the other. Must not throw.
  using SetPending = std::function<void(uint64_t epoch, uint64_t generation)>;

  explicit Adopter(const std::filesystem::path& run_dir, SetPending set_pending = {});

  // One look at the file; two system calls when nothing is new. Never throws, whatever the file holds.
  AdoptResult poll() noexcept;

  // The last adopted generation; null: none yet.
  const std::shared_ptr<const Snapshot>& snapshot() const { return snapshot_; }

 private:
  bool reopen_if_replaced(AdoptResult& result);
  AdoptResult look();
  AdoptResult try_generations(TableHeader header);
  MaybeFault copy(const TableHeader& header, BlockCache& cache, Snapshot& snapshot, AdoptResult& result);
  AdoptResult adopt(const TableHeader& header, std::shared_ptr<const Snapshot> snapshot, AdoptResult result);
  AdoptResult refuse(const TableHeader& header, TableFault fault);

  std::filesystem::path path_;
  SetPending set_pending_;
  FileHandle file_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  TableHeader seen_{};    // the header last adopted or refused
  bool handled_ = false;  // seen_ is of the file that is open
  std::shared_ptr<const Snapshot> snapshot_;
};

// What the table file's header says, for people: absent, of another build, or who writes it.
struct TableStatus {
  WriterState writer;
  bool readable = false;  // else `text` says why
  std::string text;
  uint64_t epoch = 0;
  uint64_t generation = 0;    // published; 0: none
  uint64_t heartbeat_ns = 0;  // CLOCK_MONOTONIC
};
TableStatus read_table_status(const std::filesystem::path& run_dir);

}  // namespace portico
