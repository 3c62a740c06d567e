// SPDX-License-Identifier: Apache-2.0
#include "dataplane/upgrade.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "contract/run_dir.h"
#include "dataplane/placement.h"

namespace portico {
namespace {

constexpr int kPollMs = 5;

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Runs a program with all it prints going to `output`, and no signal blocked. -1: it could not be started.
pid_t spawn(const std::string& program, std::vector<std::string> arguments, int output) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t child = -1;
  if (posix_spawn(&child, program.c_str(), &files, &attributes, pointers_to(arguments).data(), environ) != 0)
    child = -1;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return child;
}

// What it prints until it ends or the time is up; `status` as of waitpid(2), -1: it took too long.
std::string watch(pid_t child, int output, int& status) {
  std::string text;
  const uint64_t deadline = monotonic_ns() + kTrialNs;
  bool has_ended = false;
  for (;;) {
    char buffer[4096];
    pollfd readable{output, POLLIN, 0};
    poll(&readable, 1, kPollMs);
    const ssize_t got = read(output, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<size_t>(got));
    if (has_ended && got <= 0) return text;
    if (!has_ended) has_ended = waitpid(child, &status, WNOHANG) == child;
    if (!has_ended && monotonic_ns() > deadline) break;
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  status = -1;
  return text;
}

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

}  // namespace

Upgrade::Upgrade(std::vector<std::string> arguments, const Options& options)
    : arguments_(std::move(arguments)), options_(options), cpus_(allowed_cpus()) {
  std::error_code error;
  program_ = std::filesystem::read_symlink("/proc/self/exe", error);
}

std::string Upgrade::request() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
    return std::string("cannot make a pipe: ") + std::strerror(errno);
  const FileHandle from(ends[0]);
  FileHandle to(ends[1]);
  // A process starts on the CPUs of the thread that makes it.
  const std::vector<unsigned> own = allowed_cpus();
  allow_cpus(cpus_);
  const pid_t child = spawn(
      program_, {program_, "--dry-run", "--run-dir", options_.run_dir, "--file-prefix", options_.file_prefix},
      to.fd());
  allow_cpus(own);
  to.close();
  if (child < 0) return program_ + ": cannot be started";
  int status = 0;
  const std::string said = last_line(watch(child, from.fd(), status));
  if (status == -1) return program_ + ": took too long to plan its start";
  if (status != 0) return program_ + ": would not start: " + (said.empty() ? "it says nothing" : said);
  asked_ns_.store(monotonic_ns(), std::memory_order_relaxed);
  return {};
}

bool Upgrade::is_due(uint64_t now_ns) const {
  const uint64_t asked = asked_ns_.load(std::memory_order_relaxed);
  return asked != 0 && now_ns > asked + kUpgradeDelayNs;
}

std::string Upgrade::replace() const {
  // Devices and locks must be free for the new program; libraries open some without O_CLOEXEC.
  if (syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0)  // Linux 5.11
    return std::string("cannot close the old program's files: ") + std::strerror(errno);
  allow_cpus(cpus_);
  std::vector<std::string> arguments = arguments_;
  execv(program_.c_str(), pointers_to(arguments).data());
  return program_ + ": " + std::strerror(errno);
}

}  // namespace portico
