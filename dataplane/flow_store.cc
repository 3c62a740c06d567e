// SPDX-License-Identifier: Apache-2.0
#include "dataplane/flow_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include "dataplane/flow_layout.h"
#include "dataplane/flow_place.h"
#include "dataplane/table.h"

namespace portico {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kFileMagic = 0x656c62746f6c66;  // "flotble"
// Entries begin here, on a page and a cache line of their own.
constexpr size_t kEntriesOffset = 4096;
constexpr uint64_t kRetryNs = 1'000'000'000;
// Ticks wrap after 49 days; what is older than this is no connection any more.
constexpr uint64_t kLongestPauseNs = 24ull * 3600 * 1'000'000'000;
constexpr const char* kKindNames[kFlowKinds] = {"dsr-v4", "dsr-v6", "nat-v4", "nat-v6"};

// First bytes of each file of entries.
struct FileHeader {
  uint64_t magic;
  uint64_t id;  // FlowsState::id
  uint32_t worker;
  uint32_t kind;
  uint64_t bytes;  // of entries
};
static_assert(sizeof(FileHeader) <= kEntriesOffset);

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  file >> id;
  return id;
}

template <size_t N>
void set_text(char (&field)[N], const std::string& text) {
  if (text.size() >= N) throw std::runtime_error(text + ": too long a path for flow tables");
  std::memset(field, 0, N);
  text.copy(field, N - 1);
}

uint64_t checksum_of(const FlowsState& state) {
  return XXH3_64bits(&state, offsetof(FlowsState, checksum));
}

// Of the backend's address of the family, or of its only one: tunnels may go over another family than the
// flow's. 0: there is no such backend.
uint64_t digest(const TableBackend& backend, Family family) {
  if (!backend.exists) return 0;
  if (backend.has_v4 && (family == Family::v4 || !backend.has_v6))
    return uint64_t{1} << 32 | backend.address_v4;
  return XXH3_64bits(backend.address_v6.data(), sizeof backend.address_v6) | 1;
}

FileHandle open_file(const fs::path& path, int flags) {
  return FileHandle(open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0600));
}

}  // namespace

FlowStore::FlowStore(const FlowStoreRequest& request)
    : request_(request), place_lock_(lock_flow_place(request.place)), state_(std::make_unique<FlowsState>()) {
  start_new();
  file_ = std::make_unique<WriterFile>(request_.run_dir, kFlowsFile, [this](int fd) { fill(fd); });
  if (file_->created()) {
    is_settled_ = true;
    remove_others();
  } else {
    look();
  }
  link_place();
}

FlowStore::~FlowStore() = default;

// A state of our own, for what is there to be compared with.
void FlowStore::start_new() {
  std::memset(static_cast<void*>(state_.get()), 0, sizeof(FlowsState));
  state_->magic = FlowsState::kMagic;
  state_->version = FlowsState::kVersion;
  state_->size = sizeof(FlowsState);
  state_->flow_layout = kFlowLayout;
  set_text(state_->boot_id, boot_id());
  state_->id = random_epoch();
  state_->workers = request_.workers;
  state_->flows_per_worker = request_.flows_per_worker;
  for (uint64_t& word : state_->flow_key) word = random_epoch();
  state_->rss_key = random_rss_key();
  set_text(state_->place, request_.place.string());
  state_->checksum = checksum_of(*state_);
}

void FlowStore::look() {
  const bool is_whole = read_at(file_->fd(), &earlier_, sizeof earlier_, 0) == sizeof earlier_;
  note_ = is_whole ? objection_to(earlier_) : "not whole";
  if (!note_.empty()) {
    note_ = file_path().string() + ": " + note_ + "; connections of before are not known";
    earlier_ = {};
    settle();
    return;
  }
  const bool is_same_shape = earlier_.workers == request_.workers &&
                             earlier_.flows_per_worker == request_.flows_per_worker &&
                             std::string(earlier_.place) == request_.place.string();
  found_ = is_same_shape ? Found::in_place : Found::elsewhere;
  if (is_same_shape) {
    *state_ = earlier_;
  } else {
    move_from_earlier();
  }
}

// Into a state of our own, with the secrets of before.
void FlowStore::move_from_earlier() {
  found_ = Found::elsewhere;
  start_new();
  std::copy(std::begin(earlier_.flow_key), std::end(earlier_.flow_key), state_->flow_key);
  state_->rss_key = earlier_.rss_key;
  state_->checksum = checksum_of(*state_);
  open_earlier();
}

