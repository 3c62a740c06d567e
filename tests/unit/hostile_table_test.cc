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
    std::vector<uint8_t> input(1 + random() % 5 * sizeof(test::TableEdit));
    for (uint8_t& byte : input) byte = static_cast<uint8_t>(random() % 3 ? random() : 0);
    test::try_hostile_table(input);
  }
}

TEST(HostileTable, EveryByteOfHeaderAndDirectory) {
  for (unsigned place = 0; place < 2; ++place)
    for (unsigned at = 0; at < 704; at += place ? 13 : 3)
      for (const uint8_t flags : {uint8_t{0}, uint8_t{1}, uint8_t{5}}) {
        if (place == 0 && at >= sizeof(TableHeader)) break;
        test::try_hostile_table(std::vector<uint8_t>{flags, static_cast<uint8_t>(place), 0,
                                                     static_cast<uint8_t>(at), static_cast<uint8_t>(at >> 8),
                                                     0xff});
      }
}

// Inputs that fuzzing found.
TEST(HostileTable, Findings) {
  const std::vector<uint8_t> findings[] = {
      {6, 0, 7, 64},  // a later generation whose `current` is 0 and whose directory is broken
  };
  for (const auto& input : findings) test::try_hostile_table(input);
}

}  // namespace
}  // namespace portico
