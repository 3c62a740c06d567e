// SPDX-License-Identifier: Apache-2.0
#include "contract/publisher.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bitset>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "contract/layout_hash.h"
#include "contract/table_file.h"
#include "contract/validate.h"

namespace portico {

namespace {

// A version is a generation and 16 bits more. A thousand publications a second reach this in 4,000 years.
constexpr uint64_t kMaxGeneration = uint64_t{1} << 47;

// The content is small and seldom spoiled; the largest takes some 20 ms to read.
constexpr uint64_t kVerifyIntervalNs = 2'000'000'000;

// One word of the header. Aligned, so in practice whole at once; docs/contract.md says why it need not be.
void write_word(const WriterFile& file, uint64_t value, size_t offset) {
  write_at(file.fd(), &value, sizeof value, offset, file.path().string());
}

TableHeader new_header() {
  TableHeader header{};
  header.magic = kTableMagic;
  header.abi_version = kAbiVersion;
  header.header_size = sizeof(TableHeader);
  header.layout_hash = kLayoutHash;
  header.epoch = random_epoch();
  header.file_size = kBlocksStart;
  header.heartbeat_ns = monotonic_ns();
  header.control_pid = static_cast<uint64_t>(getpid());
  return header;
}

bool is_broken(uint32_t reason) {
  switch (RefusalReason{reason}) {
    case RefusalReason::bad_magic:
    case RefusalReason::truncated:
    case RefusalReason::bad_directory:
    case RefusalReason::bad_checksum:
    case RefusalReason::bad_reference:
      return true;
    default:
      return false;
  }
}

constexpr uint64_t kGrowth = 1 << 20;

// Bytes of the file: [begin, end).
struct Extent {
  uint64_t begin, end;
};

void add_extents(const Directory& directory, std::vector<Extent>& extents) {
  for (uint32_t i = 0; i < directory.block_count; ++i) {
    const BlockRef& ref = directory.blocks[i];
    if (ref.size > 0) extents.push_back({ref.offset, align_block(ref.offset + ref.size)});
  }
}

// Names the blocks, which have their places, in the directory.
void seal(Directory& directory, const BuiltBlocks& blocks) {
  for (size_t i = 0; i < blocks.all.size(); ++i) directory.blocks[i] = blocks.all[i]->ref;
  directory.checksum = checksum_of(directory);
}

// What lies between the extents, the endless rest behind the last one included.
std::vector<Extent> gaps_between(std::vector<Extent> extents) {
  std::ranges::sort(extents, {}, &Extent::begin);
  std::vector<Extent> gaps;
  uint64_t free_from = kBlocksStart;
  for (const Extent& extent : extents) {
    if (extent.begin > free_from) gaps.push_back({free_from, extent.begin});
    free_from = std::max(free_from, extent.end);
  }
  gaps.push_back({free_from, UINT64_MAX});
  return gaps;
}

// First fit: small tables stay at the front of the file.
uint64_t take(std::vector<Extent>& gaps, uint64_t size) {
  const uint64_t room = align_block(size);
  auto gap = std::ranges::find_if(gaps, [room](const Extent& g) { return g.end - g.begin >= room; });
  const uint64_t offset = gap->begin;  // the endless one fits anything
  gap->begin += room;
  return offset;
}

}  // namespace

Publisher::Publisher(const std::filesystem::path& run_dir, StepHook hook)
    : hook_(std::move(hook)),
      file_(run_dir, kTableFile, [this](int fd) { fill_new_file(fd, file_state_); }),
      feedback_(run_dir) {
  if (!file_.created() && !take_over()) {
    step("replace");
    file_.replace([this](int fd) { fill_new_file(fd, file_state_); });
  }
  step("pid");
  file_state_.header.control_pid = static_cast<uint64_t>(getpid());
  write_word(file_, file_state_.header.control_pid, offsetof(TableHeader, control_pid));
  write_heartbeat();
}

void Publisher::step(const char* name) const {
  if (hook_) hook_(name);
}

// A new file under its temporary name: nobody reads it yet.
void Publisher::fill_new_file(int fd, FileState& state) const {
  step("room");
  // Header and directories exist before they are used: a full tmpfs is an error here, not in the middle
  // later.
  if (const int error = posix_fallocate(fd, 0, kBlocksStart); error != 0)
    throw std::runtime_error(std::string("cannot make room for the table: ") + std::strerror(error) +
                             "; free some on the run directory's file system");
  state.header = new_header();
  for (uint64_t i = 0; i < kDirectorySlots; ++i) state.slots[i].valid = false;
  step("header");
  write_at(fd, &state.header, sizeof state.header, 0, "table");
  step("name");
}

// True if the file that was found is good to go on with. Trusts it no more than the dataplane would.
bool Publisher::take_over() {
  TableHeader header{};
  const uint64_t file_bytes = size_of(file_.fd());
  read_at(file_.fd(), &header, sizeof header, 0);
  if (check_header(header, file_bytes)) return false;
  Slot* const slots = file_state_.slots.get();
  uint64_t newest = 0;
  for (uint64_t i = 0; i < kDirectorySlots; ++i) {
    Directory& directory = slots[i].directory;
    slots[i].valid =
        read_at(file_.fd(), &directory, sizeof directory, directory_offset(i)) == sizeof directory &&
        directory.block_count <= kMaxBlocks && directory.checksum == checksum_of(directory) &&
        directory.epoch == header.epoch;
    if (slots[i].valid) newest = std::max(newest, directory.generation);
  }
  // Generations must go on from what a dataplane may have seen. Where nothing tells that number (`current` or
  // the directories are gone), only a new epoch can start over: in this one they would be refused for ever.
  if (newest > kMaxGeneration || header.current == 0 || newest < newest_seen(header.epoch)) return false;
  file_state_.header = header;
  last_generation_ = newest;
  Directory directory;
  BlockCache cache;
  auto snapshot = std::make_shared<Snapshot>();
  uint32_t blocks = 0;
  uint64_t bytes = 0;
  if (read_directory(file_.fd(), header, file_bytes, directory) ||
      read_snapshot(file_.fd(), directory, cache, *snapshot, blocks, bytes) || validate(*snapshot)) {
    last_generation_ = 0;
    return false;
  }
  current_ = recovered_ = snapshot;
  return true;
}

// The newest generation of the epoch that the dataplane, alive or not, has told of; 0: none.
uint64_t Publisher::newest_seen(uint64_t epoch) const {
  FeedbackHeader feedback;
  if (!feedback_.read_header(feedback).ok() || feedback.table_epoch != epoch) return 0;
  return std::max(feedback.adopted_generation, feedback.pending_generation);
}

std::string Publisher::heartbeat() {
  mend();
  write_heartbeat();
  return std::exchange(mended_, {});
}

void Publisher::write_heartbeat() {
  file_state_.header.heartbeat_ns = monotonic_ns();
  write_word(file_, file_state_.header.heartbeat_ns, offsetof(TableHeader, heartbeat_ns));
}

uint64_t Publisher::generation() const {
  return generation_in(file_state_.header.current);
}

// What others did to the file; empty: nothing that was seen.
std::string Publisher::damage() {
  if (!file_.is_in_place()) return "was removed or replaced";
  TableHeader found{};
  if (read_at(file_.fd(), &found, sizeof found, 0) != sizeof found ||
      size_of(file_.fd()) < file_state_.header.file_size)
    return "was cut off";
  found.heartbeat_ns = file_state_.header.heartbeat_ns;
  if (std::memcmp(&found, &file_state_.header, sizeof found) != 0) return "has a header that was overwritten";
  const uint64_t now = monotonic_ns();
  if (now < verify_at_ns_) return {};
  verify_at_ns_ = now + kVerifyIntervalNs;
  return damage_of_content();
}

std::string Publisher::damage_of_content() {
  if (!current_) return {};
  Directory directory;
  BlockCache nothing;
  Snapshot found;
  uint32_t blocks = 0;
  uint64_t bytes = 0;
  auto fault = read_directory(file_.fd(), file_state_.header, size_of(file_.fd()), directory);
  if (!fault) fault = read_snapshot(file_.fd(), directory, nothing, found, blocks, bytes);
  if (fault) return "was overwritten: " + fault->text;
  return is_refused_as_broken() ? "was found broken by the dataplane" : "";
}

// The dataplane does not look again at what it refused, even if the bytes are right again.
bool Publisher::is_refused_as_broken() const {
  FeedbackHeader feedback;
  const FeedbackResult result = feedback_.read_header(feedback);
  return result.ok() && result.writer_alive && feedback.refused_generation == generation() &&
         is_broken(feedback.refused_reason) && feedback.adopted_generation != generation();
}

void Publisher::mend() {
  const std::string found = damage();
  if (found.empty()) return;
  make_anew();
  mended_ = file_.path().string() + ": " + found + "; made anew" +
            (current_ ? ", with table " + std::to_string(generation()) : "");
}

// The current content in a new file, whole before it has its name: whoever ends in between leaves the old
// one.
void Publisher::make_anew() {
  FileState state;
  BuiltBlocks blocks;
  std::unique_ptr<Directory> directory;
  if (current_) blocks = copy_blocks(*current_);
  const uint64_t before = last_generation_;
  try {
    file_.restore([&](int fd) {
      fill_new_file(fd, state);
      if (!current_) return;
      directory = new_directory(blocks, state.header.epoch, current_->config_version);
      place(blocks, {});
      seal(*directory, blocks);
      write(fd, state, blocks, *directory, 0);
    });
  } catch (...) {
    last_generation_ = before;  // nobody could read that one: the file never had its name
    throw;
  }
  file_state_ = std::move(state);
  if (!current_) return;
  const bool is_recovered = recovered_ == current_;
  current_ = std::make_shared<const Snapshot>(assemble(*directory, blocks.all));
  if (is_recovered) recovered_ = current_;
}

// The directory slots whose blocks must stay: the current generation's, and those that a living dataplane
// copies from or has adopted. It announces before it copies, so what is announced here covers what it reads.
std::bitset<kDirectorySlots> Publisher::held_slots() const {
  std::bitset<kDirectorySlots> held;
  const auto hold = [&](uint64_t generation) {
    for (uint64_t i = 0; i < kDirectorySlots; ++i)
      if (file_state_.slots[i].valid && file_state_.slots[i].directory.generation == generation)
        held[i] = true;
  };
  if (current_) hold(current_->generation);
  FeedbackHeader feedback;
  const FeedbackResult result = feedback_.read_header(feedback);
  if (!result.writer_alive) return held;
  if (result.status == FeedbackStatus::busy) {
    // Alive, but it cannot be asked: keep all but the oldest, whose slot the next directory takes.
    for (uint64_t i = 0; i < kDirectorySlots; ++i) held[i] = file_state_.slots[i].valid;
    if (held.all()) held[oldest_slot({})] = false;
  } else if (result.ok() && feedback.table_epoch == epoch()) {
    hold(feedback.pending_generation);
    hold(feedback.adopted_generation);
  }
  return held;
}

// The slot that is free or has the oldest generation, of those not held.
uint64_t Publisher::oldest_slot(const std::bitset<kDirectorySlots>& held) const {
  uint64_t best = kDirectorySlots;
  const auto age = [this](uint64_t slot) {
    return file_state_.slots[slot].valid ? file_state_.slots[slot].directory.generation : 0;
  };
  for (uint64_t i = 0; i < kDirectorySlots; ++i) {
    const bool in_use = held[i] || (current_ && file_state_.slots[i].valid &&
                                    file_state_.slots[i].directory.generation == current_->generation);
    if (!in_use && (best == kDirectorySlots || age(i) < age(best))) best = i;
  }
  return best;
}

uint64_t Publisher::publish(const TableContent& content) {
  mend();
  BuiltBlocks blocks = build_blocks(content, current_.get());
  const auto directory = new_directory(blocks, epoch(), content.config_version);
  auto next = std::make_shared<const Snapshot>(assemble(*directory, blocks.all));
  if (auto complaint = validate(*next, current_.get())) throw std::invalid_argument(*complaint);

  const auto held = held_slots();
  place(blocks, held);
  seal(*directory, blocks);
  write(file_.fd(), file_state_, blocks, *directory, oldest_slot(held));
  current_ = std::move(next);
  recovered_.reset();
  return current_->generation;
}

// The next generation but for its blocks' places; gives the new blocks their versions.
std::unique_ptr<Directory> Publisher::new_directory(const BuiltBlocks& blocks, uint64_t epoch,
                                                    uint64_t config_version) const {
  auto directory = std::make_unique<Directory>();
  directory->generation = last_generation_ + 1;
  directory->epoch = epoch;
  directory->config_version = config_version;
  directory->published_realtime_ns = realtime_ns();
  directory->published_monotonic_ns = monotonic_ns();
  directory->block_count = static_cast<uint32_t>(blocks.all.size());
  // A version is the generation and the block's place in it: unique however often control restarts.
  for (const BuiltBlocks::New& fresh : blocks.fresh)
    fresh.block->ref.version = directory->generation << 16 | fresh.index;
  return directory;
}

// Finds room for the new blocks that no held directory names.
void Publisher::place(BuiltBlocks& blocks, const std::bitset<kDirectorySlots>& held) const {
  std::vector<Extent> kept;
  for (uint64_t i = 0; i < kDirectorySlots; ++i)
    if (held[i]) add_extents(file_state_.slots[i].directory, kept);
  std::vector<Extent> gaps = gaps_between(std::move(kept));
  for (BuiltBlocks::New& fresh : blocks.fresh) {
    BlockRef& ref = fresh.block->ref;
    ref.offset = ref.size > 0 ? take(gaps, ref.size) : kBlocksStart;
  }
}

// The order is the protocol: blocks, directory, and last the one word that names them. A write ends before
// the next begins, and the kernel keeps two writes to one file in their order for whoever reads it.
void Publisher::write(int fd, FileState& state, const BuiltBlocks& blocks, const Directory& directory,
                      uint64_t slot) {
  const std::string& path = file_.path().native();
  last_written_ = {};
  last_generation_ = directory.generation;  // never used again, even if writing fails half-way
  uint64_t end = kBlocksStart;
  for (const BuiltBlocks::New& fresh : blocks.fresh)
    end = std::max(end, align_block(fresh.block->ref.offset + fresh.block->ref.size));
  grow_to(fd, state, end);
  for (const BuiltBlocks::New& fresh : blocks.fresh) {
    step("block");
    const Block& block = *fresh.block;
    write_at(fd, block.bytes.data(), block.bytes.size(), block.ref.offset, path);
    ++last_written_.blocks;
    last_written_.bytes += block.bytes.size();
  }
  state.slots[slot].valid = false;
  step("directory");
  write_at(fd, &directory, sizeof directory, directory_offset(slot), path);
  state.slots[slot] = {true, directory};
  step("current");
  std::atomic_thread_fence(std::memory_order_release);
  const uint64_t current = current_word(directory.generation, slot);
  write_at(fd, &current, sizeof current, offsetof(TableHeader, current), path);
  state.header.current = current;
  step("published");
}

// Grows the file, in steps, so that its size says nothing of single blocks. Never shrinks it.
void Publisher::grow_to(int fd, FileState& state, uint64_t end) const {
  const std::string& path = file_.path().native();
  const uint64_t size = size_of(fd);
  if (end > size) {
    step("grow");
    const uint64_t wanted = (end + kGrowth - 1) / kGrowth * kGrowth;
    if (ftruncate(fd, static_cast<off_t>(wanted)) != 0)
      throw std::runtime_error(path + ": cannot grow: " + std::strerror(errno));
  }
  step("file_size");
  const uint64_t file_size = std::max(end, size_of(fd));
  write_at(fd, &file_size, sizeof file_size, offsetof(TableHeader, file_size), path);
  state.header.file_size = file_size;
}

}  // namespace portico
