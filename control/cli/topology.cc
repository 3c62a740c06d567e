// SPDX-License-Identifier: Apache-2.0
// `portico topology`: the plan is the dataplane's to make, so the dataplane is asked, in a process of its
// own.
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <ostream>
#include <vector>

#include "control/cli/commands.h"
#include "control/printable.h"

namespace portico::cli {

namespace {

constexpr const char* kProgram = "portico-dataplane";

// Where it was installed with this program, or built; else the search path decides.
std::string find_dataplane() {
  if (const char* named = std::getenv("PORTICO_DATAPLANE"); named != nullptr && *named != '\0') return named;
  std::error_code error;
  const auto here = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* folder : {".", "../sbin", "../../dataplane"}) {
    const auto path = here / folder / kProgram;
    if (!error && access(path.c_str(), X_OK) == 0) return path;
  }
  return kProgram;
}

struct Finished {
  int status = -1;  // exit status; -1: it did not run or was killed
  std::string output, messages;
};

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

// Its messages go to a file of their own, so that neither stream can fill up while the other is read.
Finished run_program(const std::vector<std::string>& arguments) {
  Finished result;
  std::array<int, 2> output{-1, -1};
  char name[] = "/tmp/portico-topology-XXXXXX";
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

}  // namespace

int show_topology(const Context& context) {
  std::vector<std::string> arguments = {find_dataplane(), "--dry-run", "--log-level",
                                        "error",          "--run-dir", context.run_dir};
  if (context.json) arguments.emplace_back("--json");
  const Finished plan = run_program(arguments);
  if (!plan.output.empty()) {
    context.out << plan.output;
    return plan.status == 0 ? kExitWell : kExitFailed;
  }
  std::string text = plan.messages.substr(0, plan.messages.find('\n'));
  const std::string speaker = std::string(kProgram) + ": ";
  if (text.starts_with(speaker)) text.erase(0, speaker.size());
  if (text.empty()) text = "portico-dataplane ended without an answer";
  if (context.json) {
    const nlohmann::json answer = {{"error", text}, {"remedy", ""}};
    context.out << answer.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  } else {
    context.err << "portico: " << to_printable(text) << '\n';
  }
  return kExitFailed;
}

}  // namespace portico::cli
