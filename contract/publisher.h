// SPDX-License-Identifier: Apache-2.0
// Control's side of the table: turns content into immutable blocks and publishes generations of them.
// docs/contract.md has the protocol. Not thread-safe: one thread owns it. Nothing is mapped: a file that
// others cut off would be a SIGBUS.
#pragma once

#include <bitset>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "contract/feedback_file.h"
#include "contract/layout.h"
#include "contract/run_dir.h"
#include "contract/snapshot.h"
#include "contract/table_build.h"

namespace portico {

class Publisher {
 public:
  // Called before each step that changes the file, with the step's name. Tests end the process or throw
  // there: the file must be good at every step.
  using StepHook = std::function<void(const char* step)>;

  // Takes over the run directory's table file if this build wrote it and its current generation is whole and
  // valid; else puts a new one with a new epoch in its place. Throws std::runtime_error if another control
  // process has it, or on a system error; the text names the remedy.
  explicit Publisher(const std::filesystem::path& run_dir, StepHook hook = {});
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Publishes a generation and returns its number; a content equal to the current one (but for
  // config_version) too. Fills in PoolRecord::backend_count and usable_count itself. Throws
  // std::invalid_argument if the content breaks a rule of contract/validate.h (the text says which) and
  // std::runtime_error if the file cannot be written (a full tmpfs); then the current generation stays. A
  // file that others spoiled is made anew first, as heartbeat() does it.
  uint64_t publish(const TableContent& content);

  // Call at least every kHeartbeatStaleMs / 2. Looks whether the file is still the one that was written: in
  // its place, not cut off, its header ours; every two seconds also whether the current generation's bytes
  // are, and whether the dataplane found them broken. If not, the current content is published in a new file
  // of a new epoch; generation numbers go on, so ids keep their meaning. Returns what was mended since the
  // last call, for the log; empty: nothing. Throws std::runtime_error if it cannot be mended: the next call
  // tries again.
  std::string heartbeat();

  uint64_t epoch() const { return file_state_.header.epoch; }
  // The published generation; 0: none yet.
  uint64_t generation() const;

  // The generation found in the file by the constructor: control takes its ids and table contents from it.
  // Nothing if the file is new. Kept until the first publish().
  std::shared_ptr<const Snapshot> recovered() const { return recovered_; }

  // What the last publish() wrote: new blocks, and their bytes.
  struct Written {
    uint32_t blocks = 0;
    uint64_t bytes = 0;
  };
  Written last_written() const { return last_written_; }

 private:
  struct Slot {
    bool valid = false;
    Directory directory{};
  };
  // What stands in a table file but the blocks.
  struct FileState {
    TableHeader header{};
    std::unique_ptr<Slot[]> slots = std::make_unique<Slot[]>(kDirectorySlots);
  };
  void step(const char* name) const;
  void fill_new_file(int fd, FileState& state) const;
  bool take_over();
  uint64_t newest_seen(uint64_t epoch) const;
  void write_heartbeat();
  std::string damage();
  std::string damage_of_content();
  bool is_refused_as_broken() const;
  void mend();
  void make_anew();
  std::unique_ptr<Directory> new_directory(const BuiltBlocks& blocks, uint64_t epoch,
                                           uint64_t config_version) const;
  std::bitset<kDirectorySlots> held_slots() const;
  uint64_t oldest_slot(const std::bitset<kDirectorySlots>& held) const;
  void place(BuiltBlocks& blocks, const std::bitset<kDirectorySlots>& held) const;
  void write(int fd, FileState& state, const BuiltBlocks& blocks, const Directory& directory, uint64_t slot);
  void grow_to(int fd, FileState& state, uint64_t end) const;

  StepHook hook_;
  FileState file_state_;  // as the file should be
  WriterFile file_;
  FeedbackReader feedback_;
  uint64_t last_generation_ = 0;             // the newest in any slot, published or not
  std::shared_ptr<const Snapshot> current_;  // what `current` names; null: nothing
  std::shared_ptr<const Snapshot> recovered_;
  Written last_written_;
  uint64_t verify_at_ns_ = 0;  // when the content is looked at next
  std::string mended_;         // not told yet
};

}  // namespace portico
