// SPDX-License-Identifier: Apache-2.0
// The portal hosts' programs in the kernel, frame by frame (BPF_PROG_TEST_RUN), in a network namespace of the
// test's own.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "agent/counters.h"
#include "agent/object.h"
#include "tests/unit/agent_frames.h"

namespace portico::frames {

inline const std::string kVip = "198.18.0.80", kVip6 = "2001:db8::80";
inline const std::string kClient = "198.18.0.9", kClient6 = "2001:db8::9";
inline const std::string kPortal = "198.18.1.21", kPortal6 = "2001:db8:1::21";
inline const std::string kBalancer = "198.18.2.5", kBalancer6 = "2001:db8:2::5";
inline const std::string kPeer = "198.18.1.22", kPeer6 = "2001:db8:1::22";
inline const std::string kLost = "198.18.1.23", kLost6 = "2001:db8:1::23";  // a peer without a MAC
inline const std::string kStranger = "198.18.1.99", kStranger6 = "2001:db8:1::99";
inline const Bytes kPeerMac = {2, 0, 0, 0, 1, 0x22}, kOwnMac = {2, 0, 0, 0, 1, 0x21};

struct Outcome {
  unsigned action;
  Bytes frame;
};

class AgentTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (geteuid() != 0) return;
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(std::system("ip link set lo up && sysctl -qw net.ipv4.conf.all.rp_filter=0"), 0);
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: the kernel runs BPF programs for root only";
    settings_.balancers[0] = agent_key(*Prefix::parse("198.18.2.0/24"));
    settings_.balancers[1] = agent_key(*Prefix::parse("2001:db8:2::/64"));
    settings_.balancer_count = 2;
    settings_.sockets_netns = -1;
    settings_.gue_port = htons(GUE_DEFAULT_PORT);
    settings_.mss_v4 = 1400;
    settings_.mss_v6 = 1380;
    settings_.ipip = 1;
    // IPv4 is compared with at once, IPv6 is found in the maps.
    settings_.near_vips[0] = agent_key(*Address::parse(kVip));
    settings_.near_locals[0] = agent_key(*Address::parse(kPortal));
    settings_.near_vip_count = settings_.near_local_count = 1;
    settings_.second_chance = 1;
    load();
  }

  // Anew, after a change of `settings_`.
  void load() {
    object_ = load_for(AgentObject::Ingress::xdp);
    tc_object_ = load_for(AgentObject::Ingress::tc);
  }

  std::optional<AgentObject> load_for(AgentObject::Ingress ingress) {
    std::string failure;
    const Address vips[] = {*Address::parse(kVip), *Address::parse(kVip6)};
    auto object = AgentObject::load(settings_, vips, ingress, -1, failure);
    EXPECT_TRUE(object) << failure;
    if (!object) std::abort();
    const Address locals[] = {*Address::parse(kPortal), *Address::parse(kPortal6)};
    EXPECT_TRUE(keep_exactly(object->map(AGENT_LOCALS_MAP), locals));
    agent_hop hop{.ifindex = 1};
    std::copy(kPeerMac.begin(), kPeerMac.end(), hop.to);
    std::copy(kOwnMac.begin(), kOwnMac.end(), hop.from);
    for (const auto& peer : {kPeer, kPeer6}) put_hop(*object, peer, hop);
    for (const auto& peer : {kLost, kLost6}) put_hop(*object, peer, {});
    return object;
  }
  static void put_hop(const AgentObject& object, const std::string& peer, const agent_hop& hop) {
    const agent_address key = agent_key(*Address::parse(peer));
    EXPECT_EQ(bpf_map_update_elem(object.map(AGENT_HOPS_MAP), &key, &hop, BPF_ANY), 0);
  }

  static Outcome run(int program, const Bytes& frame) {
    Outcome outcome{0, Bytes(frame.size() + 256)};
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<uint32_t>(frame.size());
    options.data_out = outcome.frame.data();
    options.data_size_out = static_cast<uint32_t>(outcome.frame.size());
    options.repeat = 1;
    EXPECT_EQ(bpf_prog_test_run_opts(program, &options), 0) << std::strerror(errno);
    outcome.frame.resize(options.data_size_out);
    outcome.action = options.retval;
    return outcome;
  }

  static uint64_t counted(const AgentObject& object, uint32_t counter) {
    return read_counters(object.map(AGENT_COUNTERS_MAP))[counter];
  }

  // The frame through both ways in, which must agree; `counter` is the one that it moves.
  Outcome expect(const char* what, uint32_t counter, const Bytes& frame) {
    const uint64_t before = counted(*object_, counter), tc_before = counted(*tc_object_, counter);
    const Outcome xdp = run(object_->ingress_fd(), frame);
    EXPECT_EQ(counted(*object_, counter), before + 1) << what << ", XDP";
    if (frame.size() < 64 || get16(frame, 12) == 0x8100) return xdp;  // tc's tags are not in the frame
    const Outcome tc = run(tc_object_->ingress_fd(), frame);
    EXPECT_EQ(counted(*tc_object_, counter), tc_before + 1) << what << ", tc";
    EXPECT_EQ(tc.frame, xdp.frame) << what << ": XDP and tc differ";
    EXPECT_EQ(static_cast<int>(tc.action), xdp.action == XDP_PASS ? TC_ACT_UNSPEC
                                           : xdp.action == XDP_TX ? TC_ACT_REDIRECT
                                                                  : TC_ACT_SHOT)
        << what;
    return xdp;
  }
  void expect_untouched(const char* what, uint32_t counter, const Bytes& frame) {
    const Outcome outcome = expect(what, counter, frame);
    EXPECT_EQ(outcome.action, XDP_PASS) << what;
    EXPECT_EQ(outcome.frame, frame) << what;
  }
  void expect_dropped(const char* what, uint32_t counter, const Bytes& frame) {
    EXPECT_EQ(expect(what, counter, frame).action, XDP_DROP) << what;
  }
  // What is left is `inner`, in a frame of its own.
  void expect_taken(const char* what, uint32_t counter, const Bytes& frame, const Bytes& inner) {
    const Outcome outcome = expect(what, counter, frame);
    EXPECT_EQ(outcome.action, XDP_PASS) << what;
    EXPECT_EQ(outcome.frame, frame_of(inner)) << what;
  }

  agent_settings settings_{};
  std::optional<AgentObject> object_, tc_object_;
};

}  // namespace portico::frames
