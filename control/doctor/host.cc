// SPDX-License-Identifier: Apache-2.0
// Processes, permissions and the guard.
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>

#include "contract/feedback_file.h"
#include "contract/run_dir.h"
#include "control/dnat.h"
#include "control/doctor/finding.h"
#include "control/guard.h"

namespace portico::doctor {

namespace {

// The effective capabilities of a process; nullopt if it is not to be seen.
std::optional<uint64_t> capabilities_of(const Files& files, pid_t pid) {
  std::istringstream lines(files.text(fmt::format("/proc/{}/status", pid)).value_or(""));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("CapEff:")) return std::strtoull(line.c_str() + 7, nullptr, 16);
  return std::nullopt;
}

struct Capability {
  unsigned number;
  const char* name;
  const char* purpose;
};

void check_capabilities(Examination& e, const char* process, const WriterState& writer,
                        std::initializer_list<Capability> needed) {
  if (!writer.alive || writer.pid == 0) return;
  const auto has = capabilities_of(e.files, writer.pid);
  if (!has) return;
  for (const Capability& one : needed)
    if ((*has >> one.number & 1) == 0)
      e.add(Severity::error, "permissions", process,
            fmt::format("it runs without {}: {}", one.name, one.purpose),
            "start it by its systemd unit, or as root");
}

void check_mode(Examination& e, const std::string& path, mode_t unwanted, const std::string& why,
                const char* command) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    if (errno == EACCES) e.skipped.push_back("permissions: " + path + " is not to be seen by this user");
    return;
  }
  if ((info.st_mode & unwanted) != 0)
    e.add((info.st_mode & S_IWOTH) != 0 ? Severity::error : Severity::warning, "permissions", path, why,
          fmt::format("chmod {} {}", command, path));
}

}  // namespace

void check_processes(Examination& e) {
  const bool both = e.control_alive && e.dataplane_alive;
  if (!e.control_alive && !e.dataplane_alive)
    e.add(Severity::notice, "processes", "",
          "neither portico-control nor portico-dataplane runs on " + e.run_dir,
          "systemctl start portico-control portico-dataplane; or name another directory by --run-dir");
  else if (!e.control_alive)
    e.add(Severity::warning, "processes", "portico-control",
          "it does not run: the dataplane forwards by the last table, and no failed portal is noticed",
          "systemctl start portico-control; its log says why it ended");
  else if (!e.dataplane_alive)
    e.add(Severity::error, "processes", "portico-dataplane", "it does not run: nothing is forwarded",
          "systemctl start portico-dataplane; its log says why it ended");
  if (!both) return;
  FeedbackHeader header{};
  const FeedbackResult result = FeedbackReader(e.run_dir).read_header(header);
  if (!result.ok() && e.is_root)
    e.add(Severity::error, "processes", "portico-dataplane", result.text, "restart both, of one version");
  else if (result.ok() && result.stale)
    e.add(Severity::error, "processes", "portico-dataplane", "it is there but gives no sign of life",
          "look at its log and at what else runs on its CPUs");
}

void check_permissions(Examination& e) {
  if (!e.is_root)
    e.skipped.emplace_back("run it as root to look at all: guard, neighbours and addresses need it");
  check_mode(e, e.run_dir, S_IRWXO,
             "everybody may look into the run directory: who has it may command the balancer", "0750");
  check_mode(e, e.config_path, S_IWOTH, "everybody may change the configuration", "o-w");
  if (e.config.hash_key[0] != 0 || e.config.hash_key[1] != 0)
    check_mode(e, e.config_path, S_IROTH,
               "everybody may read `hash_key`, and so aim connections at one backend", "o-r");
  const Capability net_admin{CAP_NET_ADMIN, "CAP_NET_ADMIN", "it cannot set addresses, the guard or XDP"};
  const Capability net_raw{CAP_NET_RAW, "CAP_NET_RAW", "it can neither announce addresses nor open AF_XDP"};
  check_capabilities(e, "portico-control", table_writer(e.run_dir), {net_admin, net_raw});
  check_capabilities(e, "portico-dataplane", feedback_writer(e.run_dir), {net_admin, net_raw});
}

void check_guard(Examination& e) {
  // Without either it is not needed.
  if ((!e.control_alive && !e.dataplane_alive) || !e.is_root || e.config.services.empty()) return;
  std::vector<Endpoint> listeners;
  for (const auto& service : e.config.services)
    listeners.insert(listeners.end(), service.listen.begin(), service.listen.end());
  std::vector<NatRange> nat;
  for (const Address& address : e.config.nat.addresses)
    nat.push_back({address, e.config.nat.first_port, e.config.nat.last_port});
  Guard guard(e.config.instance);
  if (const auto hole = guard.find_hole(listeners, nat, dnat_backends(e.config)))
    e.add(Severity::error, "guard", "table inet " + guard.table(),
          *hole + ": while the dataplane restarts, the kernel resets clients",
          "`portico reload` puts it back; then find out who removed it (`nft monitor`)");
}

}  // namespace portico::doctor
