// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "control/config_sections.h"

namespace portico {

namespace {

enum class PortKind { interface, pci, vdev };

// "0000:03:00.0" and "03:00.0" are PCI addresses; DPDK's virtual devices start with a driver's prefix.
PortKind port_kind(const std::string& name) {
  if (name.find(':') != std::string::npos) return PortKind::pci;
  for (const char* prefix : {"net_", "eth_", "virtio_user"}) {
    if (name.starts_with(prefix)) return PortKind::vdev;
  }
  return PortKind::interface;
}

void check_ports(ConfigReader& reader, const DataplaneConfig& dataplane) {
  for (size_t i = 0; i < dataplane.ports.size(); ++i) {
    const std::string& name = dataplane.ports[i].name;
    const Mark mark = reader.mark(fmt::format("dataplane/ports/#{}", i));
    switch (port_kind(name)) {
      case PortKind::interface:
        if (if_nametoindex(name.c_str()) != 0) break;
        reader.error(mark,
                     fmt::format("there is no interface `{}` here; `ip link` lists those there are", name));
        break;
      case PortKind::pci: {
        const std::string full = name.size() == std::strlen("03:00.0") ? "0000:" + name : name;
        if (access(("/sys/bus/pci/devices/" + full).c_str(), F_OK) == 0) break;
        reader.error(mark,
                     fmt::format("there is no PCI device `{}` here; `lspci -D` lists those there are", name));
        break;
      }
      case PortKind::vdev:
        break;
    }
  }
}

void check_cpus(ConfigReader& reader, const DataplaneConfig& dataplane) {
  std::string problem;
  if (dataplane.worker_cpus.empty()) return;
  const auto cpus = parse_cpus(dataplane.worker_cpus, problem);
  if (!cpus) return;
  for (const unsigned cpu : *cpus) {
    if (access(fmt::format("/sys/devices/system/cpu/cpu{}", cpu).c_str(), F_OK) == 0) continue;
    reader.error(reader.mark("dataplane/worker_cpus"),
                 fmt::format("this host has no CPU {}; `lscpu -e` lists those it has", cpu));
  }
}

std::string trim(std::string text) {
  const char* blanks = " \t\r";
  text.erase(0, text.find_first_not_of(blanks));
  text.erase(text.find_last_not_of(blanks) + 1);
  return text;
}

// The part of MySQL's option file format that a client's credentials need: `user=` and `password=` lines,
// [sections], comments. So the same file serves `mysql --defaults-file`.
bool read_credentials(const std::string& path, CheckConfig& check) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t equals = line.find('=');
    if (equals == std::string::npos || line.starts_with('#') || line.starts_with(';')) continue;
    const std::string key = trim(line.substr(0, equals));
    std::string value = trim(line.substr(equals + 1));
    if (value.size() >= 2 && (value.front() == '"' || value.front() == '\'') &&
        value.back() == value.front()) {
      value = value.substr(1, value.size() - 2);
    }
    if (key == "user") check.user = value;
    if (key == "password") check.password = value;
  }
  return file.eof() && !check.user.empty();
}

void check_credentials(ConfigReader& reader, const std::string& directory, const std::string& path,
                       CheckConfig& check) {
  if (check.credentials_file.empty()) return;
  const Mark mark = reader.mark(path + "/credentials");
  const std::string file = std::filesystem::path(directory) / check.credentials_file;
  struct stat info {};
  if (stat(file.c_str(), &info) != 0 || access(file.c_str(), R_OK) != 0) {
    reader.error(mark, fmt::format("cannot read credentials file {}: {}", file, std::strerror(errno)));
  } else if (!S_ISREG(info.st_mode)) {
    reader.error(mark, fmt::format("credentials file {} is not a regular file", file));
  } else if ((info.st_mode & (S_IROTH | S_IWOTH)) != 0) {
    reader.error(mark,
                 fmt::format("credentials file {} is open to everybody; run `chmod 0640 {}`", file, file));
  } else if (!read_credentials(file, check)) {
    reader.error(
        mark,
        fmt::format("credentials file {} has no user; write the lines user=NAME and password=SECRET", file));
  }
}

}  // namespace

void check_host(ConfigReader& reader, const std::string& directory, Config& config) {
  check_ports(reader, config.dataplane);
  check_cpus(reader, config.dataplane);
  for (PoolConfig& pool : config.pools) {
    for (CheckConfig& check : pool.checks) {
      check_credentials(reader, directory, "pools/" + pool.name + "/checks/" + check.name, check);
    }
  }
}

}  // namespace portico
