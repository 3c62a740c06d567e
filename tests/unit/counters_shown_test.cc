// SPDX-License-Identifier: Apache-2.0
// Whatever the dataplane counts is shown: each field that contract/layout_hash.h lists for a record of the
// feedback file is exported as a metric and by DPDK telemetry.
#include <gtest/gtest.h>

#include <cctype>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace portico {
namespace {

std::string source(const std::string& path) {
  std::ifstream file(std::string(PORTICO_SOURCE_ROOT) + "/" + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// The fields of a struct, as layout_hash.h lists them.
std::vector<std::string> fields_of(const std::string& record) {
  const std::string page = source("contract/layout_hash.h");
  const size_t start = page.find("PORTICO_STRUCT(" + record + ")");
  const std::string list = page.substr(start, page.find("#undef F", start) - start);
  const std::regex field(R"(\bF\((\w+)\))");
  std::vector<std::string> names;
  for (auto it = std::sregex_iterator(list.begin(), list.end(), field); it != std::sregex_iterator(); ++it)
    names.push_back((*it)[1]);
  return names;
}

bool has_word(const std::string& text, const std::string& word) {
  return std::regex_search(text, std::regex("\\b" + word + "\\b"));
}

class CountersShown : public testing::TestWithParam<const char*> {};

TEST_P(CountersShown, InMetricsAndInTelemetry) {
  const std::string record = GetParam();
  const std::string metrics = source("control/api/metrics.cc");
  const std::string telemetry = source("dataplane/telemetry_commands.cc");
  // Variables of that type in telemetry_commands.cc and metrics.cc are named after the record: WorkerFeedback
  // is `worker`.
  std::string variable = record.substr(0, record.find("Feedback"));
  variable[0] = static_cast<char>(tolower(variable[0]));
  const std::string member = record + "::", read = variable + "\\.";
  const auto fields = fields_of(record);
  ASSERT_GE(fields.size(), 8u) << "contract/layout_hash.h is not understood";
  for (const std::string& field : fields) {
    EXPECT_TRUE(has_word(metrics, member + field) || has_word(metrics, read + field)) << field;
    EXPECT_TRUE(has_word(telemetry, read + field)) << field;
  }
}

INSTANTIATE_TEST_SUITE_P(Records, CountersShown,
                         testing::Values("WorkerFeedback", "ServiceFeedback", "BackendFeedback",
                                         "PortFeedback"),
                         [](const auto& test) { return std::string(test.param); });

TEST(CountersOfTheWhole, ThoseOfTheWholeDataplane) {
  const std::string metrics = source("control/api/metrics.cc");
  const std::string telemetry = source("dataplane/telemetry_commands.cc");
  for (const std::string& field : fields_of("Feedback")) {
    static const std::set<std::string> kRecords = {"header",   "take_over", "ports",  "workers",
                                                   "services", "backends",  "resolve"};
    if (kRecords.contains(field)) continue;
    EXPECT_TRUE(has_word(metrics, "feedback\\." + field)) << field;
    EXPECT_TRUE(has_word(telemetry, "feedback\\." + field)) << field;
  }
  for (const std::string& field : fields_of("TakeOverFeedback")) {
    EXPECT_TRUE(has_word(metrics, "take_over\\." + field)) << field;
    EXPECT_TRUE(has_word(telemetry, "take_over\\." + field)) << field;
  }
  // What a header says of the file itself, and what only control's status and log need.
  const std::set<std::string> elsewhere = {"magic",
                                           "abi_version",
                                           "header_size",
                                           "layout_hash",
                                           "epoch",
                                           "sequence",
                                           "heartbeat_ns",
                                           "pid",
                                           "table_epoch",
                                           "refused_text",
                                           "version",
                                           "pending_generation",
                                           "refused_reason",
                                           "state",
                                           "adopted_monotonic_ns",
                                           "adopted_generation",
                                           "refused_generation"};
  for (const std::string& field : fields_of("FeedbackHeader")) {
    if (elsewhere.contains(field)) continue;
    EXPECT_TRUE(has_word(metrics, "header\\." + field)) << field;
    EXPECT_TRUE(has_word(telemetry, "header\\." + field)) << field;
  }
}

}  // namespace
}  // namespace portico
