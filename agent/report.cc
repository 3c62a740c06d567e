// SPDX-License-Identifier: Apache-2.0
#include "agent/report.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>

#include "control/host.h"

namespace portico {

namespace {

template <typename Take>
void each_key(int map, const Take& take) {
  agent_address key{};
  for (const agent_address* last = nullptr; bpf_map_get_next_key(map, last, &key) == 0; last = &key)
    take(key);
}

PeerStatus peer_status(const agent_address& key, const agent_hop& hop) {
  PeerStatus peer{.address = address_of(key)};
  if (hop.ifindex == 0) return peer;
  peer.interface = interface_name(static_cast<int>(hop.ifindex));
  peer.mac = fmt::format("{:02x}", fmt::join(hop.to, ":"));
  return peer;
}

void read_maps(int program, AgentStatus& status) {
  const FileHandle vips = map_of_agent(program, AGENT_VIPS_MAP), hops = map_of_agent(program, AGENT_HOPS_MAP);
  each_key(vips.fd(), [&](const agent_address& key) { status.vips.push_back(address_of(key)); });
  each_key(hops.fd(), [&](const agent_address& key) {
    agent_hop hop{};
    if (bpf_map_lookup_elem(hops.fd(), &key, &hop) == 0) status.peers.push_back(peer_status(key, hop));
  });
  std::ranges::sort(status.vips);
  std::ranges::sort(status.peers, {}, &PeerStatus::address);
}

// As contract/run_dir.h's: the kernel drops it however the process ends, and asking takes none.
bool take_lock(int fd) {
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  return fcntl(fd, F_OFD_SETLK, &whole) == 0;
}

const char* way_text(const AgentStatus& status) {
  return status.way ? to_string(*status.way) : "none";
}

}  // namespace

FileHandle lock_instance(const AgentPaths& paths, const std::string& instance, std::string& failure) {
  const std::string path = paths.lock(instance), pid = std::to_string(getpid()) + "\n";
  std::error_code error;
  std::filesystem::create_directories(paths.run_dir, error);
  FileHandle file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (file.is_open() && !take_lock(file.fd())) {
    failure = fmt::format("an agent for instance `{}` runs already (process {})", instance,
                          running_agent(paths, instance));
    return {};
  }
  if (file.is_open() && ftruncate(file.fd(), 0) == 0 && pwrite(file.fd(), pid.data(), pid.size(), 0) > 0)
    return file;
  failure = fmt::format("{}: {}", path, std::strerror(errno));
  return {};
}

pid_t running_agent(const AgentPaths& paths, const std::string& instance) {
  const FileHandle file(open(paths.lock(instance).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.is_open() || !is_locked(file.fd())) return 0;
  char text[16] = {};
  const ssize_t size = pread(file.fd(), text, sizeof text, 0);
  pid_t pid = 0;
  if (size > 0) std::from_chars(text, text + size, pid);
  return pid;
}

int AgentStatus::exit_status() const {
  if (!way) return 2;
  const bool is_unresolved =
      std::ranges::any_of(peers, [](const PeerStatus& peer) { return peer.mac.empty(); });
  return pid == 0 || is_unresolved ? 1 : 0;
}

AgentStatus agent_status(const AgentPaths& paths, const std::string& instance) {
  const Attachment::State state = Attachment(paths.bpffs, instance).state();
  AgentStatus status{.instance = instance, .pid = running_agent(paths, instance), .way = state.way};
  status.interface = interface_name(state.ifindex);
  status.clamp_interface = interface_name(state.clamp_ifindex);
  status.program_id = state.program_id;
  if (state.program.is_open()) read_maps(state.program.fd(), status);
  if (state.counters.is_open()) status.counters = read_counters(state.counters.fd());
  return status;
}

std::string status_text(const AgentStatus& status) {
  std::string text = fmt::format("instance {}: ", status.instance);
  if (status.way)
    text +=
        fmt::format("attached to {} ({}, program {})", status.interface, way_text(status), status.program_id);
  else
    text += "NOT ATTACHED";
  text += status.pid != 0 ? fmt::format(", agent runs as process {}\n", status.pid) : ", no agent runs\n";
  text += status.clamp_interface.empty()
              ? "SYN-ACKs leave as they are\n"
              : fmt::format("SYN-ACKs are clamped on {}\n", status.clamp_interface);
  for (const Address& vip : status.vips) text += fmt::format("VIP   {}\n", to_string(vip));
  for (const PeerStatus& peer : status.peers)
    text += fmt::format("peer  {:<24} {}\n", to_string(peer.address),
                        peer.mac.empty() ? "NOT RESOLVED" : peer.mac + " on " + peer.interface);
  for (const CounterInfo& info : agent_counter_infos())
    if (const uint64_t count = status.counters[info.counter]; count != 0)
      text += fmt::format("{:>14}  {:<9} {:<12} {}\n", count, to_string(info.fate), info.name, info.text);
  return text;
}

std::string status_json(const AgentStatus& status) {
  nlohmann::ordered_json json{{"instance", status.instance},
                              {"running", status.pid != 0},
                              {"pid", status.pid},
                              {"attached", way_text(status)},
                              {"interface", status.interface},
                              {"program_id", status.program_id},
                              {"clamp_interface", status.clamp_interface},
                              {"vips", nlohmann::json::array()},
                              {"peers", nlohmann::json::array()},
                              {"counters", nlohmann::json::array()}};
  for (const Address& vip : status.vips) json["vips"].push_back(to_string(vip));
  for (const PeerStatus& peer : status.peers)
    json["peers"].push_back(
        {{"address", to_string(peer.address)}, {"mac", peer.mac}, {"interface", peer.interface}});
  for (const CounterInfo& info : agent_counter_infos())
    json["counters"].push_back({{"fate", to_string(info.fate)},
                                {"reason", info.name},
                                {"packets", status.counters[info.counter]},
                                {"text", info.text}});
  return json.dump(2) + "\n";
}

std::string metrics_text(const std::vector<AgentStatus>& all) {
  std::string text =
      "# HELP portico_agent_packets_total Packets by what became of them, and why.\n"
      "# TYPE portico_agent_packets_total counter\n";
  for (const AgentStatus& status : all)
    for (const CounterInfo& info : agent_counter_infos())
      text += fmt::format("portico_agent_packets_total{{instance=\"{}\",fate=\"{}\",reason=\"{}\"}} {}\n",
                          status.instance, to_string(info.fate), info.name, status.counters[info.counter]);
  const auto gauge = [&](const char* name, const char* help, const auto& value) {
    text += fmt::format("# HELP {0} {1}\n# TYPE {0} gauge\n", name, help);
    for (const AgentStatus& status : all)
      text += fmt::format("{}{{instance=\"{}\"}} {}\n", name, status.instance, value(status));
  };
  gauge("portico_agent_attached", "1 if the program is attached: tunnel packets are taken.",
        [](const AgentStatus& status) { return status.way ? 1 : 0; });
  gauge("portico_agent_running", "1 if the agent runs, which follows the peers' MAC addresses.",
        [](const AgentStatus& status) { return status.pid != 0 ? 1 : 0; });
  gauge("portico_agent_peers_unresolved", "Peers without a MAC address: what goes on to them is dropped.",
        [](const AgentStatus& status) {
          return std::ranges::count_if(status.peers, [](const PeerStatus& peer) { return peer.mac.empty(); });
        });
  return text;
}

}  // namespace portico
