// SPDX-License-Identifier: Apache-2.0
// libFuzzer: whatever stands in the table file, nobody who reads it crashes, reads out of bounds or believes
// it.
#include "tests/support/hostile_table.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return portico::test::try_hostile_table({data, size});
}
