// SPDX-License-Identifier: Apache-2.0
#include "control/cli/format.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "control/printable.h"

namespace portico::cli {

std::string format_count(uint64_t count) {
  std::string digits = std::to_string(count);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string format_rate(double per_second) {
  if (!(per_second >= 0.05)) return "0";
  if (per_second < 9.95) return fmt::format("{:.1f}", per_second);
  return format_count(static_cast<uint64_t>(std::llround(std::min(per_second, 1e18))));
}

std::string format_bits(double per_second) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T"};
  if (!(per_second >= 0.5)) return "0";
  size_t prefix = 0;
  while (per_second >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
    per_second /= 1000;
    ++prefix;
  }
  return fmt::format("{:.{}f}{}", per_second, prefix > 0 && per_second < 9.95 ? 1 : 0, kPrefixes[prefix]);
}

std::string format_percent(double part) {
  const long percent = std::lround(std::clamp(part, 0.0, 1.0) * 100);
  if (percent == 0 && part > 0) return "<1%";
  if (percent == 100 && part < 1) return ">99%";
  return fmt::format("{}%", percent);
}

std::string format_age(int64_t ms) {
  const int64_t s = std::max<int64_t>(ms, 0) / 1000;
  constexpr int64_t kMinute = 60, kHour = 60 * kMinute, kDay = 24 * kHour;
  const auto two = [](int64_t major, const char* unit, int64_t minor, const char* minor_unit) {
    return minor == 0 ? fmt::format("{}{}", major, unit)
                      : fmt::format("{}{}{}{}", major, unit, minor, minor_unit);
  };
  if (s < kMinute) return fmt::format("{}s", s);
  if (s < kHour) return two(s / kMinute, "m", s % kMinute, "s");
  if (s < kDay) return two(s / kHour, "h", s % kHour / kMinute, "m");
  if (s < 10 * kDay) return two(s / kDay, "d", s % kDay / kHour, "h");
  return fmt::format("{}d", s / kDay);
}

std::string format_time(int64_t ms) {
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm local{};
  if (localtime_r(&seconds, &local) == nullptr) return "";
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", local);
}

std::string Style::paint(Colour colour, std::string_view text) const {
  if (!colours_ || colour == Colour::none || text.empty()) return std::string(text);
  const char* code = colour == Colour::good      ? "32"
                     : colour == Colour::bad     ? "1;31"
                     : colour == Colour::warning ? "33"
                                                 : "2";
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

void Table::add(std::vector<Cell> row) {
  for (Cell& cell : row) cell.text = to_printable(cell.text);
  rows_.push_back(std::move(row));
}

std::string Table::print(const Style& style, std::string_view indent) const {
  std::vector<size_t> widths(columns_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].text.size());
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line(indent), blanks;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].text.size(), ' ');
      if (columns_[i] == Align::right) blanks += padding;
      if (!row[i].text.empty()) {
        line += blanks + style.paint(row[i].colour, row[i].text);
        blanks.clear();
      }
      if (columns_[i] == Align::left) blanks += padding;
      blanks += gap_;
    }
    out += line + '\n';
  }
  return out;
}

}  // namespace portico::cli
