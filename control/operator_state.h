// SPDX-License-Identifier: Apache-2.0
// What operators asked for: backends drained or held, by whom, when and why. Kept in a small JSON file that
// is replaced whole, so that it survives control's death at any moment.
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
  std::string who;       // "uid 1000 (alice)"
  int64_t since_ms = 0;  // CLOCK_REALTIME
  std::string why;       // the operator's words; may be empty
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

  // `active` for a backend of which nothing is known.
  Admin state(const std::string& pool, const std::string& backend) const;
  // nullptr: active.
  const AdminEntry* find(const std::string& pool, const std::string& backend) const;
  const std::map<Key, AdminEntry>& entries() const { return entries_; }

 private:
  std::string path_;
  std::map<Key, AdminEntry> entries_;
};

}  // namespace portico
