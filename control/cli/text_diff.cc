// SPDX-License-Identifier: Apache-2.0
#include "control/cli/text_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

namespace portico::cli {
namespace {

using Lines = std::vector<std::string_view>;

constexpr size_t kMostCells = 16u << 20;  // of the table below, 64 MiB
constexpr size_t kAround = 2;

struct Line {
  char sign;
  std::string_view text;
  size_t number;  // in the second text
};

Lines lines_of(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return lines;
}

// The lengths of the longest common parts of all ends of `a` and `b`, (a.size() + 1) * (b.size() + 1); empty
// if that were too many.
std::vector<uint32_t> common_lengths(const Lines& a, const Lines& b) {
  const size_t width = b.size() + 1;
  if ((a.size() + 1) > kMostCells / width) return {};
  std::vector<uint32_t> lengths((a.size() + 1) * width, 0);
  for (size_t i = a.size(); i-- > 0;)
    for (size_t j = b.size(); j-- > 0;)
      lengths[i * width + j] = a[i] == b[j]
                                   ? lengths[(i + 1) * width + j + 1] + 1
                                   : std::max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  return lengths;
}

std::vector<Line> compare(const Lines& a, const Lines& b) {
  size_t i = 0, j = 0;
  std::vector<Line> all;
  size_t same_start = 0;
  while (same_start < std::min(a.size(), b.size()) && a[same_start] == b[same_start]) ++same_start;
  for (; i < same_start; ++i) all.push_back({' ', a[i], i + 1});
  j = i;
  size_t same_end = 0;
  while (same_end < std::min(a.size(), b.size()) - same_start &&
         a[a.size() - 1 - same_end] == b[b.size() - 1 - same_end])
    ++same_end;
  const Lines middle_a(a.begin() + static_cast<ptrdiff_t>(same_start),
                       a.end() - static_cast<ptrdiff_t>(same_end));
  const Lines middle_b(b.begin() + static_cast<ptrdiff_t>(same_start),
                       b.end() - static_cast<ptrdiff_t>(same_end));
  const auto lengths = common_lengths(middle_a, middle_b);
  const size_t width = middle_b.size() + 1;
  size_t x = 0, y = 0;
  while (x < middle_a.size() || y < middle_b.size()) {
    const bool both = x < middle_a.size() && y < middle_b.size();
    if (both && !lengths.empty() && middle_a[x] == middle_b[y]) {
      all.push_back({' ', middle_b[y], j + y + 1});
      ++x, ++y;
    } else if (y == middle_b.size() ||
               (x < middle_a.size() &&
                (lengths.empty() || lengths[(x + 1) * width + y] >= lengths[x * width + y + 1]))) {
      all.push_back({'-', middle_a[x++], j + y + 1});
    } else {
      all.push_back({'+', middle_b[y], j + y + 1});
      ++y;
    }
  }
  for (size_t k = b.size() - same_end; k < b.size(); ++k) all.push_back({' ', b[k], k + 1});
  return all;
}

}  // namespace

std::string text_diff(const std::string& from, const std::string& to) {
  const std::vector<Line> all = compare(lines_of(from), lines_of(to));
  std::vector<bool> shown(all.size(), false);
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].sign == ' ') continue;
    const size_t last = std::min(i + kAround, all.size() - 1);
    for (size_t k = i < kAround ? 0 : i - kAround; k <= last; ++k) shown[k] = true;
  }
  std::string out;
  for (size_t i = 0; i < all.size(); ++i) {
    if (!shown[i]) continue;
    if (i == 0 || !shown[i - 1]) out += fmt::format("@@ line {}\n", all[i].number);
    out += fmt::format("{}{}\n", all[i].sign, all[i].text);
  }
  return out;
}

}  // namespace portico::cli