std::string FlowStore::objection_to(const FlowsState& before) const {
  if (before.magic != FlowsState::kMagic) return "not a file of flows";
  if (before.version != FlowsState::kVersion || before.size != sizeof(FlowsState))
    return "written by another version";
  if (before.checksum != checksum_of(before)) return "its checksum is wrong";
  if (before.flow_layout != kFlowLayout) return "flow entries of another version's layout";
  if (std::memcmp(before.boot_id, state_->boot_id, sizeof before.boot_id) != 0) return {"of before a reboot"};
  if (before.workers == 0 || before.workers > kMaxWorkers || before.flows_per_worker == 0 ||
      before.flows_per_worker >= 1u << 24)
    return "its sizes are out of range";
  const uint64_t now = request_.now_ns;
  if (before.alive_ns == 0 || before.alive_ns > now) return "no process has run with it";
  if (now - before.alive_ns > kLongestPauseNs) return "too old";
  return {};
}

uint32_t FlowStore::tick_offset(const Clock& clock, uint64_t tsc, uint64_t now_ns) const {
  if (found_ == Found::nothing) return 0;
  const uint64_t passed_ms = (now_ns - std::min(now_ns, earlier_.alive_ns)) / 1'000'000;
  // Two more than is certain: no packet of before shall seem to come from the future.
  const uint64_t expected = earlier_.tick + passed_ms / kTickMs + 2;
  return static_cast<uint32_t>(expected - clock.tick(tsc)) & kTickMask;
}

std::bitset<kMaxBackends> FlowStore::same_backends(const Table& table, Family family) const {
  std::bitset<kMaxBackends> same;
  const auto& before = earlier_.backends[family == Family::v6];
  for (uint32_t id = 0; id < kMaxBackends; ++id) {
    // One that is gone is the sweep's to reset.
    const uint64_t now = digest(table.backend(static_cast<uint16_t>(id)), family);
    same[id] = before[id] != 0 && (now == 0 || now == before[id]);
  }
  return same;
}

fs::path FlowStore::file_of(const fs::path& place, uint64_t id, FlowKind kind, uint32_t worker) const {
  char name[64];
  std::snprintf(name, sizeof name, "%016llx-%s-%u", static_cast<unsigned long long>(id),
                kKindNames[static_cast<uint32_t>(kind)], worker);
  return place / name;
}

FlowStore::Mapping FlowStore::map(FlowKind kind, uint32_t worker, size_t bytes, int numa_node) {
  const fs::path path = file_of(request_.place, state_->id, kind, worker);
  const FileHeader wanted{kFileMagic, state_->id, worker, static_cast<uint32_t>(kind), bytes};
  mapped_.insert(path.filename().string());
  for (const bool may_exist : {true, false}) {
    if (!may_exist || is_settled_) unlink(path.c_str());
    const FileHandle file = open_file(path, O_RDWR | O_CREAT);
    if (!file.is_open())
      throw std::runtime_error(path.string() + ": cannot make it: " + std::strerror(errno));
    const bool existed = size_of(file.fd()) != 0;
    Mapping mapping;
    mapping.region = make_region(file.fd(), kEntriesOffset + bytes, numa_node);
    mapping.offset = kEntriesOffset;
    mapping.has_content = existed;
    if (!existed) std::memcpy(mapping.region.data(), &wanted, sizeof wanted);
    // A file of another size or use is nobody's: begin anew.
    if (std::memcmp(mapping.region.data(), &wanted, sizeof wanted) == 0) return mapping;
  }
  throw std::runtime_error(path.string() + ": somebody else writes to it");
}

// Where there is not memory for the files of before and the new ones, those of before become ordinary memory:
// a crash from here to settle() loses them.
Region FlowStore::make_region(int fd, size_t bytes, int numa_node) {
  try {
    return Region::of_file(fd, bytes, is_on_huge_pages(fd), numa_node);
  } catch (const std::runtime_error&) {
    if (found_ != Found::elsewhere || is_copied_) throw;
  }
  is_copied_ = true;
  for (Earlier& earlier : earlier_files_) {
    Region copy(earlier.region.size(), false, -1);
    std::memcpy(copy.data(), earlier.region.data(), earlier.region.size());
    earlier.region = std::move(copy);
  }
  remove_earlier();
  return Region::of_file(fd, bytes, is_on_huge_pages(fd), numa_node);
}

