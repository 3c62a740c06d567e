// SPDX-License-Identifier: Apache-2.0
#include "control/cli/run_program.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace portico::cli {

namespace {

std::string read_all(int fd) {
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t n = read(fd, part.data(), part.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(part.data(), static_cast<size_t>(n));
  }
}

}  // namespace

// Its messages go to a file of their own, so that neither stream can fill up while the other is read.
Finished run_program(const std::vector<std::string>& arguments) {
  Finished result;
  std::array<int, 2> output{-1, -1};
  char name[] = "/tmp/portico-messages-XXXXXX";
  const int messages = mkostemp(name, O_CLOEXEC);
  if (messages >= 0) unlink(name);
  if (messages < 0 || pipe2(output.data(), O_CLOEXEC) != 0) {
    result.messages = std::strerror(errno);
    if (messages >= 0) close(messages);
    return result;
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, messages, STDERR_FILENO);
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(output[1]);
  if (error != 0) {
    result.messages = arguments[0] + ": " + std::strerror(error);
  } else {
    result.output = read_all(output[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) result.status = WEXITSTATUS(status);
    lseek(messages, 0, SEEK_SET);
    result.messages = read_all(messages);
  }
  close(output[0]);
  close(messages);
  return result;
}

}  // namespace portico::cli
