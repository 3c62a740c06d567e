// SPDX-License-Identifier: Apache-2.0
// What `portico doctor` says of hosts that are not as this one: their kernel files are the test's.
#include "control/doctor/finding.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "control/doctor/who_answers.h"
#include "tests/unit/net_namespaces.h"

namespace portico::doctor {
namespace {

constexpr const char* kConfig = R"(
version: 1
instance: edge-1
hash_key: 000102030405060708090a0b0c0d0e0f
dataplane: {ports: [absent0]}
services:
  portal-https: {listen: "[2001:db8::10]:443", pool: portals, mode: dsr-l2}
pools:
  portals:
    backends: {portal-1: "2001:db8:1::21"}
)";

class DoctorTest : public testing::Test {
 protected:
  DoctorTest() {
    char name[] = "/tmp/portico-doctor-XXXXXX";
    root_ = mkdtemp(name);
    const ConfigResult read = parse_config(kConfig, "test.yaml");
    EXPECT_TRUE(read.config) << format_messages(read, "test.yaml");
    e_ = {.config = *read.config,
          .config_path = root_ + "/portico.yaml",
          .run_dir = root_ + "/run",
          .files = Files(root_)};
    // A healthy host.
    put("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    put("/proc/sys/net/core/bpf_jit_enable", "1\n");
    put("/proc/cpuinfo", "flags : fpu tsc constant_tsc nonstop_tsc\n");
    put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    put("/proc/meminfo", "HugePages_Total:    1024\nHugePages_Free:     1024\nHugepagesize:       2048 kB\n");
    put("/proc/sys/net/ipv4/conf/all/rp_filter", "0\n");
    put("/proc/sys/net/ipv4/conf/absent0/rp_filter", "2\n");
    put("/proc/sys/net/ipv6/conf/absent0/disable_ipv6", "0\n");
    put("/proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n");
    put("/proc/sys/net/ipv6/neigh/default/gc_thresh3", "1024\n");
  }
  ~DoctorTest() override { std::filesystem::remove_all(root_); }

  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  // "severity subject" of what the check finds, but for the time of day, which is this host's.
  std::vector<std::string> found_by(void (*check)(Examination&)) {
    e_.findings.clear();
    check(e_);
    std::vector<std::string> found;
    for (const Finding& one : e_.findings) {
      EXPECT_FALSE(one.text.empty());
      EXPECT_FALSE(one.remedy.empty());
      if (one.severity == Severity::notice && one.check == "clock") continue;
      found.push_back(std::string(to_string(one.severity)) + " " + one.subject);
    }
    return found;
  }

  std::string root_;
  Examination e_;
};

using Found = std::vector<std::string>;

TEST_F(DoctorTest, FindsNothingOnAHealthyHost) {
  EXPECT_EQ(found_by(check_kernel), Found());
  EXPECT_EQ(found_by(check_clock), Found());
  EXPECT_EQ(found_by(check_huge_pages), Found());
  EXPECT_EQ(found_by(check_rp_filter), Found());
}

TEST_F(DoctorTest, HugePagesThatAreMissing) {
  put("/proc/meminfo", "HugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n");
  EXPECT_EQ(found_by(check_huge_pages), Found{"error "});
  put("/proc/meminfo", "HugePages_Total: 1024\nHugePages_Free: 3\nHugepagesize: 2048 kB\n");
  EXPECT_EQ(found_by(check_huge_pages), Found{"warning "});
  EXPECT_NE(e_.findings.at(0).remedy.find("vm.nr_hugepages=1"), std::string::npos);
  e_.dataplane_alive = true;
  EXPECT_EQ(found_by(check_huge_pages), Found());
}

TEST_F(DoctorTest, AKernelThatIsTooOldOrInterpretsPrograms) {
  put("/proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
  put("/proc/sys/net/core/bpf_jit_enable", "0\n");
  EXPECT_EQ(found_by(check_kernel), (Found{"warning ", "warning net.core.bpf_jit_enable"}));
}

TEST_F(DoctorTest, AGovernorThatSaves) {
  const std::string policy = "/sys/devices/system/cpu/cpufreq/policy0";
  put(policy + "/scaling_governor", "powersave\n");
  put(policy + "/scaling_driver", "acpi-cpufreq\n");
  EXPECT_EQ(found_by(check_kernel), Found{"warning policy0"});
  put(policy + "/scaling_driver", "intel_pstate\n");
  EXPECT_EQ(found_by(check_kernel), Found());
}

TEST_F(DoctorTest, AClockThatIsNoClock) {
  put("/proc/cpuinfo", "flags : fpu tsc constant_tsc\n");
  put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
  EXPECT_EQ(found_by(check_clock), (Found{"warning ", "warning hpet"}));
}

TEST_F(DoctorTest, FiltersOfReversePaths) {
  put("/proc/sys/net/ipv4/conf/absent0/rp_filter", "1\n");
  EXPECT_EQ(found_by(check_rp_filter), Found{"warning absent0"});
  put("/proc/sys/net/ipv4/conf/all/rp_filter", "2\n");
  EXPECT_EQ(found_by(check_rp_filter), Found());  // the larger one counts
  put("/proc/sys/net/ipv6/conf/absent0/disable_ipv6", "1\n");
  EXPECT_EQ(found_by(check_rp_filter), Found{"error absent0"});
}

TEST_F(DoctorTest, PortsThatAreNotThere) {
  EXPECT_EQ(found_by(check_ports), Found{"error absent0"});
  e_.config.dataplane.ports = {{.name = "0000:03:00.0", .devargs = "", .mtu = 0}};
  EXPECT_EQ(found_by(check_ports), Found{"error 0000:03:00.0"});
  const std::string device = root_ + "/sys/bus/pci/devices/0000:03:00.0";
  std::filesystem::create_directories(device);
  std::filesystem::create_directory_symlink("../../drivers/ixgbe", device + "/driver");
  EXPECT_EQ(found_by(check_ports), Found{"error 0000:03:00.0"});
  std::filesystem::remove(device + "/driver");
  std::filesystem::create_directory_symlink("../../drivers/vfio-pci", device + "/driver");
  EXPECT_EQ(found_by(check_ports), Found{"error 0000:03:00.0"});  // no IOMMU
  std::filesystem::create_directory_symlink("../../kernel/iommu_groups/7", device + "/iommu_group");
  EXPECT_EQ(found_by(check_ports), Found());
}

TEST_F(DoctorTest, ANeighbourCacheThatIsTooSmall) {
  put("/proc/sys/net/ipv6/neigh/default/gc_thresh3", "1\n");
  EXPECT_EQ(found_by(check_neighbours), Found{"warning net.ipv6.neigh.default.gc_thresh3"});
}

TEST_F(DoctorTest, FilesThatEverybodyMayRead) {
  put("/portico.yaml", kConfig);
  std::filesystem::permissions(e_.config_path, std::filesystem::perms(0644));
  std::filesystem::create_directory(e_.run_dir);
  std::filesystem::permissions(e_.run_dir, std::filesystem::perms(0750));
  EXPECT_EQ(found_by(check_permissions), Found{"warning " + e_.config_path});
  std::filesystem::permissions(e_.config_path, std::filesystem::perms(0646));
  EXPECT_EQ(found_by(check_permissions), (Found{"error " + e_.config_path, "error " + e_.config_path}));
  std::filesystem::permissions(e_.config_path, std::filesystem::perms(0640));
  std::filesystem::permissions(e_.run_dir, std::filesystem::perms(0755));
  EXPECT_EQ(found_by(check_permissions), Found{"warning " + e_.run_dir});
}

TEST(WhoAnswers, ReadsNothingOutOfHalfFrames) {
  const std::vector<Address> addresses = {*Address::parse("198.18.0.10"), *Address::parse("2001:db8::10")};
  const MacAddress mac{2, 0, 0, 0, 1, 0x21};
  for (const Address& address : addresses) {
    const auto probe = probe_frame(address, mac);
    for (size_t size = 0; size <= probe.size(); ++size)
      EXPECT_FALSE(read_answer({probe.data(), size}, addresses)) << size;  // a probe claims nothing
  }
  auto reply = probe_frame(addresses[0], mac);
  reply[21] = 2;                                                // of the operation: a reply
  std::copy_n(addresses[0].bytes.begin() + 12, 4, &reply[28]);  // from that address
  ASSERT_TRUE(read_answer(reply, addresses));
  EXPECT_EQ(*read_answer(reply, addresses), (Answer{addresses[0], mac, true}));
  EXPECT_FALSE(read_answer({reply.data(), reply.size() - 1}, addresses));
}

TEST(WhoAnswers, HearsStationsOfBothFamilies) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: makes network namespaces";
  NetNamespace here, there;
  here.run("ip link add ask0 type veth peer name ask1 netns " + there.path() + " && ip link set ask0 up");
  there.run(
      "ip link set ask1 address 02:00:00:00:00:99 up && ip address add 198.18.0.10/32 dev lo && "
      "ip address add 2001:db8::10/128 dev ask1 nodad");
  const std::vector<Address> addresses = {*Address::parse("198.18.0.10"), *Address::parse("198.18.0.11"),
                                          *Address::parse("2001:db8::10")};
  const auto ask = [&] {
    std::set<Answer> answers;
    here.inside([&] {
      EXPECT_TRUE(ask_who_has("ask0", addresses, std::chrono::milliseconds(600), answers));
      std::set<Answer> none;
      EXPECT_FALSE(ask_who_has("absent0", addresses, std::chrono::milliseconds(0), none));
    });
    return answers;
  };
  const MacAddress mac{2, 0, 0, 0, 0, 0x99};
  EXPECT_EQ(ask(), (std::set<Answer>{{addresses[0], mac, true}, {addresses[2], mac, true}}));
  there.run("echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore");
  EXPECT_EQ(ask(), (std::set<Answer>{{addresses[2], mac, true}}));
}

}  // namespace
}  // namespace portico::doctor
