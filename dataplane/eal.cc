// SPDX-License-Identifier: Apache-2.0
#include "dataplane/eal.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sys/un.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "dataplane/device.h"

namespace portico {
namespace {

// DPDK writes whole lines, mostly; each becomes one message of ours.
ssize_t write_dpdk_log(void*, const char* text, size_t size) {
  static thread_local std::string line;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] != '\n') {
      line += text[i];
      continue;
    }
    const int level = rte_log_cur_msg_loglevel();
    if (level >= 0 && level <= static_cast<int>(RTE_LOG_ERR))
      log_error("dpdk: " + line);
    else if (level == static_cast<int>(RTE_LOG_WARNING))
      log_warning("dpdk: " + line);
    else
      log_debug("dpdk: " + line);
    line.clear();
  }
  return static_cast<ssize_t>(size);
}

void send_dpdk_log_here() {
  const cookie_io_functions_t functions = {
      .read = nullptr, .write = write_dpdk_log, .seek = nullptr, .close = nullptr};
  FILE* stream = fopencookie(nullptr, "w", functions);
  if (stream == nullptr) return;
  std::setvbuf(stream, nullptr, _IONBF, 0);
  rte_openlog_stream(stream);
}

}  // namespace

Eal::Eal(const EalRequest& request, const std::string& run_dir) {
  sockaddr_un address;
  if (telemetry_socket_path(run_dir, request.file_prefix).size() >= sizeof address.sun_path) {
    throw std::runtime_error("the run directory's path is too long for a socket below it: " + run_dir +
                             "; use a shorter one");
  }
  // Here DPDK puts its telemetry socket, below dpdk/PREFIX/ (systemd.exec(5) has the variable's meaning).
  setenv("RUNTIME_DIRECTORY", run_dir.c_str(), 1);
  send_dpdk_log_here();
  // DPDK keeps and reorders these pointers for the process's life.
  static std::vector<std::string> arguments;
  static std::vector<char*> argv;
  arguments = eal_arguments(request);
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  if (rte_eal_init(static_cast<int>(arguments.size()), argv.data()) < 0) {
    std::string text = "DPDK does not start: ";
    text += rte_strerror(rte_errno);
    text += "; the lines above say where";
    if (rte_errno == EACCES || rte_errno == EPERM)
      text += "; run as root or see docs/operations.md for rights";
    throw std::runtime_error(text);
  }
}

Eal::~Eal() {
  rte_eal_cleanup();
}

void require_huge_pages(uint64_t bytes) {
  const uint64_t free_bytes = free_huge_page_bytes();
  if (free_bytes >= bytes) return;
  constexpr uint64_t kMiB = 1 << 20;
  throw std::runtime_error(
      "not enough huge pages: " + std::to_string((bytes + kMiB - 1) / kMiB) + " MiB needed, " +
      std::to_string(free_bytes / kMiB) +
      " MiB free; run scripts/setup (or set vm.nr_hugepages), or set `huge_pages: off` in "
      "`dataplane` (slower)");
}

}  // namespace portico
