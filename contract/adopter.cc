// SPDX-License-Identifier: Apache-2.0
#include "contract/adopter.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "contract/table_file.h"
#include "contract/validate.h"

namespace portico {

namespace {

// Control publishes seldom; what it publishes meanwhile is met once or twice. Blocks that are already copied
// are kept from one attempt to the next, so that each costs less than the one before.
constexpr uint32_t kMaxAttempts = 16;

// Opens without waiting for whoever put a FIFO there.
FileHandle open_table(const std::filesystem::path& path) {
  return FileHandle(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
}

// As much of the header as the file has, the rest zero.
TableHeader read_header(int fd) {
  TableHeader header{};
  read_at(fd, &header, sizeof header, 0);
  // What `current` names was written before it: look at it only after.
  std::atomic_thread_fence(std::memory_order_acquire);
  return header;
}

bool is_same_table(const TableHeader& a, const TableHeader& b) {
  return a.magic == b.magic && a.abi_version == b.abi_version && a.header_size == b.header_size &&
         a.layout_hash == b.layout_hash && a.epoch == b.epoch;
}

// True if all that decides about adoption is alike; heartbeats are no part of it.
bool says_the_same(const TableHeader& a, const TableHeader& b) {
  return is_same_table(a, b) && a.current == b.current;
}

}  // namespace

Adopter::Adopter(const std::filesystem::path& run_dir, SetPending set_pending)
    : path_(run_dir / kTableFile), set_pending_(std::move(set_pending)) {
  if (!set_pending_) set_pending_ = [](uint64_t, uint64_t) {};
}

AdoptResult Adopter::poll() noexcept {
  AdoptResult result;
  try {
    if (reopen_if_replaced(result)) result = look();
  } catch (const std::bad_alloc&) {
    result = AdoptResult{};
    result.kind = AdoptResult::Kind::refused;
    result.generation = generation_in(seen_.current);
    result.epoch = seen_.epoch;
    result.reason = RefusalReason::no_memory;
    result.text = "no memory";  // short enough for std::string to need none either
  }
  return result;
}

// False if there is nothing to read; `result` then says so.
bool Adopter::reopen_if_replaced(AdoptResult& result) {
  struct stat status;
  if (lstat(path_.c_str(), &status) != 0) {
    result.kind = AdoptResult::Kind::no_table;
    file_.close();
    return false;
  }
  if (file_.is_open() && status.st_ino == inode_ && status.st_dev == device_) return true;
  file_ = open_table(path_);
  const int error = errno;
  const bool is_new = !handled_ || status.st_ino != inode_ || status.st_dev != device_;
  handled_ = false;
  inode_ = status.st_ino;
  device_ = status.st_dev;
  if (file_.is_open() && S_ISREG(status.st_mode)) return true;
  file_.close();
  handled_ = true;  // complain once, not every millisecond
  if (!is_new) return false;
  result.kind = AdoptResult::Kind::refused;
  result.reason = RefusalReason::bad_magic;
  result.text = S_ISREG(status.st_mode)
                    ? std::string("table: cannot open: ") + std::strerror(error)
                    : "table: not a regular file; remove it, and portico-control makes it anew";
  return false;
}

AdoptResult Adopter::look() {
  const TableHeader header = read_header(file_.fd());
  if (handled_ && says_the_same(header, seen_)) return {};
  seen_ = header;
  handled_ = true;  // however this ends, even for want of memory
  if (auto fault = check_header(header, size_of(file_.fd()))) return refuse(header, *fault);
  if (header.current == 0) {
    handled_ = false;
    AdoptResult nothing;
    nothing.kind = AdoptResult::Kind::no_table;
    return nothing;
  }
  struct Announcement {  // withdrawn on every way out
    const SetPending& set_pending;
    uint64_t epoch;
    ~Announcement() { set_pending(epoch, 0); }
  } const announcement{set_pending_, header.epoch};
  return try_generations(header);
}

// One attempt per generation that control moves on to meanwhile.
AdoptResult Adopter::try_generations(TableHeader header) {
  const bool same_epoch = snapshot_ && snapshot_->epoch == header.epoch;
  BlockCache cache = same_epoch ? cache_of(*snapshot_) : BlockCache{};
  AdoptResult result;
  for (result.attempts = 1; result.attempts <= kMaxAttempts; ++result.attempts) {
    auto snapshot = std::make_shared<Snapshot>();
    const MaybeFault fault = copy(header, cache, *snapshot, result);
    const TableHeader now = read_header(file_.fd());
    const bool moved_on = !says_the_same(now, header);
    if (fault && !moved_on) return refuse(header, *fault);
    // On the last attempt a copy that is whole and sound is taken although a newer one exists: a control that
    // never stops publishing must not starve us.
    if (!fault && (!moved_on || result.attempts == kMaxAttempts))
      return adopt(header, std::move(snapshot), std::move(result));
    if (!is_same_table(now, header) || now.current == 0) break;
    header = now;
  }
  handled_ = false;  // the next poll starts from the beginning
  return refuse(header, {RefusalReason::moved_on, "table: republished again and again while it was read"});
}

MaybeFault Adopter::copy(const TableHeader& header, BlockCache& cache, Snapshot& snapshot,
                         AdoptResult& result) {
  if (snapshot_ && snapshot_->epoch == header.epoch && generation_in(header.current) <= snapshot_->generation)
    return TableFault{RefusalReason::bad_directory, "header: current: the generation went backwards"};
  // Announced first, rechecked then: if `current` is still the same, control sees the announcement before it
  // reuses anything that this generation names (a hazard pointer).
  set_pending_(header.epoch, generation_in(header.current));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!says_the_same(read_header(file_.fd()), header))
    return TableFault{RefusalReason::moved_on, "table: republished while it was read"};
  Directory directory;
  if (auto fault = read_directory(file_.fd(), header, size_of(file_.fd()), directory)) return fault;
  return read_snapshot(file_.fd(), directory, cache, snapshot, result.blocks_copied, result.bytes_copied);
}

AdoptResult Adopter::adopt(const TableHeader& header, std::shared_ptr<const Snapshot> snapshot,
                           AdoptResult result) {
  if (auto complaint = validate(*snapshot, snapshot_.get()))
    return refuse(header, {RefusalReason::bad_record, std::move(*complaint)});
  seen_ = header;
  snapshot_ = std::move(snapshot);
  result.kind = AdoptResult::Kind::adopted;
  result.snapshot = snapshot_;
  result.generation = snapshot_->generation;
  result.epoch = snapshot_->epoch;
  return result;
}

AdoptResult Adopter::refuse(const TableHeader& header, TableFault fault) {
  seen_ = header;
  AdoptResult result;
  result.kind = AdoptResult::Kind::refused;
  result.generation = generation_in(header.current);
  result.epoch = header.epoch;
  result.reason = fault.reason;
  result.text = std::move(fault.text);
  return result;
}

TableStatus read_table_status(const std::filesystem::path& run_dir) {
  TableStatus status;
  status.writer = table_writer(run_dir);
  const FileHandle file = open_table(run_dir / kTableFile);
  if (!file.is_open()) {
    status.text = (run_dir / kTableFile).string() + ": " +
                  (errno == ENOENT ? "there is no table; start portico-control" : std::strerror(errno));
    return status;
  }
  const TableHeader header = read_header(file.fd());
  if (auto fault = check_header(header, size_of(file.fd()))) {
    status.text = (run_dir / kTableFile).string() + ": " + fault->text;
    return status;
  }
  status.readable = true;
  status.epoch = header.epoch;
  status.generation = generation_in(header.current);
  status.heartbeat_ns = header.heartbeat_ns;
  return status;
}

}  // namespace portico
