// SPDX-License-Identifier: Apache-2.0
// What the portal hosts' program costs per packet, in the kernel (BPF_PROG_TEST_RUN), less what a program
// costs that only passes, on the same frames and in turn with it. One line of JSON per measurement.
//
// A test run leaves each frame as the program before has made it, so the frames to be decapsulated are
// tunnels within tunnels, one for each run.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "agent/counters.h"
#include "agent/object.h"
#include "bpf/pass_object.h"
#include "tests/unit/agent_frames.h"

namespace portico {
namespace {

using namespace frames;

// Outer destinations are the VIPs themselves here, which are this host's, too: each inner packet is again one
// in a tunnel.
const std::string kVip = "198.18.0.80", kVip6 = "2001:db8::80", kBalancer = "198.18.2.5",
                  kBalancer6 = "2001:db8:2::5";
const std::string kClient = "198.18.0.9", kClient6 = "2001:db8::9";
constexpr int kLayers = 64;          // they fit a page, IPv6 in GUE, too
constexpr int kCallsPerSample = 15;  // system calls, for each of which the kernel waits for all CPUs

struct Case {
  std::string name;
  Bytes frame;
  int runs;  // of one system call
  agent_counter counter;
};

Bytes segment(const std::string& from, const std::string& to) {
  return ip_packet({.from = from, .to = to}, tcp_segment(from, to, 5000, 443, kAck));
}

Bytes nested(bool is_v6, bool in_gue) {
  const std::string from = is_v6 ? kBalancer6 : kBalancer, to = is_v6 ? kVip6 : kVip;
  const uint8_t protocol = is_v6 ? kIp6InIp : kIpInIp;
  Bytes packet = segment(is_v6 ? kClient6 : kClient, to);
  for (int i = 0; i < kLayers; ++i)
    packet = in_gue ? gue_packet({.from = from, .to = to}, {}, protocol, packet)
                    : ip_packet({.from = from, .to = to, .protocol = protocol}, packet);
  return frame_of(packet);
}

// A host with the VIPs, as a portal is.
void make_host() {
  if (unshare(CLONE_NEWNET) != 0) throw std::runtime_error("needs root");
  const std::string commands = "ip link set lo up; ip address add " + kVip + "/32 dev lo; ip address add " +
                               kVip6 + "/128 dev lo nodad";
  if (std::system(commands.c_str()) != 0) throw std::runtime_error("ip fails");
}

AgentObject load_agent() {
  agent_settings settings{};
  settings.balancers[0] = agent_key(*Prefix::parse("198.18.2.0/24"));
  settings.balancers[1] = agent_key(*Prefix::parse("2001:db8:2::/64"));
  settings.balancer_count = 2;
  settings.sockets_netns = -1;
  settings.gue_port = htons(GUE_DEFAULT_PORT);
  settings.ipip = 1;
  settings.near_vips[0] = settings.near_locals[0] = agent_key(*Address::parse(kVip));
  settings.near_vips[1] = settings.near_locals[1] = agent_key(*Address::parse(kVip6));
  settings.near_vip_count = settings.near_local_count = 2;
  const Address vips[] = {*Address::parse(kVip), *Address::parse(kVip6)};
  std::string failure;
  auto object = AgentObject::load(settings, vips, AgentObject::Ingress::xdp, -1, failure);
  if (!object) throw std::runtime_error(failure);
  keep_exactly(object->map(AGENT_LOCALS_MAP), vips);
  return std::move(*object);
}

// Nanoseconds per run, the median of many calls: others on the machine disturb some.
uint32_t measure(int program, const Case& each) {
  std::vector<uint32_t> all;
  all.reserve(kCallsPerSample);
  for (int call = 0; call < kCallsPerSample; ++call) {
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = each.frame.data();
    options.data_size_in = static_cast<uint32_t>(each.frame.size());
    options.repeat = each.runs;
    if (bpf_prog_test_run_opts(program, &options) != 0)
      throw std::runtime_error(std::string("test run: ") + std::strerror(errno));
    all.push_back(options.duration);
  }
  std::ranges::nth_element(all, all.begin() + kCallsPerSample / 2);
  return all[kCallsPerSample / 2];
}

void run(unsigned rounds) {
  make_host();
  const AgentObject agent = load_agent();
  bpf_object* const peer = bpf_object__open_mem(kPassObject, kPassObjectSize, nullptr);
  if (peer == nullptr || bpf_object__load(peer) != 0) throw std::runtime_error("the kernel refuses the peer");
  const int pass = bpf_program__fd(bpf_object__find_program_by_name(peer, "pass"));
  const Case cases[] = {{"decapsulate/4in4", nested(false, false), kLayers, AGENT_TAKEN_IPIP},
                        {"decapsulate/6in6", nested(true, false), kLayers, AGENT_TAKEN_IPIP},
                        {"decapsulate/gue-4in4", nested(false, true), kLayers, AGENT_TAKEN_GUE},
                        {"decapsulate/gue-6in6", nested(true, true), kLayers, AGENT_TAKEN_GUE},
                        {"not-a-tunnel/4", frame_of(segment(kClient, kVip)), kLayers, AGENT_OTHER}};
  for (const Case& each : cases) {
    std::vector<uint32_t> agent_ns, pass_ns;
    const uint64_t before = read_counters(agent.map(AGENT_COUNTERS_MAP))[each.counter];
    for (unsigned round = 0; round < rounds; ++round) {
      pass_ns.push_back(measure(pass, each));
      agent_ns.push_back(measure(agent.ingress_fd(), each));
    }
    // Every single run went the way that is measured.
    if (read_counters(agent.map(AGENT_COUNTERS_MAP))[each.counter] - before !=
        uint64_t{rounds} * kCallsPerSample * static_cast<unsigned>(each.runs))
      throw std::runtime_error(each.name + ": packets went another way");
    fmt::print("{{\"name\": \"{}\", \"agent_ns\": [{}], \"pass_ns\": [{}]}}\n", each.name,
               fmt::join(agent_ns, ", "), fmt::join(pass_ns, ", "));
  }
  bpf_object__close(peer);
}

}  // namespace
}  // namespace portico

int main(int argc, char** argv) {
  unsigned rounds = 5;
  if (argc > 1) std::from_chars(argv[1], argv[1] + std::strlen(argv[1]), rounds);
  libbpf_set_print(nullptr);
  try {
    portico::run(rounds);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench-agent: {}\n", e.what());
    return 1;
  }
}
