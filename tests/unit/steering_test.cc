// SPDX-License-Identifier: Apache-2.0
// Steering beside the kernel: on a veth in a network namespace of this process, with the program attached the
// way net_af_xdp does it.
#include "dataplane/steering.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "bpf/steer_object.h"
#include "tests/unit/steer_frames.h"

namespace portico {
namespace {

using namespace frames;

template <typename Record>
std::shared_ptr<const Block> block(BlockKind kind, const std::vector<Record>& records) {
  auto result = std::make_shared<Block>();
  result->ref.kind = static_cast<uint16_t>(kind);
  result->ref.count = static_cast<uint32_t>(records.size());
  result->bytes.resize(records.size() * sizeof(Record));
  if (!records.empty()) std::memcpy(result->bytes.data(), records.data(), result->bytes.size());
  return result;
}

ListenerRecord listener(const char* address, uint16_t port) {
  ListenerRecord record{};
  record.address = *Address::parse(address);
  record.port = port;
  return record;
}

NatRecord nat(const char* address, uint16_t first, uint16_t last) {
  NatRecord record{};
  record.address = *Address::parse(address);
  record.first_port = first;
  record.last_port = last;
  return record;
}

Snapshot snapshot(const std::vector<ListenerRecord>& listeners, const std::vector<NatRecord>& nats) {
  Snapshot result;
  result.listeners = block(BlockKind::listeners, listeners);
  result.nat = block(BlockKind::nat, nats);
  result.services = block(BlockKind::services, std::vector<ServiceRecord>());
  result.own = block(BlockKind::own, std::vector<OwnRecord>());
  result.settings = block(BlockKind::settings, std::vector<SettingsRecord>(1));
  return result;
}

// The same with the listeners' service in mode dnat, before one backend.
Snapshot dnat_snapshot(const std::vector<ListenerRecord>& listeners, const char* backend, const char* own) {
  Snapshot result = snapshot(listeners, {});
  ServiceRecord service{};
  service.mode = static_cast<uint8_t>(Mode::dnat);
  service.backend_port = 8443;
  result.services = block(BlockKind::services, std::vector{service});
  BackendRecord record{};
  record.address_v4 = *Address::parse(backend);
  result.pools.push_back({block(BlockKind::pool, std::vector<PoolRecord>(1)),
                          block(BlockKind::backends, std::vector{record}), nullptr, nullptr});
  result.own = block(BlockKind::own, std::vector<OwnRecord>{{*Address::parse(own)}});
  return result;
}

// A directory that goes away with its files.
struct TemporaryDirectory {
  TemporaryDirectory() { EXPECT_NE(mkdtemp(path), nullptr); }
  ~TemporaryDirectory() {
    unlink((std::string(path) + "/steer.bpf.o").c_str());
    rmdir(path);
  }
  char path[32] = "/tmp/steering-test-XXXXXX";
};

class SteeringTest : public testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root: makes a network namespace and attaches XDP programs";
    libbpf_set_print(nullptr);
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(std::system("ip link add steer0 type veth peer name steer1"), 0);
    ifindex_ = static_cast<int>(if_nametoindex("steer0"));
    ASSERT_FALSE(Steering::write_object(directory_.path, path_));
  }

  // What net_af_xdp does with xdp_prog=. The object stays open until the process ends, as there.
  void start_port() {
    static auto& open = *new std::vector<bpf_object*>;  // never destroyed: no leak
    bpf_object* const object = open.emplace_back(bpf_object__open_file(path_.c_str(), nullptr));
    ASSERT_EQ(bpf_object__load(object), 0);
    const int program = bpf_program__fd(bpf_object__next_program(object, nullptr));
    ASSERT_EQ(bpf_xdp_attach(ifindex_, program, XDP_FLAGS_UPDATE_IF_NOEXIST, nullptr), 0);
  }