void FlowStore::open_earlier() {
  for (uint32_t kind = 0; kind < kFlowKinds; ++kind) {
    for (uint32_t worker = 0; worker < earlier_.workers; ++worker) {
      const FileHandle file = open_file(file_of(earlier_.place, earlier_.id, FlowKind{kind}, worker), O_RDWR);
      const size_t size = file.is_open() ? size_of(file.fd()) : 0;
      if (size <= kEntriesOffset) continue;
      Region region = Region::of_file(file.fd(), size, is_on_huge_pages(file.fd()), -1);
      FileHeader header;
      std::memcpy(&header, region.data(), sizeof header);
      const FileHeader wanted{kFileMagic, earlier_.id, worker, kind, header.bytes};
      if (std::memcmp(&header, &wanted, sizeof wanted) == 0 && header.bytes <= size - kEntriesOffset)
        earlier_files_.push_back({FlowKind{kind}, worker, std::move(region), header.bytes});
    }
  }
}

std::vector<FlowStore::EarlierEntries> FlowStore::earlier(FlowKind kind) const {
  std::vector<EarlierEntries> found;
  for (const Earlier& earlier : earlier_files_)
    if (earlier.kind == kind)
      found.push_back({earlier.worker, {earlier.region.data() + kEntriesOffset, earlier.bytes}});
  return found;
}

void FlowStore::remove_earlier() const {
  for (uint32_t worker = 0; worker < earlier_.workers; ++worker)
    for (uint32_t kind = 0; kind < kFlowKinds; ++kind)
      unlink(file_of(earlier_.place, earlier_.id, FlowKind{kind}, worker).c_str());
}

void FlowStore::note_backends(const Table& table) {
  for (const Family family : {Family::v4, Family::v6}) {
    auto& digests = state_->backends[family == Family::v6];
    for (uint32_t id = 0; id < kMaxBackends; ++id) {
      const uint64_t now = digest(table.backend(static_cast<uint16_t>(id)), family);
      if (now != 0) digests[id] = now;
    }
  }
  write_mutable(state_->backends, sizeof state_->backends);
}

void FlowStore::note_alive(uint64_t now_ns, uint32_t tick) {
  state_->alive_ns = now_ns;
  state_->tick = tick;
  static_assert(offsetof(FlowsState, tick) == offsetof(FlowsState, alive_ns) + sizeof state_->alive_ns);
  if (now_ns < retry_ns_) return;
  try {
    write_mutable(&state_->alive_ns, 2 * sizeof state_->alive_ns);
    // Somebody emptied the run directory: the flows are still there, so what describes them shall be, too.
    if (is_settled_ && !file_->is_in_place()) {
      file_->restore([this](int fd) { fill(fd); });
      link_place();
    }
  } catch (const std::exception&) {  // no room, no directory: forwarding does not depend on it
    retry_ns_ = now_ns + kRetryNs;
  }
}

void FlowStore::note_rss(uint64_t digest) {
  if (found_ == Found::in_place && earlier_.rss_digest != digest) move_from_earlier();
  state_->rss_digest = digest;
  write_mutable(&state_->rss_digest, sizeof state_->rss_digest);
}

// Until settle() the file is still the one of the process before.
void FlowStore::write_mutable(const void* field, size_t size) {
  if (!is_settled_) return;
  const auto offset = static_cast<const char*>(field) - reinterpret_cast<const char*>(state_.get());
  write_at(file_->fd(), field, size, static_cast<uint64_t>(offset), file_path().string());
}

void FlowStore::settle() {
  if (!is_settled_) {
    file_->replace([this](int fd) { fill(fd); });
    is_settled_ = true;
    if (found_ == Found::elsewhere) remove_earlier();
    earlier_files_.clear();
  }
  remove_others();
}

void FlowStore::fill(int fd) const {
  write_at(fd, state_.get(), sizeof(FlowsState), 0, file_path().string());
}

// Files that crashes left, or of kinds that no service has any more.
void FlowStore::remove_others() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(request_.place, error))
    if (!mapped_.contains(entry.path().filename().string())) unlink(entry.path().c_str());
}

// From the run directory one finds the files, and can remove them.
void FlowStore::link_place() const {
  const fs::path link = request_.run_dir / kFlowTablesLink;
  std::error_code error;
  fs::remove(link, error);
  fs::create_symlink(request_.place, link, error);
}

}  // namespace portico
