// SPDX-License-Identifier: Apache-2.0
// Flow tables that outlive the process. Their entries stand in files in memory, one per worker and kind; the
// file `flows` in the run directory says what they mean: the layout, the shape, the secret of the index's
// hash, the RSS keys, the clock, and which backend had which id. All of that is checked before an entry is
// looked at; the entries themselves are judged one by one (take_over.h). Files of another build or of before
// a reboot are not taken, and note() says so. docs/architecture.md has the order of writes.
#pragma once

#include <bitset>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "contract/flow_hash.h"
#include "contract/limits.h"
#include "contract/run_dir.h"
#include "dataplane/clock.h"
#include "dataplane/memory.h"
#include "dataplane/reply_spread.h"

namespace portico {

class Table;

enum class FlowKind : uint32_t { dsr_v4 = 0, dsr_v6 = 1, nat_v4 = 2, nat_v6 = 3 };
inline constexpr uint32_t kFlowKinds = 4;

inline constexpr const char* kFlowsFile = "flows";

// What the store is for. Another `workers`, `flows_per_worker` or `place` than before: the flows move.
struct FlowStoreRequest {
  std::filesystem::path run_dir;
  std::filesystem::path place;  // of choose_flow_place()
  uint32_t workers = 1;
  uint32_t flows_per_worker = 1;
  uint64_t now_ns = 0;  // CLOCK_MONOTONIC
};

// The contents of the file `flows`. Fixed-width fields in host byte order.
struct FlowsState {
  static constexpr uint64_t kMagic = 0x73776f6c66747270;  // "prtflows"
  static constexpr uint32_t kVersion = 2;

  uint64_t magic;
  uint32_t version;
  uint32_t size;         // sizeof(FlowsState)
  uint64_t flow_layout;  // kFlowLayout
  char boot_id[40];      // /proc/sys/kernel/random/boot_id
  uint64_t id;           // random; in the names of the files, too
  uint32_t workers;
  uint32_t flows_per_worker;
  uint64_t flow_key[2];  // secret of the index's hash
  RssKey rss_key;        // for ports that take one: NAT flows' ports were chosen by it
  char place[kTextSize];
  uint64_t checksum;  // XXH3-64 of all above
  // Below: mutable, main thread.
  uint64_t rss_digest;  // of the RSS keys and redirection tables of all ports; 0: not known
  uint64_t alive_ns;    // CLOCK_MONOTONIC of the last sign of life
  uint64_t tick;        // of the entries' clock, at that time
  // By family and id: digest of the address; 0: none. Written before any flow can have the id.
  uint64_t backends[2][kMaxBackends];
};
static_assert(std::is_trivially_copyable_v<FlowsState>);
static_assert(offsetof(FlowsState, checksum) == 96 + kRssKeyBytes + kTextSize);

// Not thread-safe: the main thread's, except where it says so.
class FlowStore {
 public:
  // Looks at what is there and locks it. Throws std::runtime_error if another process has it, or on system
  // errors: then flows have to do without.
  explicit FlowStore(const FlowStoreRequest& request);
  ~FlowStore();
  FlowStore(const FlowStore&) = delete;
  FlowStore& operator=(const FlowStore&) = delete;

  enum class Found {
    nothing,   // or nothing that can be used: see note()
    in_place,  // the same shape: map() gives the entries of before
    elsewhere  // another shape, or NICs spread otherwise: the entries have to be moved, from earlier()
  };
  Found found() const { return found_; }
  // Why it starts empty although something is there; empty: no reason to tell.
  const std::string& note() const { return note_; }

  // Secret of the index's hash: that of before, or a new one.
  HashKey flow_key() const { return {{state_->flow_key[0], state_->flow_key[1]}}; }
  // That for the ports' RSS: as well.
  const RssKey& rss_key() const { return state_->rss_key; }
  // What to add to a clock's tick of `tsc` so that entries' ages go on; both are of the same moment.
  uint32_t tick_offset(const Clock& clock, uint64_t tsc, uint64_t now_ns) const;
  // CLOCK_MONOTONIC of the process before's last sign of life; 0: there is nothing of it.
  uint64_t earlier_alive_ns() const { return found_ == Found::nothing ? 0 : earlier_.alive_ns; }
  // Bit i: flows of before with backend i may be meant for the table's backend i, for a family.
  std::bitset<kMaxBackends> same_backends(const Table& table, Family family) const;

  // Memory for one worker's entries of a kind. The entries of before stand in it if found() is in_place,
  // else it is zero. Throws std::runtime_error that says what to do if memory is missing.
  struct Mapping {
    Region region;
    size_t offset = 0;         // of the entries
    bool has_content = false;  // something may stand in it
  };
  Mapping map(FlowKind kind, uint32_t worker, size_t bytes, int numa_node);

  // With found() elsewhere: the entries of before, by worker. Valid until the next map() or settle().
  struct EarlierEntries {
    uint32_t worker;
    std::span<const std::byte> entries;
  };
  std::vector<EarlierEntries> earlier(FlowKind kind) const;
  uint32_t earlier_workers() const { return earlier_.workers; }

  // Before workers get a table: which backends its ids mean.
  void note_backends(const Table& table);
  // Every few milliseconds: a sign of life, and what the entries' clock shows. Mends a removed file. Never
  // throws.
  void note_alive(uint64_t now_ns, uint32_t tick);
  // Once all flows of before are taken up: from now on the new files count, and the others go.
  void settle();

  // What the ports' RSS keys and queues come to, in one number. Before any map(): with another one than
  // before NAT ports have other owners, and clients' packets reach other workers.
  void note_rss(uint64_t digest);

 private:
  struct Earlier {
    FlowKind kind;
    uint32_t worker;
    Region region;
    size_t bytes;  // of entries
  };

  void look();
  void open_earlier();
  Region make_region(int fd, size_t bytes, int numa_node);
  void remove_earlier() const;
  void fill(int fd) const;
  std::filesystem::path file_path() const { return request_.run_dir / kFlowsFile; }
  std::string objection_to(const FlowsState& before) const;
  void start_new();
  void move_from_earlier();
  std::filesystem::path file_of(const std::filesystem::path& place, uint64_t id, FlowKind kind,
                                uint32_t worker) const;
  void remove_others() const;
  void link_place() const;
  void write_mutable(const void* field, size_t size);

  const FlowStoreRequest request_;
  FileHandle place_lock_;
  std::unique_ptr<FlowsState> state_;
  FlowsState earlier_{};
  std::unique_ptr<WriterFile> file_;
  Found found_ = Found::nothing;
  bool is_settled_ = false;  // the file is ours, not that of the process before
  bool is_copied_ = false;
  std::vector<Earlier> earlier_files_;
  std::set<std::string> mapped_;  // file names
  uint64_t retry_ns_ = 0;
  std::string note_;
};

}  // namespace portico
