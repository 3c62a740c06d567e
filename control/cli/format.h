// SPDX-License-Identifier: Apache-2.0
// Numbers, durations and tables as people read them. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace portico::cli {

// "1,204"
std::string format_count(uint64_t count);
// Per second: "0", "0.4", "87", "12,345".
std::string format_rate(double per_second);
// With a decimal prefix: "0", "340", "1.9k", "12M", "1.9G".
std::string format_bits(double per_second);
// "31%"; `part` is 0..1. A share that is not zero or one does not look like it: "<1%", ">99%".
std::string format_percent(double part);
// The two leading units at most, fewer where the second no longer matters: "0s", "12s", "4m12s", "3h5m",
// "2d4h", "12d". Negative durations (clocks that were set back) are "0s".
std::string format_age(int64_t ms);

// "2026-01-31 12:34:56" of milliseconds since 1970, in local time.
std::string format_time(int64_t ms);

// What colours mean; plain text where the output is no terminal.
enum class Colour { none, good, bad, warning, faint };

class Style {
 public:
  explicit Style(bool colours) : colours_(colours) {}
  std::string paint(Colour colour, std::string_view text) const;

 private:
  bool colours_;
};

// Rows of cells, printed in aligned columns, two blanks apart. Widths count characters before colouring.
class Table {
 public:
  enum class Align { left, right };
  struct Cell {
    Cell() = default;
    Cell(std::string cell_text, Colour cell_colour = Colour::none)  // NOLINT(google-explicit-constructor)
        : text(std::move(cell_text)), colour(cell_colour) {}
    std::string text;
    Colour colour = Colour::none;
  };

  // One entry per column.
  explicit Table(std::vector<Align> columns, std::string gap = "  ")
      : columns_(std::move(columns)), gap_(std::move(gap)) {}
  // Control characters of the texts are shown as \xNN: no cell breaks a line or commands a terminal.
  void add(std::vector<Cell> row);
  // Each row on a line behind `indent`; no blanks at the ends of lines.
  std::string print(const Style& style, std::string_view indent = "") const;

 private:
  std::vector<Align> columns_;
  std::string gap_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace portico::cli
