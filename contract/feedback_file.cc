// SPDX-License-Identifier: Apache-2.0
#include "contract/feedback_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "contract/layout_hash.h"

namespace portico {

namespace {

// A writer's update takes microseconds; a reader that meets one each time waits this often for this long.
constexpr int kReadAttempts = 50;
constexpr useconds_t kReadPauseUs = 100;

std::atomic_ref<uint64_t> atomic_field(uint64_t& field) {
  static_assert(std::atomic_ref<uint64_t>::is_always_lock_free);
  return std::atomic_ref<uint64_t>(field);
}

// "" if the header is one this build understands.
std::string complaint(const FeedbackHeader& header, FeedbackStatus& status) {
  if (header.magic != kFeedbackMagic) {
    status = FeedbackStatus::unreadable;
    return "not a feedback file; remove it and restart portico-dataplane";
  }
  if (header.abi_version != kAbiVersion) {
    status = FeedbackStatus::other_abi;
    return "written by a dataplane of ABI version " + std::to_string(header.abi_version) +
           ", this program has " + std::to_string(kAbiVersion) +
           "; install the same version of all Portico programs and restart them";
  }
  if (header.layout_hash != kFeedbackLayoutHash || header.header_size != sizeof(Feedback)) {
    status = FeedbackStatus::other_layout;
    return "written by another build of the dataplane; install the same build of all Portico programs and "
           "restart them";
  }
  status = FeedbackStatus::ok;
  return {};
}

void fill_new_file(int fd, const std::string& version) {
  // Every page exists before it is mapped: a full tmpfs is an error here instead of a SIGBUS later.
  if (const int error = posix_fallocate(fd, 0, sizeof(Feedback)); error != 0)
    throw std::runtime_error(std::string("cannot make room for the feedback file: ") + strerror(error) +
                             "; free some on the run directory's file system");
  FeedbackHeader header{};
  header.magic = kFeedbackMagic;
  header.abi_version = kAbiVersion;
  header.header_size = sizeof(Feedback);
  header.layout_hash = kFeedbackLayoutHash;
  header.epoch = random_epoch();
  header.heartbeat_ns = monotonic_ns();
  header.pid = static_cast<uint64_t>(getpid());
  header.start_realtime_ns = realtime_ns();
  header.state = static_cast<uint32_t>(DataplaneState::starting);
  version.copy(header.version, kNameSize - 1);
  write_at(fd, &header, sizeof header, 0, "feedback");
}

}  // namespace

FeedbackWriter::FeedbackWriter(const std::filesystem::path& run_dir, const std::string& version)
    : file_(run_dir, kFeedbackFile, [&version](int fd) { fill_new_file(fd, version); }) {
  // Always a new file: readers open it anew each time, and a half-written old one cannot confuse them.
  if (!file_.created()) file_.replace([&version](int fd) { fill_new_file(fd, version); });
  void* mapped = mmap(nullptr, sizeof(Feedback), PROT_READ | PROT_WRITE, MAP_SHARED, file_.fd(), 0);
  if (mapped == MAP_FAILED)
    throw std::runtime_error(file_.path().string() + ": cannot map: " + strerror(errno));
  feedback_ = static_cast<Feedback*>(mapped);
}

FeedbackWriter::~FeedbackWriter() {
  munmap(feedback_, sizeof(Feedback));
}

Feedback& FeedbackWriter::begin() {
  auto sequence = atomic_field(feedback_->header.sequence);
  sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  // No later store may be seen before the odd sequence number.
  std::atomic_thread_fence(std::memory_order_release);
  return *feedback_;
}

void FeedbackWriter::end() {
  feedback_->header.heartbeat_ns = monotonic_ns();
  auto sequence = atomic_field(feedback_->header.sequence);
  sequence.store(sequence.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  // What the caller does next (reading `current` anew) must not overtake what it announced.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

FeedbackReader::FeedbackReader(const std::filesystem::path& run_dir) : path_(run_dir / kFeedbackFile) {}

FeedbackResult FeedbackReader::read(Feedback& out) const {
  return read_bytes(&out, sizeof out);
}

FeedbackResult FeedbackReader::read_header(FeedbackHeader& out) const {
  return read_bytes(&out, sizeof out);
}

// `out` starts with a FeedbackHeader.
FeedbackResult FeedbackReader::read_bytes(void* out, size_t size) const {
  FeedbackResult result;
  // What control stored before (`current`) must be visible before it looks at who still needs what.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const FileHandle file(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file.is_open()) {
    const bool absent = errno == ENOENT;
    result.status = absent ? FeedbackStatus::absent : FeedbackStatus::unreadable;
    result.text = path_.string() + ": " +
                  (absent ? "there is no dataplane; start portico-dataplane" : std::strerror(errno));
    return result;
  }
  result.writer_alive = is_locked(file.fd());
  auto& header = *static_cast<FeedbackHeader*>(out);
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    if (attempt > 0) usleep(kReadPauseUs);
    uint64_t before = 0, after = 0;
    read_at(file.fd(), &before, sizeof before, offsetof(FeedbackHeader, sequence));
    std::atomic_thread_fence(std::memory_order_acquire);
    if (read_at(file.fd(), out, size, 0) != size) {
      result.status = FeedbackStatus::unreadable;
      result.text = path_.string() + ": cut off; restart portico-dataplane";
      return result;
    }
    result.text = complaint(header, result.status);
    if (header.magic == kFeedbackMagic) result.pid = static_cast<pid_t>(header.pid);
    if (result.status != FeedbackStatus::ok) {
      result.text = path_.string() + ": " + result.text;
      return result;
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    read_at(file.fd(), &after, sizeof after, offsetof(FeedbackHeader, sequence));
    if (before == after && after % 2 == 0) {
      const uint64_t now = monotonic_ns();
      result.stale = header.heartbeat_ns + kHeartbeatStaleMs * 1000000ull < now;
      return result;
    }
    if (!result.writer_alive) break;  // it will never finish
  }
  result.status = FeedbackStatus::busy;
  result.text = path_.string() + ": " +
                (result.writer_alive ? "always in the middle of an update; try again"
                                     : "the dataplane died in the middle of an update; restart it");
  return result;
}

}  // namespace portico