  // Runs `code` in a child that is then killed, as by kill -9.
  template <typename Code>
  static void in_killed_process(Code code) {
    const pid_t child = fork();
    if (child == 0) {
      code();
      std::_Exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }

  uint32_t attached_id() const {
    uint32_t id = 0;
    EXPECT_EQ(bpf_xdp_query_id(ifindex_, 0, &id), 0);
    return id;
  }

  // True if the program on the interface takes TCP to this endpoint.
  bool steers(const char* address, uint16_t port) const {
    return Address::parse(address)->is_v4()
               ? steers(ethernet(0x0800) + ipv4(kTcp, "198.18.0.9", address) + tcp(5000, port))
               : steers(ethernet(0x86dd) + ipv6(kTcp, "2001:db8::9", address) + tcp(5000, port));
  }
  bool steers_reply(const char* backend, const char* client) const {
    return steers(ethernet(0x0800) + ipv4(kTcp, backend, client) + tcp(8443, 5000));
  }
  bool steers(const Bytes& frame) const {
    const UniqueFd program(bpf_prog_get_fd_by_id(attached_id()));
    bpf_test_run_opts options{};
    options.sz = sizeof options;
    options.data_in = frame.data();
    options.data_size_in = static_cast<uint32_t>(frame.size());
    EXPECT_EQ(bpf_prog_test_run_opts(program.get(), &options), 0);
    return options.retval == XDP_DROP;  // the fallback: there is no socket
  }

  TemporaryDirectory directory_;
  std::string path_;
  int ifindex_ = 0;
};

TEST_F(SteeringTest, FollowsTheTable) {
  start_port();
  Steering steering;
  ASSERT_FALSE(steering.attach("steer0"));
  EXPECT_FALSE(steers("198.18.0.80", 443));

  const Snapshot first = snapshot({listener("198.18.0.80", 443), listener("2001:db8::80", 443)},
                                  {nat("198.18.0.90", 2000, 2999)});
  ASSERT_FALSE(steering.add_new(first));
  EXPECT_TRUE(steers("198.18.0.80", 443));
  EXPECT_TRUE(steers("2001:db8::80", 443));
  EXPECT_TRUE(steers("198.18.0.90", 2999));
  EXPECT_FALSE(steers("198.18.0.90", 3000));

  // Between add_new and remove_stale both generations are steered.
  const Snapshot second =
      snapshot({listener("198.18.0.80", 3306)}, {nat("198.18.0.90", 2500, 3500), nat("2001:db8::90", 1, 9)});
  ASSERT_FALSE(steering.add_new(second));
  for (const uint16_t port : std::initializer_list<uint16_t>{443, 3306})
    EXPECT_TRUE(steers("198.18.0.80", port));
  for (const uint16_t port : std::initializer_list<uint16_t>{2000, 3500})
    EXPECT_TRUE(steers("198.18.0.90", port));
  EXPECT_TRUE(steers("2001:db8::90", 9));
  EXPECT_TRUE(steers("2001:db8::80", 443));
  ASSERT_FALSE(steering.remove_stale(second));
  EXPECT_FALSE(steers("198.18.0.80", 443));
  EXPECT_FALSE(steers("2001:db8::80", 443));
  EXPECT_TRUE(steers("198.18.0.80", 3306));
  EXPECT_FALSE(steers("198.18.0.90", 2000));
  EXPECT_TRUE(steers("198.18.0.90", 3500));

  const SteeringStats stats = steering.stats();
  EXPECT_GT(stats.no_socket, 0u);
  EXPECT_GT(stats.to_kernel, 0u);
  EXPECT_EQ(stats.to_dataplane, 0u);
  steering.detach();
  EXPECT_EQ(attached_id(), 0u);
}

TEST_F(SteeringTest, FollowsBackendsOfModeDnatAndTheHostsAddresses) {
  start_port();
  Steering steering;
  ASSERT_FALSE(steering.attach("steer0"));
  const auto first = dnat_snapshot({listener("198.18.0.80", 443)}, "198.18.1.21", "198.18.1.1"),
             second = dnat_snapshot({listener("198.18.0.80", 443)}, "198.18.1.22", "198.18.1.2");
  ASSERT_FALSE(steering.add_new(first));
  EXPECT_TRUE(steers_reply("198.18.1.21", "198.18.0.9"));
  EXPECT_FALSE(steers_reply("198.18.1.21", "198.18.1.1")) << "the answer to a health check";
  EXPECT_FALSE(steers_reply("198.18.1.22", "198.18.0.9"));
  ASSERT_FALSE(steering.add_new(second));
  ASSERT_FALSE(steering.remove_stale(second));
  EXPECT_FALSE(steers_reply("198.18.1.21", "198.18.0.9"));
  EXPECT_TRUE(steers_reply("198.18.1.22", "198.18.1.1"));
  EXPECT_FALSE(steers_reply("198.18.1.22", "198.18.1.2"));
}

TEST_F(SteeringTest, HoldsTwoGenerationsOfTheLargestTable) {
  start_port();
  Steering steering;
  ASSERT_FALSE(steering.attach("steer0"));
  for (const char* address : {"198.18.0.80", "198.18.0.81"}) {
    std::vector<ListenerRecord> listeners;
    for (uint16_t port = 1; port <= kMaxListeners; ++port) listeners.push_back(listener(address, port));
    ASSERT_FALSE(steering.add_new(snapshot(listeners, {})));
  }
  EXPECT_TRUE(steers("198.18.0.80", kMaxListeners));
  EXPECT_TRUE(steers("198.18.0.81", kMaxListeners));
}

TEST_F(SteeringTest, DetachesTheProgramOfAKilledDataplane) {
  EXPECT_FALSE(Steering::detach_orphan("steer0")) << "a free interface is no failure";
  in_killed_process([&] {
    start_port();
    Steering steering;
    ASSERT_FALSE(steering.attach("steer0"));
    ASSERT_FALSE(steering.add_new(snapshot({listener("198.18.0.80", 443)}, {})));
  });
  ASSERT_NE(attached_id(), 0u) << "the kernel keeps the program of a dead process";
  EXPECT_TRUE(steers("198.18.0.80", 443)) << "and it still keeps the services' packets from the kernel";
  EXPECT_FALSE(Steering::detach_orphan("steer0"));
  EXPECT_EQ(attached_id(), 0u);
  start_port();
}

TEST_F(SteeringTest, DetachesTheProgramOfADataplaneKilledBeforeItSigned) {
  in_killed_process([&] { start_port(); });
  ASSERT_NE(attached_id(), 0u);
  EXPECT_FALSE(Steering::detach_orphan("steer0"));
  EXPECT_EQ(attached_id(), 0u);
}

TEST_F(SteeringTest, LeavesALiveDataplaneAlone) {
  start_port();
  Steering steering;
  ASSERT_FALSE(steering.attach("steer0"));
  const auto failure = Steering::detach_orphan("steer0");
  ASSERT_TRUE(failure);
  EXPECT_NE(failure->find("process id " + std::to_string(getpid())), std::string::npos) << *failure;
  EXPECT_NE(attached_id(), 0u);
}

TEST_F(SteeringTest, LeavesAForeignProgramAlone) {
  const bpf_insn pass[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS},
                           {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_XDP, "stranger", "GPL", pass, 2, nullptr));
  ASSERT_TRUE(program);
  ASSERT_EQ(bpf_xdp_attach(ifindex_, program.get(), 0, nullptr), 0);
  const uint32_t id = attached_id();
  const auto failure = Steering::detach_orphan("steer0");
  ASSERT_TRUE(failure);
  EXPECT_NE(failure->find("'stranger'"), std::string::npos) << *failure;
  EXPECT_NE(failure->find("xdp off"), std::string::npos) << *failure;
  Steering steering;
  EXPECT_TRUE(steering.attach("steer0"));
  steering.detach();
  EXPECT_EQ(attached_id(), id);
}

TEST_F(SteeringTest, SaysWhatIsMissing) {
  Steering steering;
  EXPECT_NE(Steering::detach_orphan("steer9")->find("no interface 'steer9'"), std::string::npos);
  EXPECT_NE(steering.attach("steer9")->find("no interface 'steer9'"), std::string::npos);
  EXPECT_NE(steering.attach("steer0")->find("xdp_prog="), std::string::npos);
  std::string path;
  EXPECT_NE(Steering::write_object("/nonexistent", path)->find("/nonexistent/steer.bpf.o"),
            std::string::npos);
}

}  // namespace
}  // namespace portico
