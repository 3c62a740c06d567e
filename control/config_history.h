// SPDX-License-Identifier: Apache-2.0
// Every configuration that was applied, the last kKeptConfigs of them: its text in a file of its own, and an
// index. Each file is replaced whole, the text before the index that names it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace portico {

inline constexpr size_t kKeptConfigs = 50;

struct AppliedConfig {
  uint64_t version = 0;    // counts applied configurations
  int64_t applied_ms = 0;  // CLOCK_REALTIME
  std::string who;         // "root (uid 0)", "SIGHUP" or "start"
  std::string note;        // "rollback to 3"; may be empty
  std::string digest;      // SHA-256 of the text, hexadecimal
  uint64_t bytes = 0;      // of the text
};

// SHA-256 as 64 hexadecimal digits.
std::string digest_of(const std::string& text);

class ConfigHistory {
 public:
  // `directory`: made with the first entry.
  explicit ConfigHistory(std::string directory) : directory_(std::move(directory)) {}

  // Reads the index. Returns an error text if it is there and makes no sense; then the history starts anew.
  std::optional<std::string> load();
  // Keeps a configuration; an entry of the same version is replaced. `digest` and `bytes` are filled in.
  // Returns an error text if it could not be stored; then nothing is changed.
  std::optional<std::string> add(AppliedConfig entry, const std::string& text);

  // Ascending by version.
  const std::vector<AppliedConfig>& entries() const { return entries_; }
  const AppliedConfig* find(uint64_t version) const;
  // The text of an entry; nullopt if there is none or it is not what was stored.
  std::optional<std::string> text(uint64_t version) const;

 private:
  std::string path_of(uint64_t version) const;

  std::string directory_;
  std::vector<AppliedConfig> entries_;
};

}  // namespace portico
