// SPDX-License-Identifier: Apache-2.0
// Ids of services, pools and backends: stable by name across reloads and restarts of control, and used again
// only when the dataplane holds no flow under them.
//
// An id is live (the configuration names it), retired (it was removed, its record stays in the table until
// the dataplane reports no flow with it) or free.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "contract/layout.h"
#include "contract/snapshot.h"
#include "control/config.h"

namespace portico {

// What the dataplane says of the ids it may still use.
struct FlowReport {
  bool dataplane_alive = false;                // false: no process holds flows, every retired id is free
  uint64_t adopted_generation = 0;             // of our table's epoch; else 0
  uint64_t heartbeat_ns = 0;                   // CLOCK_MONOTONIC of the report
  std::function<uint64_t(uint16_t id)> flows;  // by id
};

// One id space: [0, limit). Keys are unique among live ids; a retired id keeps its key, so that what comes
// back soon comes back under its old id.
class IdSpace {
 public:
  struct Entry {
    std::string key;
    bool retired = false;
    uint64_t retired_generation = 0;  // first generation without it; 0: not published yet
    uint64_t quiet_since_ns = 0;      // heartbeat of the first report of no flow after that; 0: none
  };

  explicit IdSpace(uint32_t limit) : limit_(limit) {}

  // Takes over an id that a recovered table names. It is live until retire_all_but says otherwise.
  void recover(uint16_t id, std::string key);
  // The id of a key: its own, live or retired (then live again), or a free one. nullopt: none is free.
  std::optional<uint16_t> assign(const std::string& key);
  // Gives a live id another key, if `from` is live and `to` is unknown.
  void rename(const std::string& from, const std::string& to);
  // The same with the first key that starts and ends like this.
  void rename_like(const std::string& start, const std::string& end, const std::string& to);
  // Takes an id out of use under which a dataplane may have flows whose key nobody knows. It is retired: free
  // again when the dataplane reports no flow. One that is known already stays what it is.
  void take_out(uint16_t id);
  // Retires every live id whose key is not in `keys`.
  void retire_all_but(const std::vector<std::string>& keys);
  // Notes that `generation` is the first one published since ids were retired.
  void published(uint64_t generation);
  // Frees retired ids under which no flow can exist any more. Returns those freed.
  std::vector<uint16_t> release(const FlowReport& report);
  // Frees a retired id at once.
  void free(uint16_t id);

  // The id of a live key.
  std::optional<uint16_t> find(std::string_view key) const;
  const std::map<uint16_t, Entry>& entries() const { return entries_; }
  std::vector<uint16_t> retired() const;

 private:
  uint32_t limit_;
  uint32_t cursor_ = 0;  // where the search for a free id starts: the longest unused ones come first
  std::map<uint16_t, Entry> entries_;
  std::map<std::string, uint16_t, std::less<>> by_key_;  // of all entries, live and retired
};

// The three spaces and the records under which retired ids stay published.
class Ids {
 public:
  // Takes over what the running table names. Removed names are found out by the next sync().
  void recover(const Snapshot& snapshot);
  // The ids as text, for the day the table is lost; and back. What is not such text is left out.
  std::string to_text() const;
  void recover_text(const std::string& text);
  // Gives to nobody the ids that a living dataplane has or had flows under, and that are not known here.
  void take_out(const std::function<bool(uint16_t)>& service_used,
                const std::function<bool(uint16_t)>& backend_used);
  // Makes the ids follow a configuration. Returns an error text if it needs more ids than are free; then
  // nothing is changed.
  std::optional<std::string> sync(const Config& config);
  // Remembers the records that were published, for the day their ids are retired.
  void published(uint64_t generation, const TableContent& content);
  // Frees ids by the dataplane's report. True if any was freed, so that the table changes.
  bool release(const FlowReport& services, const FlowReport& backends);

  // Ids of the current configuration. Only for names that it has.
  uint16_t service(const ServiceConfig& service) const;
  uint16_t pool(const std::string& name) const;
  uint16_t backend(const std::string& pool, const BackendConfig& backend) const;

  // Records of retired ids, to be published without listeners or slots until their flows are gone.
  std::vector<ServiceRecord> retired_services() const;
  std::vector<BackendRecord> retired_backends() const;
  // Pools that are gone from the configuration and still hold retired ids: id and name.
  std::map<uint16_t, std::string> retired_pools() const;

 private:
  IdSpace services_{kMaxServices}, pools_{kMaxPools}, backends_{kMaxBackends};
  std::map<uint16_t, ServiceRecord> service_records_;
  std::map<uint16_t, BackendRecord> backend_records_;
};

// A record's name as text: at most kNameSize - 1 bytes, up to the first NUL.
std::string_view name_of(const char (&name)[kNameSize]);

// Writes text into a NUL-terminated, zero-filled field, cut to fit.
template <size_t N>
void set_text(char (&field)[N], std::string_view text) {
  const size_t n = text.size() < N - 1 ? text.size() : N - 1;
  for (size_t i = 0; i < N; ++i) field[i] = i < n ? text[i] : '\0';
}

}  // namespace portico
