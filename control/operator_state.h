// SPDX-License-Identifier: Apache-2.0
// What operators asked for: backends drained or held, weights, by whom, when and why. Kept in a small JSON
// file that is replaced whole, so that it survives control's death at any moment.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace portico {

enum class Admin : uint8_t {
  active = 0,
  drained =
      1,     // new flows go elsewhere, existing ones stay; still the last resort under `all_down: keep-last`
  held = 2,  // the same, and never used: not for keep-last, not counted for min_healthy
};

// "active", "drained" or "held".
const char* to_string(Admin admin);

struct AdminEntry {
  Admin state = Admin::active;
  std::string who;          // "uid 1000 (alice)"
  int64_t since_ms = 0;     // CLOCK_REALTIME
  std::string why;          // the operator's words; may be empty
  int64_t deadline_ms = 0;  // CLOCK_REALTIME: connections that are left then are reset; 0: never
};

// A weight that an operator set in place of the configuration's.
struct WeightEntry {
  uint32_t weight = 0;
  std::string who;  // as AdminEntry
  int64_t since_ms = 0;
  std::string why;
};

// Writes `text` to `path` so that a reader or a crash sees the old file or the new one: temporary file,
// fsync, rename, fsync of the folder. Mode 0640. Returns an error text.
std::optional<std::string> write_atomically(const std::string& path, const std::string& text);

// Reads a whole file of at most 16 MiB. nullopt if it cannot be read.
std::optional<std::string> read_whole(const std::string& path);

class OperatorState {
 public:
  using Key = std::pair<std::string, std::string>;  // pool, backend

  // `path`: the file; it need not exist.
  explicit OperatorState(std::string path) : path_(std::move(path)) {}

  // Reads the file. Returns an error text if it is there and makes no sense; then nobody is drained or held.
  std::optional<std::string> load();
  // Sets a backend's state and stores all. Returns an error text if it could not be stored; then nothing is
  // changed. `active` removes the entry.
  std::optional<std::string> set(const Key& key, AdminEntry entry);

  // The same for its weight; nullopt: the configuration's again.
  std::optional<std::string> set_weight(const Key& key, std::optional<WeightEntry> entry);
  // Forgets a weight here alone: for trying out.
  void forget_weight(const Key& key) { weights_.erase(key); }

  // `active` for a backend of which nothing is known.
  Admin state(const std::string& pool, const std::string& backend) const;
  // nullptr: active.
  const AdminEntry* find(const std::string& pool, const std::string& backend) const;
  // nullptr: the configuration's.
  const WeightEntry* find_weight(const std::string& pool, const std::string& backend) const;
  const std::map<Key, AdminEntry>& entries() const { return entries_; }

 private:
  using Entries = std::map<Key, AdminEntry>;
  using Weights = std::map<Key, WeightEntry>;
  std::optional<std::string> store(Entries entries, Weights weights);

  std::string path_;
  Entries entries_;
  Weights weights_;
};

}  // namespace portico
