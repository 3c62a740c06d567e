// SPDX-License-Identifier: Apache-2.0
#include "control/config_history.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "control/operator_state.h"
#include "control/printable.h"

namespace portico {
namespace {

using nlohmann::json;

json to_json(const AppliedConfig& entry) {
  return {{"version", entry.version}, {"applied_ms", entry.applied_ms}, {"who", entry.who},
          {"note", entry.note},       {"digest", entry.digest},         {"bytes", entry.bytes}};
}

AppliedConfig from_json(const json& item) {
  return {.version = item.at("version").get<uint64_t>(),
          .applied_ms = item.at("applied_ms").get<int64_t>(),
          .who = to_printable(item.at("who").get<std::string>()),
          .note = to_printable(item.at("note").get<std::string>()),
          .digest = to_printable(item.at("digest").get<std::string>()),
          .bytes = item.at("bytes").get<uint64_t>()};
}

bool is_before(const AppliedConfig& entry, uint64_t version) {
  return entry.version < version;
}

}  // namespace

std::string digest_of(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), bytes.data(), &size, EVP_sha256(), nullptr);
  std::string digest;
  for (unsigned i = 0; i < size; ++i) digest += fmt::format("{:02x}", bytes[i]);
  return digest;
}

std::string ConfigHistory::path_of(uint64_t version) const {
  return fmt::format("{}/{}.yaml", directory_, version);
}

std::optional<std::string> ConfigHistory::load() {
  entries_.clear();
  const std::string index = directory_ + "/index.json";
  if (access(index.c_str(), F_OK) != 0) return std::nullopt;
  const auto text = read_whole(index);
  const json list = json::parse(text.value_or(""), nullptr, /*allow_exceptions=*/false);
  std::vector<AppliedConfig> entries;
  try {
    if (!list.is_array()) throw json::type_error::create(302, "no list", &list);
    for (const json& item : list) entries.push_back(from_json(item));
  } catch (const json::exception&) {
    return index + " is not a list of applied configurations; the history starts anew";
  }
  std::ranges::sort(entries, {}, &AppliedConfig::version);
  entries_ = std::move(entries);
  return std::nullopt;
}

std::optional<std::string> ConfigHistory::add(AppliedConfig entry, const std::string& text) {
  if (mkdir(directory_.c_str(), 0750) != 0 && errno != EEXIST)
    return fmt::format("cannot make {}: {}", directory_, std::strerror(errno));
  entry.digest = digest_of(text);
  entry.bytes = text.size();
  const uint64_t version = entry.version;
  auto entries = entries_;
  std::erase_if(entries, [&](const AppliedConfig& e) { return e.version == version; });
  entries.insert(std::lower_bound(entries.begin(), entries.end(), version, is_before), std::move(entry));
  std::vector<uint64_t> forgotten;
  while (entries.size() > kKeptConfigs) {
    forgotten.push_back(entries.front().version);
    entries.erase(entries.begin());
  }
  json list = json::array();
  for (const AppliedConfig& e : entries) list.push_back(to_json(e));
  if (auto error = write_atomically(path_of(version), text)) return error;
  const auto dump = list.dump(1, ' ', false, json::error_handler_t::replace);
  if (auto error = write_atomically(directory_ + "/index.json", dump + "\n")) return error;
  entries_ = std::move(entries);
  for (const uint64_t old : forgotten) unlink(path_of(old).c_str());
  return std::nullopt;
}

const AppliedConfig* ConfigHistory::find(uint64_t version) const {
  const auto found = std::lower_bound(entries_.begin(), entries_.end(), version, is_before);
  return found == entries_.end() || found->version != version ? nullptr : &*found;
}

std::optional<std::string> ConfigHistory::text(uint64_t version) const {
  const AppliedConfig* const entry = find(version);
  if (entry == nullptr) return std::nullopt;
  auto text = read_whole(path_of(version));
  if (!text || digest_of(*text) != entry->digest) return std::nullopt;
  return text;
}

}  // namespace portico
