// SPDX-License-Identifier: Apache-2.0
#include "agent/runner.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/if.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <utility>

#include "agent/namespace_id.h"
#include "contract/interface_facts.h"
#include "control/host.h"

namespace portico {

namespace {

constexpr int kTurnMs = 1000;  // at most this long until changes that nobody tells of are seen
constexpr std::chrono::seconds kMetricsInterval{5};

int index_of(const std::string& interface) {
  return static_cast<int>(if_nametoindex(interface.c_str()));
}

bool same(const agent_settings& a, const agent_settings& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

std::string list(const std::vector<Address>& addresses) {
  std::string text;
  for (const Address& address : addresses) text += (text.empty() ? "" : ", ") + to_string(address);
  return text;
}

}  // namespace

Runner::Runner(std::string config_path, AgentConfig config, AgentPaths paths, NetlinkSocket socket)
    : config_path_(std::move(config_path)),
      config_(std::move(config)),
      paths_(std::move(paths)),
      socket_(std::move(socket)),
      attachment_(paths_.bpffs, config_.instance) {}

std::optional<agent_settings> Runner::settings_for(const AgentConfig& config, std::string& failure) {
  agent_settings settings{};
  for (const Prefix& balancer : config.balancers)
    settings.balancers[settings.balancer_count++] = agent_key(balancer);
  settings.sockets_netns = -1;
  if (!config.sockets_namespace.empty()) {
    const auto id = namespace_id(socket_, config.sockets_namespace, failure);
    if (!id) return std::nullopt;
    settings.sockets_netns = *id;
  }
  const uint32_t mtu = config.mtu != 0 ? config.mtu : interface_facts(config.interface).mtu;
  settings.gue_port = config.gue ? htons(config.gue_port) : uint16_t{0};
  settings.mss_v4 = highest_mss(config, mtu, Family::v4);
  settings.mss_v6 = highest_mss(config, mtu, Family::v6);
  settings.ipip = config.ipip;
  settings.second_chance = config.second_chance;
  for (const Address& vip : config.vips)
    if (settings.near_vip_count < AGENT_NEAR) settings.near_vips[settings.near_vip_count++] = agent_key(vip);
  std::vector<HostAddress> addresses;
  read_host_addresses(socket_, addresses);
  // Of the interface itself; changed ones are a reason to attach again.
  for (const HostAddress& each : addresses)
    if (each.ifindex == index_of(config.interface) && settings.near_local_count < AGENT_NEAR)
      settings.near_locals[settings.near_local_count++] = agent_key(each.address);
  return settings;
}

std::vector<AttachWay> Runner::ways(const AgentConfig& config, int ifindex) const {
  if (config.attach != AttachWay::automatic) return {config.attach};
  std::vector<AttachWay> ways{AttachWay::native, AttachWay::generic, AttachWay::tc};
  // What a native program sends out of a veth is lost unless its other end polls, which nothing here can see.
  if (config.second_chance && interface_facts(config.interface).driver == "veth") ways.erase(ways.begin());
  // A change of way costs packets.
  const auto state = attachment_.state();
  if (state.way && state.ifindex == ifindex) {
    const auto last = std::ranges::find(ways, *state.way);
    if (last != ways.end()) std::rotate(ways.begin(), last, last + 1);
  }
  return ways;
}

std::optional<std::string> Runner::attach_by(const AgentConfig& config, const agent_settings& settings,
                                             int ifindex, AttachWay way) {
  const auto last = attachment_.state();
  const auto ingress = way == AttachWay::tc ? AgentObject::Ingress::tc : AgentObject::Ingress::xdp;
  std::string failure;
  auto object = AgentObject::load(settings, config.vips, ingress, last.counters.fd(), failure);
  if (!object) return failure;
  // All that it looks at is there before its first packet.
  Peers peers(socket_, ifindex);
  if (last.program.is_open())
    peers.remember(map_of_agent(last.program.fd(), AGENT_HOPS_MAP).fd(), config.peers);
  const auto locals = host_addresses();
  keep_exactly(object->map(AGENT_LOCALS_MAP), locals);
  peers.refresh(object->map(AGENT_HOPS_MAP), config.peers, locals);
  const int egress = config.clamp_mss ? index_of(config.replies_leave_by) : 0;
  if (auto why = attachment_.attach_clamp(*object, egress)) return why;
  if (auto why = attachment_.attach(*object, ifindex, way)) return why;
  object_ = std::move(object);
  peers_.emplace(std::move(peers));
  return std::nullopt;
}

std::optional<std::string> Runner::attach(const AgentConfig& config) {
  const int ifindex = index_of(config.interface);
  if (ifindex == 0) return fmt::format("there is no interface `{}`", config.interface);
  std::string failure;
  const auto settings = settings_for(config, failure);
  if (!settings) return failure;
  failure.clear();
  for (const AttachWay way : ways(config, ifindex)) {
    const auto why = attach_by(config, *settings, ifindex, way);
    if (!why) {
      settings_ = *settings;
      way_ = way;
      spdlog::info("attached to {} ({}){}", config.interface, to_string(way),
                   failure.empty() ? "" : ", since other ways are not possible: " + failure);
      return std::nullopt;
    }
    failure += (failure.empty() ? "" : "; ") + *why;
  }
  return failure;
}

std::optional<std::string> Runner::start() {
  if (auto failure = attachment_.prepare()) return failure;
  return attach(config_);
}

std::vector<Address> Runner::host_addresses() {
  std::vector<HostAddress> all;
  if (read_host_addresses(socket_, all) != 0) return {};
  std::vector<Address> result;
  result.reserve(all.size());
  for (const HostAddress& each : all) result.push_back(each.address);
  if (result.size() > AGENT_MAX_LOCALS) result.resize(AGENT_MAX_LOCALS);
  return result;
}

void Runner::tell(const std::string& news) {
  if (news == told_) return;
  told_ = news;
  if (!news.empty()) spdlog::warn("{}", news);
}

// The interface may have been made anew, somebody may have detached the program, an MTU may have changed.
void Runner::attach_again_if_needed() {
  const int ifindex = index_of(config_.interface);
  std::string failure;
  const auto settings = settings_for(config_, failure);
  if (ifindex == 0 || !settings)
    return tell(ifindex == 0 ? fmt::format("there is no interface `{}`", config_.interface) : failure);
  const int clamp = config_.clamp_mss ? index_of(config_.replies_leave_by) : 0;
  if (same(*settings, settings_) && attachment_.is_attached(ifindex, way_, clamp)) return;
  auto why = attachment_.prepare();
  if (!why) why = attach(config_);
  if (why) tell(*why);
}

void Runner::follow() {
  attach_again_if_needed();
  const auto locals = host_addresses();
  if (!locals.empty()) keep_exactly(object_->map(AGENT_LOCALS_MAP), locals);
  const auto before = peers_->unresolved();
  peers_->refresh(object_->map(AGENT_HOPS_MAP), config_.peers, locals);
  if (peers_->unresolved() != before)
    spdlog::info("{}", peers_->unresolved().empty()
                           ? "all peers have MAC addresses"
                           : "no MAC address known of: " + list(peers_->unresolved()));
}

void Runner::write_metrics() {
  const auto now = std::chrono::steady_clock::now();
  if (config_.metrics_file.empty() || now < metrics_due_) return;
  metrics_due_ = now + kMetricsInterval;
  const std::string fresh = config_.metrics_file + ".new";
  std::ofstream file(fresh);
  file << metrics_text({agent_status(paths_, config_.instance)});
  file.close();
  if (!file || rename(fresh.c_str(), config_.metrics_file.c_str()) != 0)
    tell(fmt::format("{}: {}", config_.metrics_file, std::strerror(errno)));
}

void Runner::reload() {
  auto loaded = load_agent_config(config_path_, /*check_system=*/true);
  if (!loaded.messages.empty()) spdlog::warn("{}", loaded.messages);
  if (!loaded.config) return spdlog::error("the configuration has errors; nothing was changed");
  if (loaded.config->instance != config_.instance)
    return spdlog::error("`instance` cannot change while the agent runs; nothing was changed");
  if (const auto failure = attach(*loaded.config))
    return spdlog::error("{}; the configuration was not applied", *failure);
  config_ = std::move(*loaded.config);
  spdlog::info("the configuration was applied");
}

int Runner::run() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const FileHandle signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));
  auto news = NetlinkSocket::open(RTMGRP_NEIGH | RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
                                  RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE);
  if (!signal_fd.is_open() || !news) {
    spdlog::error("cannot listen for signals and news: {}", std::strerror(errno));
    return 4;
  }
  for (;;) {
    pollfd waits[] = {{signal_fd.fd(), POLLIN, 0}, {news->fd(), POLLIN, 0}};
    const int ready = poll(waits, std::size(waits), kTurnMs);
    if (ready > 0 && waits[0].revents != 0) {
      signalfd_siginfo info{};
      if (read(signal_fd.fd(), &info, sizeof info) != sizeof info) continue;
      if (info.ssi_signo != SIGHUP) break;
      reload();
    }
    if (ready > 0 && waits[1].revents != 0) news->receive_news(nullptr);
    follow();
    write_metrics();
  }
  spdlog::info("ending; the program stays attached (portico-agent detach takes it away)");
  return 0;
}

}  // namespace portico
