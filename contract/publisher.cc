// SPDX-License-Identifier: Apache-2.0
#include "contract/publisher.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

constexpr size_t kHeaderPage = 4096;
static_assert(sizeof(TableHeader) <= kHeaderPage);

std::atomic_ref<uint64_t> atomic_field(uint64_t& field) {
  return std::atomic_ref<uint64_t>(field);
}

uint64_t size_of(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
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
      file_(run_dir, kTableFile, [this](int fd) { fill_new_file(fd); }),
      feedback_(run_dir),
      slots_(std::make_unique<Slot[]>(kDirectorySlots)) {
  if (!file_.created() && !take_over()) {
    step("replace");
    file_.replace([this](int fd) { fill_new_file(fd); });
  }
  map_header();
  step("pid");
  atomic_field(header_->control_pid).store(static_cast<uint64_t>(getpid()), std::memory_order_relaxed);
  heartbeat();
}

Publisher::~Publisher() {
  if (header_) munmap(header_, kHeaderPage);
}

void Publisher::step(const char* name) const {
  if (hook_) hook_(name);
}

// A new file under its temporary name: nobody reads it yet.
void Publisher::fill_new_file(int fd) const {
  step("room");
  // Header and directories exist before they are used: a full tmpfs is an error here, not a SIGBUS later.
  if (const int error = posix_fallocate(fd, 0, kBlocksStart); error != 0)
    throw std::runtime_error(std::string("cannot make room for the table: ") + std::strerror(error) +
                             "; free some on the run directory's file system");
  TableHeader header{};
  header.magic = kTableMagic;
  header.abi_version = kAbiVersion;
  header.header_size = sizeof(TableHeader);
  header.layout_hash = kLayoutHash;
  header.epoch = random_epoch();
  header.file_size = kBlocksStart;
  header.heartbeat_ns = monotonic_ns();
  header.control_pid = static_cast<uint64_t>(getpid());
  step("header");
  write_at(fd, &header, sizeof header, 0, "table");
  step("name");
}

void Publisher::map_header() {
  void* mapped = mmap(nullptr, kHeaderPage, PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd(), 0);
  if (mapped == MAP_FAILED)
    throw std::runtime_error(file_.path().string() + ": cannot map: " + std::strerror(errno));
  header_ = static_cast<TableHeader*>(mapped);
}

// True if the file that was found is good to go on with. Trusts it no more than the dataplane would.
bool Publisher::take_over() {
  TableHeader header{};
  const uint64_t file_bytes = size_of(file_.fd());
  read_at(file_.fd(), &header, sizeof header, 0);
  if (check_header(header, file_bytes)) return false;
  uint64_t newest = 0;
  for (uint64_t i = 0; i < kDirectorySlots; ++i) {
    Directory& directory = slots_[i].directory;
    slots_[i].valid =
        read_at(file_.fd(), &directory, sizeof directory, directory_offset(i)) == sizeof directory &&
        directory.block_count <= kMaxBlocks && directory.checksum == checksum_of(directory) &&
        directory.epoch == header.epoch;
    if (slots_[i].valid) newest = std::max(newest, directory.generation);
  }
  if (newest > kMaxGeneration) return false;
  last_generation_ = newest;
  if (header.current == 0) return true;
  Directory directory;
  BlockCache cache;
  auto snapshot = std::make_shared<Snapshot>();
  uint32_t blocks = 0;
  uint64_t bytes = 0;
  if (read_directory(file_.fd(), header, file_bytes, directory) ||
      read_snapshot(file_.fd(), directory, cache, *snapshot, blocks, bytes) || validate(*snapshot)) {
    for (uint64_t i = 0; i < kDirectorySlots; ++i) slots_[i].valid = false;
    last_generation_ = 0;
    return false;
  }
  current_ = recovered_ = snapshot;
  return true;
}

void Publisher::heartbeat() {
  atomic_field(header_->heartbeat_ns).store(monotonic_ns(), std::memory_order_relaxed);
}

uint64_t Publisher::epoch() const {
  return header_->epoch;
}

uint64_t Publisher::generation() const {
  return generation_in(header_->current);
}

// The directory slots whose blocks must stay: the current generation's, and those that a living dataplane
// copies from or has adopted. It announces before it copies, so what is announced here covers what it reads.
std::bitset<kDirectorySlots> Publisher::held_slots() const {
  std::bitset<kDirectorySlots> held;
  const auto hold = [&](uint64_t generation) {
    for (uint64_t i = 0; i < kDirectorySlots; ++i)
      if (slots_[i].valid && slots_[i].directory.generation == generation) held[i] = true;
  };
  if (current_) hold(current_->generation);
  FeedbackHeader feedback;
  const FeedbackResult result = feedback_.read_header(feedback);
  if (!result.writer_alive) return held;
  if (result.status == FeedbackStatus::busy) {
    // Alive, but it cannot be asked: keep all but the oldest, whose slot the next directory takes.
    for (uint64_t i = 0; i < kDirectorySlots; ++i) held[i] = slots_[i].valid;
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
    return slots_[slot].valid ? slots_[slot].directory.generation : 0;
  };
  for (uint64_t i = 0; i < kDirectorySlots; ++i) {
    const bool in_use =
        held[i] || (current_ && slots_[i].valid && slots_[i].directory.generation == current_->generation);
    if (!in_use && (best == kDirectorySlots || age(i) < age(best))) best = i;
  }
  return best;
}

uint64_t Publisher::publish(const TableContent& content) {
  BuiltBlocks blocks = build_blocks(content, current_.get());
  auto directory = std::make_unique<Directory>();
  directory->generation = last_generation_ + 1;
  directory->epoch = epoch();
  directory->config_version = content.config_version;
  directory->published_realtime_ns = realtime_ns();
  directory->published_monotonic_ns = monotonic_ns();
  directory->block_count = static_cast<uint32_t>(blocks.all.size());
  // A version is the generation and the block's place in it: unique however often control restarts.
  for (const BuiltBlocks::New& fresh : blocks.fresh)
    fresh.block->ref.version = directory->generation << 16 | fresh.index;
  auto next = std::make_shared<const Snapshot>(assemble(*directory, blocks.all));
  if (auto complaint = validate(*next, current_.get())) throw std::invalid_argument(*complaint);

  const auto held = held_slots();
  place(blocks, held);
  for (size_t i = 0; i < blocks.all.size(); ++i) directory->blocks[i] = blocks.all[i]->ref;
  directory->checksum = checksum_of(*directory);
  write(blocks, *directory, oldest_slot(held));
  current_ = std::move(next);
  recovered_.reset();
  return current_->generation;
}

// Finds room for the new blocks that no held directory names.
void Publisher::place(BuiltBlocks& blocks, const std::bitset<kDirectorySlots>& held) const {
  std::vector<Extent> kept;
  for (uint64_t i = 0; i < kDirectorySlots; ++i)
    if (held[i]) add_extents(slots_[i].directory, kept);
  std::vector<Extent> gaps = gaps_between(std::move(kept));
  for (BuiltBlocks::New& fresh : blocks.fresh) {
    BlockRef& ref = fresh.block->ref;
    ref.offset = ref.size > 0 ? take(gaps, ref.size) : kBlocksStart;
  }
}

// The order is the protocol: blocks, directory, and last, with release, the one word that names them.
void Publisher::write(const BuiltBlocks& blocks, const Directory& directory, uint64_t slot) {
  last_written_ = {};
  last_generation_ = directory.generation;  // never used again, even if writing fails half-way
  uint64_t end = kBlocksStart;
  for (const BuiltBlocks::New& fresh : blocks.fresh)
    end = std::max(end, align_block(fresh.block->ref.offset + fresh.block->ref.size));
  grow_to(end);
  for (const BuiltBlocks::New& fresh : blocks.fresh) {
    step("block");
    const Block& block = *fresh.block;
    write_at(file_.fd(), block.bytes.data(), block.bytes.size(), block.ref.offset, file_.path().string());
    ++last_written_.blocks;
    last_written_.bytes += block.bytes.size();
  }
  slots_[slot].valid = false;
  step("directory");
  write_at(file_.fd(), &directory, sizeof directory, directory_offset(slot), file_.path().string());
  slots_[slot] = {true, directory};
  step("current");
  atomic_field(header_->current).store(current_word(directory.generation, slot), std::memory_order_release);
  step("published");
}

// Grows the file, in steps, so that its size says nothing of single blocks. Never shrinks it.
void Publisher::grow_to(uint64_t end) {
  const uint64_t size = size_of(file_.fd());
  if (end > size) {
    step("grow");
    const uint64_t wanted = (end + kGrowth - 1) / kGrowth * kGrowth;
    if (ftruncate(file_.fd(), static_cast<off_t>(wanted)) != 0)
      throw std::runtime_error(file_.path().string() + ": cannot grow: " + std::strerror(errno));
  }
  step("file_size");
  atomic_field(header_->file_size).store(std::max(end, size_of(file_.fd())), std::memory_order_release);
}

}  // namespace portico
