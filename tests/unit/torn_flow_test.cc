// SPDX-License-Identifier: Apache-2.0
// A process that is killed in the middle of writing a flow leaves none or the whole one: a child writes flows
// one machine instruction at a time, and after each the memory is looked at as the next process would.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "dataplane/flow_table.h"

namespace portico {
namespace {

constexpr uint64_t kMostSteps = 5'000'000;

// An entry without a zero byte, so that half a one is seen.
template <typename Entry>
Entry entry_of(uint8_t byte, FlowState state) {
  Entry e;
  std::memset(static_cast<void*>(&e), byte, sizeof e);
  e.vitals = Vitals(state, false, byte);
  return e;
}

template <typename Entry>
FlowTable<Entry> shared_table() {
  const int fd = memfd_create("flows", MFD_CLOEXEC);
  FlowTable<Entry> table(16, Region::of_file(fd, FlowTable<Entry>::entries_size(16), false, -1), 0, false,
                         -1);
  close(fd);
  return table;
}

template <typename Entry>
class TornFlow : public testing::Test {};
// Those without padding, whose bytes can be compared.
using Entries = testing::Types<NatEntry<V4>, DsrEntry<V4>, DsrEntry<V6>>;
TYPED_TEST_SUITE(TornFlow, Entries);

TYPED_TEST(TornFlow, IsNeverSeen) {
  using Entry = TypeParam;
  auto table = shared_table<Entry>();
  const Entry first = entry_of<Entry>(0x11, FlowState::established);
  const Entry second = entry_of<Entry>(0x22, FlowState::closing);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    raise(SIGSTOP);
    for (const Entry& entry : {first, second, first}) {
      const uint32_t reference = table.allocate();
      table.fill(reference, entry);
      table.insert_key(uint64_t{0x1234567} << 20, reference);
      table.erase_key(uint64_t{0x1234567} << 20, reference);
      table.release(reference);
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) GTEST_SKIP() << "no ptrace here";
  uint64_t steps = 0, changes = 0;
  int before = 0;
  for (; steps < kMostSteps && ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) == 0; ++steps) {
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) break;
    int now = 0;
    if (table.is_live(1)) {
      now = std::memcmp(&table[1], &first, sizeof first) == 0     ? 1
            : std::memcmp(&table[1], &second, sizeof second) == 0 ? 2
                                                                  : 3;
    }
    ASSERT_NE(now, 3) << "half a flow after " << steps << " instructions";
    changes += now != before;
    before = now;
  }
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(changes, 6u) << "three flows came and went";
  EXPECT_GT(steps, 100u);
}

}  // namespace
}  // namespace portico
