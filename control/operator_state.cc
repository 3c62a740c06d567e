// SPDX-License-Identifier: Apache-2.0
#include "control/operator_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "contract/limits.h"
#include "control/printable.h"

namespace portico {
namespace {

constexpr std::streamoff kMaxFileSize = 16 << 20;

std::string failed(const std::string& what, const std::string& path) {
  return "cannot " + what + " " + path + ": " + std::strerror(errno);
}

// The new file's content is on disk before its name is, so that a crash never leaves an empty file.
std::optional<std::string> write_and_sync(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
  if (fd < 0) return failed("create", path);
  std::optional<std::string> error;
  size_t done = 0;
  while (done < text.size() && !error) {
    const ssize_t n = write(fd, text.data() + done, text.size() - done);
    if (n > 0) done += static_cast<size_t>(n);
    if (n < 0 && errno != EINTR) error = failed("write", path);
  }
  if (!error && fsync(fd) != 0) error = failed("store", path);
  close(fd);
  return error;
}

std::optional<Admin> parse_admin(const std::string& text) {
  for (const Admin admin : {Admin::active, Admin::drained, Admin::held})
    if (text == to_string(admin)) return admin;
  return std::nullopt;
}

}  // namespace

const char* to_string(Admin admin) {
  switch (admin) {
    case Admin::active:
      return "active";
    case Admin::drained:
      return "drained";
    case Admin::held:
      return "held";
  }
  return "unknown";
}

std::optional<std::string> write_atomically(const std::string& path, const std::string& text) {
  const std::string temporary = path + ".new";
  if (auto error = write_and_sync(temporary, text)) return error;
  if (rename(temporary.c_str(), path.c_str()) != 0) return failed("replace", path);
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return failed("open", folder);
  const bool stored = fsync(fd) == 0 || errno == EINVAL;  // EINVAL: a file system without folders to sync
  const std::string error = stored ? "" : failed("store", folder);
  close(fd);
  return stored ? std::nullopt : std::optional(error);
}

std::optional<std::string> read_whole(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in || in.tellg() > kMaxFileSize) return std::nullopt;
  in.seekg(0);
  std::ostringstream text;
  text << in.rdbuf();
  return in ? std::optional(text.str()) : std::nullopt;
}

std::optional<std::string> OperatorState::load() {
  entries_.clear();
  weights_.clear();
  if (access(path_.c_str(), F_OK) != 0) return std::nullopt;
  const auto text = read_whole(path_);
  if (!text) return "cannot read " + path_;
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const std::string nonsense =
      path_ + " is not a list of operator states; drained and held backends are active again";
  if (!json.is_array()) return nonsense;
  Entries entries;
  Weights weights;
  try {
    for (const auto& item : json) {
      const Key key{item.at("pool").get<std::string>(), item.at("backend").get<std::string>()};
      const std::string who = to_printable(item.value("who", "")), why = to_printable(item.value("why", ""));
      if (item.contains("weight")) {
        weights[key] = {.weight = std::min(item.at("weight").get<uint32_t>(), kMaxWeight),
                        .who = who,
                        .since_ms = item.value("since_ms", int64_t{0}),
                        .why = why};
        continue;
      }
      const auto admin = parse_admin(item.at("state").get<std::string>());
      if (!admin || *admin == Admin::active) return nonsense;
      entries[key] = {.state = *admin,
                      .who = who,
                      .since_ms = item.value("since_ms", int64_t{0}),
                      .why = why,
                      .deadline_ms = item.value("deadline_ms", int64_t{0})};
    }
  } catch (const nlohmann::json::exception&) {
    return nonsense;
  }
  entries_ = std::move(entries);
  weights_ = std::move(weights);
  return std::nullopt;
}

std::optional<std::string> OperatorState::set(const Key& key, AdminEntry entry) {
  auto entries = entries_;
  if (entry.state == Admin::active)
    entries.erase(key);
  else
    entries[key] = std::move(entry);
  return store(std::move(entries), weights_);
}

std::optional<std::string> OperatorState::set_weight(const Key& key, std::optional<WeightEntry> entry) {
  auto weights = weights_;
  if (entry)
    weights[key] = std::move(*entry);
  else
    weights.erase(key);
  return store(entries_, std::move(weights));
}

std::optional<std::string> OperatorState::store(Entries entries, Weights weights) {
  nlohmann::json json = nlohmann::json::array();
  for (const auto& [name, e] : entries)
    json.push_back({{"pool", name.first},
                    {"backend", name.second},
                    {"state", to_string(e.state)},
                    {"who", e.who},
                    {"since_ms", e.since_ms},
                    {"why", e.why},
                    {"deadline_ms", e.deadline_ms}});
  for (const auto& [name, w] : weights)
    json.push_back({{"pool", name.first},
                    {"backend", name.second},
                    {"weight", w.weight},
                    {"who", w.who},
                    {"since_ms", w.since_ms},
                    {"why", w.why}});
  const auto dump = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  if (auto error = write_atomically(path_, dump + "\n")) return error;
  entries_ = std::move(entries);
  weights_ = std::move(weights);
  return std::nullopt;
}

const WeightEntry* OperatorState::find_weight(const std::string& pool, const std::string& backend) const {
  const auto it = weights_.find({pool, backend});
  return it == weights_.end() ? nullptr : &it->second;
}

Admin OperatorState::state(const std::string& pool, const std::string& backend) const {
  const AdminEntry* entry = find(pool, backend);
  return entry ? entry->state : Admin::active;
}

const AdminEntry* OperatorState::find(const std::string& pool, const std::string& backend) const {
  const auto it = entries_.find({pool, backend});
  return it == entries_.end() ? nullptr : &it->second;
}

}  // namespace portico
