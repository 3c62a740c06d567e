// SPDX-License-Identifier: Apache-2.0
#include "control/doctor/finding.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "contract/port_name.h"
#include "control/config_text.h"

namespace portico::doctor {

namespace {

constexpr std::streamsize kMaxFile = 65536;

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::notice:
      return "notice";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "";
}

std::optional<std::string> Files::text(const std::string& path) const {
  std::ifstream file(root_ + path, std::ios::binary);
  if (!file) return std::nullopt;
  std::string text(kMaxFile, '\0');
  file.read(text.data(), kMaxFile);
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  text.erase(text.find_last_not_of(" \t\n") + 1);
  return text;
}

std::optional<uint64_t> Files::number(const std::string& path) const {
  const auto found = text(path);
  return found ? parse_number(*found) : std::nullopt;
}

std::string Files::link_name(const std::string& path) const {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(root_ + path, error);
  return error ? "" : target.filename().string();
}

bool Files::exists(const std::string& path) const {
  std::error_code error;
  return std::filesystem::exists(root_ + path, error);
}

std::vector<std::string> Files::list(const std::string& path) const {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root_ + path, error))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

const std::vector<Check>& all_checks() {
  static const std::vector<Check> checks = {
      {"processes", check_processes},   {"permissions", check_permissions},
      {"kernel", check_kernel},         {"clock", check_clock},
      {"huge_pages", check_huge_pages}, {"ports", check_ports},
      {"queues", check_queues},         {"mtu", check_mtu},
      {"rp_filter", check_rp_filter},   {"guard", check_guard},
      {"neighbours", check_neighbours}, {"addresses", check_addresses},
  };
  return checks;
}

std::vector<std::string> port_interfaces(const Config& config) {
  std::vector<std::string> names;
  for (const auto& port : config.dataplane.ports) {
    const std::string name = parse_port(port.name, port.devargs).kernel_side();
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

}  // namespace portico::doctor
