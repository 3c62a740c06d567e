// SPDX-License-Identifier: Apache-2.0
// docs/drops.md is made from contract/drop_reasons.h. Run this test with PORTICO_UPDATE_DOCS=1 to write it
// anew.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "contract/drop_reasons.h"

namespace portico {
namespace {

std::string drops_page() {
  std::ostringstream page;
  page << "# Drop reasons\n\n"
          "Every packet that the dataplane does not forward, answer or leave to the kernel is counted under "
          "exactly one of\n"
          "these. `portico drops` shows the counts, `portico_dropped_packets_total{reason=\"…\"}` exports "
          "them, and "
          "DPDK telemetry\n"
          "answers `/portico/drops`.\n\n"
          "| reason | meaning, and what to do |\n| --- | --- |\n";
  for (size_t i = 0; i < kDropReasonCount; ++i)
    page << "| `" << kDropReasonNames[i] << "` | " << kDropReasonTexts[i] << " |\n";
  return page.str();
}

TEST(DropsPage, SaysWhatTheListSays) {
  const std::string path = std::string(PORTICO_SOURCE_ROOT) + "/docs/drops.md";
  if (std::getenv("PORTICO_UPDATE_DOCS") != nullptr) std::ofstream(path) << drops_page();
  std::ifstream file(path);
  std::stringstream content;
  content << file.rdbuf();
  EXPECT_EQ(content.str(), drops_page())
      << "run this test with PORTICO_UPDATE_DOCS=1 to write docs/drops.md anew";
}

}  // namespace
}  // namespace portico
