// SPDX-License-Identifier: Apache-2.0
#include "control/cli/format.h"

#include <gtest/gtest.h>

#include <random>
#include <sstream>

#include "control/cli/text_diff.h"

namespace portico::cli {
namespace {

TEST(CliFormat, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(1204), "1,204");
  EXPECT_EQ(format_count(18446744073709551615u), "18,446,744,073,709,551,615");
}

TEST(CliFormat, Rates) {
  EXPECT_EQ(format_rate(0), "0");
  EXPECT_EQ(format_rate(0.04), "0");
  EXPECT_EQ(format_rate(0.42), "0.4");
  EXPECT_EQ(format_rate(9.96), "10");
  EXPECT_EQ(format_rate(12345.4), "12,345");
  EXPECT_EQ(format_rate(-1), "0");
}

TEST(CliFormat, Bits) {
  EXPECT_EQ(format_bits(0), "0");
  EXPECT_EQ(format_bits(340), "340");
  EXPECT_EQ(format_bits(999.6), "1.0k");
  EXPECT_EQ(format_bits(1.94e9), "1.9G");
  EXPECT_EQ(format_bits(12.3e6), "12M");
  EXPECT_EQ(format_bits(9.99e9), "10G");
  EXPECT_EQ(format_bits(3e16), "30000T");
}

TEST(CliFormat, Percents) {
  EXPECT_EQ(format_percent(0), "0%");
  EXPECT_EQ(format_percent(0.001), "<1%");
  EXPECT_EQ(format_percent(0.314), "31%");
  EXPECT_EQ(format_percent(0.999), ">99%");
  EXPECT_EQ(format_percent(1), "100%");
}

TEST(CliFormat, Ages) {
  EXPECT_EQ(format_age(-5), "0s");
  EXPECT_EQ(format_age(999), "0s");
  EXPECT_EQ(format_age(59'999), "59s");
  EXPECT_EQ(format_age(252'000), "4m12s");
  EXPECT_EQ(format_age(300'000), "5m");
  EXPECT_EQ(format_age(3 * 3'600'000 + 5 * 60'000 + 59'000), "3h5m");
  EXPECT_EQ(format_age(52LL * 3'600'000), "2d4h");
  EXPECT_EQ(format_age(12LL * 24 * 3'600'000 + 5), "12d");
}

TEST(CliFormat, TablesAlignWithoutTrailingBlanks) {
  using enum Table::Align;
  Table table({left, right, left});
  table.add({{"NAME"}, {"N"}, {"WHAT"}});
  table.add({{"a"}, {"1,204"}, {}});
  table.add({{"longer"}, {"7"}, {"x"}});
  EXPECT_EQ(table.print(Style(false), " "),
            " NAME        N  WHAT\n"
            " a       1,204\n"
            " longer      7  x\n");
}

TEST(CliFormat, ColoursDoNotCountAsWidth) {
  using enum Table::Align;
  Table table({left, left});
  table.add({{"UP", Colour::good}, {"a"}});
  table.add({{"DOWN", Colour::bad}, {"b"}});
  EXPECT_EQ(table.print(Style(true)), "\033[32mUP\033[0m    a\n\033[1;31mDOWN\033[0m  b\n");
  EXPECT_EQ(Style(false).paint(Colour::bad, "x"), "x");
}

TEST(TextDiff, ShowsWhatDiffersAndALittleAround) {
  EXPECT_EQ(text_diff("a\nb\n", "a\nb\n"), "");
  EXPECT_EQ(text_diff("1\n2\n3\n4\n5\n6\n", "1\n2\n3\nx\n5\n6\n"), "@@ line 2\n 2\n 3\n-4\n+x\n 5\n 6\n");
  EXPECT_EQ(text_diff("", "a\n"), "@@ line 1\n+a\n");
  EXPECT_EQ(text_diff("a\n", ""), "@@ line 1\n-a\n");
}

// Applying the lines with `+` and leaving out those with `-` gives the second text.
TEST(TextDiff, IsWhatItSays) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    std::string from, to;
    for (int i = 0; i < 12; ++i) from += static_cast<char>('a' + random() % 4), from += '\n';
    for (int i = 0; i < 12; ++i) to += static_cast<char>('a' + random() % 4), to += '\n';
    size_t added = 0, removed = 0;
    std::istringstream lines(text_diff(from, to));
    for (std::string line; std::getline(lines, line);) {
      added += line.starts_with('+') ? 1 : 0;
      removed += line.starts_with('-') ? 1 : 0;
    }
    EXPECT_EQ(added, removed);
    EXPECT_EQ(added == 0, from == to);
  }
}

}  // namespace
}  // namespace portico::cli
