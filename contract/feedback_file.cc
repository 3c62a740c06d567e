// SPDX-License-Identifier: Apache-2.0
#include "contract/feedback_file.h"

#include <fcntl.h>
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

// All zero but for what is said once.
std::unique_ptr<Feedback> first_content(const std::string& version) {
  auto feedback = std::make_unique<Feedback>();
  std::memset(static_cast<void*>(feedback.get()), 0, sizeof(Feedback));
  FeedbackHeader& header = feedback->header;
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
  return feedback;
}

// A directory that cannot be written to is not tried a hundred times a second.
constexpr uint64_t kRestoreIntervalNs = 100'000'000;

}  // namespace

FeedbackWriter::FeedbackWriter(const std::filesystem::path& run_dir, const std::string& version)
    : feedback_(first_content(version)), file_(run_dir, kFeedbackFile, [this](int fd) { fill(fd); }) {
  // Always a new file: readers open it anew each time, and a half-written old one cannot confuse them.
  if (!file_.created()) file_.replace([this](int fd) { fill(fd); });
}

// A new file under its temporary name: nobody reads it yet.
void FeedbackWriter::fill(int fd) const {
  // A full tmpfs is an error at the start instead of feedback that stands still later.
  if (const int error = posix_fallocate(fd, 0, sizeof(Feedback)); error != 0)
    throw std::runtime_error(std::string("cannot make room for the feedback file: ") + strerror(error) +
                             "; free some on the run directory's file system");
  write_at(fd, feedback_.get(), sizeof(Feedback), 0, "feedback");
}

void FeedbackWriter::end(const Used& used) {
  feedback_->header.heartbeat_ns = monotonic_ns();
  try {
    std::string mended;
    if (!file_.is_in_place()) {
      if (feedback_->header.heartbeat_ns < restore_at_ns_) return;
      restore_at_ns_ = feedback_->header.heartbeat_ns + kRestoreIntervalNs;
      file_.restore([this](int fd) { fill(fd); });
      mended = file_.path().string() + ": was removed or replaced; made anew";
    } else if (size_of(file_.fd()) < sizeof(Feedback)) {
      mended = file_.path().string() + ": was cut off; written again";
    }
    write(used);
    trouble_ = std::move(mended);
  } catch (const std::exception& error) {
    trouble_ = error.what();
  }
  // What the caller does next (reading `current` anew) must not overtake what it announced.
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

// The sequence lock: odd, then the data, then even. The resolve requests come last in the file, so that one
// that was cut off has its size again.
void FeedbackWriter::write(const Used& used) {
  Feedback& all = *feedback_;
  uint64_t& sequence = all.header.sequence;
  sequence |= 1;  // odd already, if the last write failed
  write_part(&sequence, sizeof sequence);
  std::atomic_thread_fence(std::memory_order_release);
  const size_t ports = std::min(all.header.port_count, kMaxPorts);
  write_part(&all, offsetof(Feedback, ports) + ports * sizeof(PortFeedback));
  write_part(all.workers, std::min(all.header.worker_count, kMaxWorkers) * sizeof(WorkerFeedback));
  write_part(all.services, std::min<size_t>(used.services, kMaxServices) * sizeof(ServiceFeedback));
  write_part(all.backends, std::min<size_t>(used.backends, kMaxBackends) * sizeof(BackendFeedback));
  write_part(all.resolve, sizeof all.resolve);
  std::atomic_thread_fence(std::memory_order_release);
  ++sequence;
  write_part(&sequence, sizeof sequence);
}

void FeedbackWriter::write_part(const void* part, size_t size) const {
  const auto offset = static_cast<const char*>(part) - reinterpret_cast<const char*>(feedback_.get());
  write_at(file_.fd(), part, size, static_cast<uint64_t>(offset), file_.path().string());
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
      result.text = path_.string() + ": cut off; if that stays, restart portico-dataplane";
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
