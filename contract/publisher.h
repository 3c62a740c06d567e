// SPDX-License-Identifier: Apache-2.0
// Control's side of the table: turns content into immutable blocks and publishes generations of them.
// docs/contract.md has the protocol. Not thread-safe: one thread owns it.
#pragma once

#include <bitset>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

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
  ~Publisher();
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Publishes a generation and returns its number; a content equal to the current one (but for
  // config_version) too. Fills in PoolRecord::backend_count and usable_count itself. Throws
  // std::invalid_argument if the content breaks a rule of contract/validate.h (the text says which) and
  // std::runtime_error if the file cannot be written (a full tmpfs); then the current generation stays.
  uint64_t publish(const TableContent& content);

  // Call at least every kHeartbeatStaleMs / 2.
  void heartbeat();

  uint64_t epoch() const;
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
  void step(const char* name) const;
  void fill_new_file(int fd) const;
  bool take_over();
  void map_header();
  std::bitset<kDirectorySlots> held_slots() const;
  uint64_t oldest_slot(const std::bitset<kDirectorySlots>& held) const;
  void place(BuiltBlocks& blocks, const std::bitset<kDirectorySlots>& held) const;
  void write(const BuiltBlocks& blocks, const Directory& directory, uint64_t slot);
  void grow_to(uint64_t end);

  StepHook hook_;
  WriterFile file_;
  FeedbackReader feedback_;
  TableHeader* header_ = nullptr;            // the file's first page, mapped
  std::unique_ptr<Slot[]> slots_;            // kDirectorySlots, as they stand in the file
  uint64_t last_generation_ = 0;             // the newest in any slot, published or not
  std::shared_ptr<const Snapshot> current_;  // what `current` names; null: nothing
  std::shared_ptr<const Snapshot> recovered_;
  Written last_written_;
};

}  // namespace portico
