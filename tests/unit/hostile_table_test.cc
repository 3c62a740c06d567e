// SPDX-License-Identifier: Apache-2.0
// The fuzz target's function under any compiler, with pseudo-random input: seconds, not hours.
#include "tests/support/hostile_table.h"

#include <gtest/gtest.h>

#include <random>

namespace portico {
namespace {

TEST(HostileTable, NoneIsBelievedAndNoneCrashes) {
  for (unsigned seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    std::vector<uint8_t> input(1 + random() % 40);
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random() % 3 ? random() : 0);
    test::try_hostile_table(input);
  }
}

TEST(HostileTable, EveryByteOfHeaderAndDirectory) {
  for (unsigned place = 0; place < 2; ++place)
    for (unsigned at = 0; at < 704; at += place ? 13 : 3)
      for (const uint8_t flags : {uint8_t{0}, uint8_t{1}, uint8_t{5}}) {
        if (place == 0 && at >= sizeof(TableHeader)) break;
        const std::vector<uint8_t> input = {
            flags, static_cast<uint8_t>(place), static_cast<uint8_t>(at), static_cast<uint8_t>(at >> 8), 0,
            0xff};
        test::try_hostile_table(input);
      }
}

// Inputs that fuzzing found.
TEST(HostileTable, Findings) {
  const std::vector<uint8_t> findings[] = {
      {6, 0, 0, 4, 0xfb},  // a later generation whose `current` is 0 and whose directory is broken
  };
  for (const auto& input : findings) test::try_hostile_table(input);
}

}  // namespace
}  // namespace portico
