// SPDX-License-Identifier: Apache-2.0
// Huge pages, kernel and clock.
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/timex.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <sstream>

#include "contract/port_name.h"
#include "contract/run_dir.h"
#include "control/doctor/finding.h"

namespace portico::doctor {

namespace {

constexpr uint64_t kMiB = 1 << 20;
// What a dataplane of one worker takes for packet buffers; with more, its own message says how much.
constexpr uint64_t kLeastHugeBytes = 64 * kMiB;

// "HugePages_Free:  1536" of /proc/meminfo.
std::optional<uint64_t> meminfo(const Files& files, const std::string& field) {
  std::istringstream lines(files.text("/proc/meminfo").value_or(""));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(field + ":")) return std::strtoull(line.c_str() + field.size() + 1, nullptr, 10);
  return std::nullopt;
}

// What a dataplane that has ended left there for its next start, which takes it up again.
uint64_t flow_table_bytes(const std::string& run_dir) {
  uint64_t bytes = 0;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(run_dir + "/" + kFlowTablesLink, error)) {
    const uint64_t size = file.file_size(error);
    if (!error) bytes += size;
  }
  return bytes;
}

// An entry of a flow table with its index takes less than this; one table for each family.
constexpr uint64_t kBytesPerFlow = 2 * 96;

bool has_kernel_port(const Config& config) {
  for (const auto& port : config.dataplane.ports)
    if (parse_port(port.name, port.devargs).kind == PortKind::kernel_interface) return true;
  return false;
}

void check_af_xdp(Examination& e) {
  if (!has_kernel_port(e.config)) return;
  const FileHandle handle(socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!handle.is_open() && errno == EAFNOSUPPORT)
    e.add(Severity::error, "kernel", "",
          "this kernel has no AF_XDP, which ports that are kernel interfaces need",
          "boot a kernel with CONFIG_XDP_SOCKETS=y, as Debian's is, or bind the ports to vfio-pci");
  if (!handle.is_open() && errno == EPERM) e.skipped.emplace_back("kernel: AF_XDP is tried by root only");
}

}  // namespace

void check_huge_pages(Examination& e) {
  // A running dataplane has what it needs.
  if (e.config.dataplane.huge_pages != HugePages::required || e.dataplane_alive) return;
  const uint64_t total = meminfo(e.files, "HugePages_Total").value_or(0),
                 page = meminfo(e.files, "Hugepagesize").value_or(0) * 1024,
                 free = meminfo(e.files, "HugePages_Free").value_or(0) * page;
  const uint64_t kept = flow_table_bytes(e.run_dir);
  const uint64_t flows = e.config.dataplane.flows * kBytesPerFlow;
  const uint64_t needed = kLeastHugeBytes + (flows > kept ? flows - kept : 0);
  constexpr const char* kRemedy =
      "sysctl -w vm.nr_hugepages={} (and in /etc/sysctl.d), or `dataplane: huge_pages: off`, which is slower";
  const uint64_t wanted = page == 0 ? 0 : total + (needed + page - 1) / page;
  if (total == 0)
    e.add(Severity::error, "huge_pages", "", "no huge pages are reserved; the dataplane does not start",
          page == 0 ? "boot a kernel with CONFIG_HUGETLBFS=y, or `dataplane: huge_pages: off`"
                    : fmt::format(kRemedy, wanted));
  else if (free < needed)
    e.add(Severity::warning, "huge_pages", "",
          fmt::format("{} MiB of huge pages are free; {} flows and their packets may need {} MiB",
                      free / kMiB, e.config.dataplane.flows, needed / kMiB),
          fmt::format(kRemedy, wanted));
}

void check_kernel(Examination& e) {
  unsigned major = 0, minor = 0;
  const std::string release = e.files.text("/proc/sys/kernel/osrelease").value_or("");
  if (std::sscanf(release.c_str(), "%u.%u", &major, &minor) == 2 &&
      std::pair{major, minor} < std::pair{5u, 18u})
    e.add(Severity::warning, "kernel", "",
          fmt::format("Linux {} does not keep who installed an address: control cannot tell its own from "
                      "yours after a restart",
                      release),
          "boot Linux 5.18 or later, or set `vip_address: external`");
  if (has_kernel_port(e.config) && e.files.number("/proc/sys/net/core/bpf_jit_enable") == 0)
    e.add(Severity::warning, "kernel", "net.core.bpf_jit_enable",
          "the steering program is interpreted, several times as slow as compiled",
          "sysctl -w net.core.bpf_jit_enable=1");
  check_af_xdp(e);
  for (const std::string& name : e.files.list("/sys/devices/system/cpu/cpufreq")) {
    const auto governor = e.files.text("/sys/devices/system/cpu/cpufreq/" + name + "/scaling_governor");
    if (!governor || (*governor != "powersave" && *governor != "conservative")) continue;
    // intel_pstate's and amd_pstate's "powersave" raises the clock under load, too.
    const auto driver = e.files.text("/sys/devices/system/cpu/cpufreq/" + name + "/scaling_driver");
    if (driver && driver->find("pstate") != std::string::npos && driver->find("passive") == std::string::npos)
      continue;
    e.add(Severity::warning, "kernel", name,
          "its governor " + *governor + " keeps the workers' clock low: packets wait longer",
          "cpupower frequency-set -g performance");
    break;
  }
}

void check_clock(Examination& e) {
  const std::string cpu = e.files.text("/proc/cpuinfo").value_or("");
  if (cpu.find("flags") != std::string::npos &&
      (cpu.find(" constant_tsc") == std::string::npos || cpu.find(" nonstop_tsc") == std::string::npos))
    e.add(Severity::warning, "clock", "",
          "this CPU's time stamp counter changes its rate or stops in sleep: timeouts of connections are off",
          "switch off deep sleep states and frequency scaling (firmware, or `intel_idle.max_cstate=1`)");
  const std::string sources = "/sys/devices/system/clocksource/clocksource0/";
  const auto current = e.files.text(sources + "current_clocksource");
  if (current && (*current == "hpet" || *current == "acpi_pm" || *current == "jiffies"))
    e.add(Severity::warning, "clock", *current,
          "the kernel does not trust the time stamp counter, by which the dataplane measures time",
          "see `dmesg | grep -i tsc` for why; a firmware update is the usual remedy");
  timex state{};
  if (adjtimex(&state) == TIME_ERROR || (state.status & STA_UNSYNC) != 0)
    e.add(Severity::notice, "clock", "",
          "the time of day is not synchronised: times in logs are off, and certificates are judged by it",
          "install chrony or systemd-timesyncd; `timedatectl` shows the state");
}

}  // namespace portico::doctor
